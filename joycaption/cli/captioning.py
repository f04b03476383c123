"""Runs a dataset for the ``caption`` command, with bars and a report, or only rehearses it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain

from .. import load
from ..captioners.base import Captioner, OnText, ShouldStop
from ..dataset import Picture, Result, RunSettings, RunSummary, caption_dataset, select
from ..errors import Cancelled, DatasetError
from ..types import Caption, Request
from .console import say
from .interrupt import Interrupt
from .progress import Bars
from .report import Report, tell_summary

__all__ = ["rehearse", "run"]


def rehearse(pictures: Iterable[Picture], settings: RunSettings, report: Report, interrupted: Interrupt) -> RunSummary:
    """Tell what a run would do, without a model and without writing anything.

    Returns:
        The pictures that would be skipped or fail, counted.

    Raises:
        Cancelled: Ctrl-C was pressed.
    """
    summary, wanted = RunSummary(), 0

    def on_result(result: Result) -> None:
        summary.add(result)
        report.result(result)

    report.prompt(settings)
    seen = _unless(interrupted, pictures)
    for picture in select(seen, settings.sidecars, overwrite=settings.overwrite, on_result=on_result):
        report.would_caption(picture)
        wanted += 1
    say(f"{wanted} would be captioned, {summary.skipped} skipped, {summary.failed} cannot be captioned.")
    return summary


def _unless(interrupted: Interrupt, pictures: Iterable[Picture]) -> Iterator[Picture]:
    for picture in pictures:
        if interrupted():
            raise Cancelled("Stopped.")
        yield picture


def run(
    find_pictures: Callable[[], Iterable[Picture]],
    settings: RunSettings,
    report: Report,
    interrupted: Interrupt,
    *,
    model: str,
    precision: str,
    device: str,
    batch_size: int,
) -> RunSummary:
    """Caption the pictures, tell of each, and give the figures at the end.

    Args:
        find_pictures: called a second time to count them, if there is a bar to show.
        model, precision, device, batch_size: as for `joycaption.load`.
    """
    with Bars() as bars:

        def open_captioner() -> Captioner:
            bars.begin_loading()
            captioner = load(
                model,
                precision=precision,
                device=device,
                batch_size=batch_size,
                progress=bars.on_bytes,
                should_stop=interrupted,
            ).captioner
            bars.begin_captions(_count(find_pictures()) if bars.visible else 0)
            return captioner

        def on_result(result: Result) -> None:
            bars.on_result(result)
            report.result(result)

        captioner = _OpenedWhenNeeded(open_captioner)
        summary = caption_dataset(captioner, find_pictures(), settings, on_result=on_result, should_stop=interrupted)
    tell_summary(summary, bars.rates(), saved=settings.sidecars is not None)
    return summary


def _count(pictures: Iterable[Picture]) -> int:
    count = 0
    with suppress(DatasetError):  # an unreadable folder; the run itself will tell
        for _ in pictures:
            count += 1
    return count


class _OpenedWhenNeeded:
    """A captioner that is loaded for the first picture: a dataset that has all its captions needs no model."""

    def __init__(self, open_captioner: Callable[[], Captioner]) -> None:
        self._open = open_captioner

    def caption(
        self,
        requests: Iterable[Request | None],
        *,
        on_text: OnText | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Iterator[tuple[int, Caption]]:
        source = iter(requests)
        first = next(source, None)
        if first is None:
            return
        try:
            captioner = self._open()
        except Cancelled:
            yield 0, Caption(text="", finish_reason="interrupted")
            return
        yield from captioner.caption(chain([first], source), on_text=on_text, should_stop=should_stop)

    def close(self) -> None:
        """Nothing to free: the process ends with the run."""
