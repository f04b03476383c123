"""A captioner that is opened for the first request: a dataset that has all its captions needs no model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from ..errors import Cancelled
from ..types import Caption, Request
from .base import Captioner, OnText, ShouldStop, check_arguments

__all__ = ["LazyCaptioner"]


class LazyCaptioner:
    """A `Captioner` that asks ``open`` for the real one when a request comes.

    Args:
        open: called once for each run that has requests. When it raises `Cancelled`, the first request is interrupted.
    """

    def __init__(self, open: Callable[[], Captioner]) -> None:
        self._open = open
        self._captioner: Captioner | None = None

    def caption(
        self,
        requests: Iterable[Request | None],
        *,
        on_text: OnText | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Iterator[tuple[int, Caption]]:
        check_arguments(requests, on_text, should_stop)
        return self._captions(iter(requests), on_text, should_stop or (lambda: False))

    def _captions(
        self, source: Iterator[Request | None], on_text: OnText | None, should_stop: ShouldStop
    ) -> Iterator[tuple[int, Caption]]:
        interrupted = Caption(text="", finish_reason="interrupted")
        for request in source:
            if should_stop():
                if request is not None:
                    yield 0, interrupted
                return
            if request is not None:
                break  # until now there was nothing ready
        else:
            return
        try:
            self._captioner = self._open()
        except Cancelled:
            yield 0, interrupted
            return
        yield from self._captioner.caption(chain([request], source), on_text=on_text, should_stop=should_stop)

    def close(self) -> None:
        if self._captioner is not None:
            self._captioner.close()
