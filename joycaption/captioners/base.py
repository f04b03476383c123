"""The one seam: what every captioner does, and which there are.

The contract, kept by the shared tests in ``tests/captioners/contract.py``:

- requests are consumed lazily, a few ahead of need; results come as they finish, each with its request's position
- ``None`` among the requests means "nothing ready now, go on"; it takes no position
- arguments are checked when `caption` is called, not at the first result
- a request that fails gives a `Caption` with ``error`` set; the others go on
- after ``should_stop()``, unfinished requests give ``interrupted`` captions
- an exception out of a callback or the requests, or closing the iterator, frees everything the run held
- `close` frees the model; the next `caption` loads it again
- the same request and seed give the same text in any company
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from typing import Any, Protocol, TypeAlias

from ..errors import UsageError
from ..types import Caption, Request

__all__ = ["CAPTIONERS", "Captioner", "OnText", "ShouldStop", "check_arguments", "load_captioner"]

OnText: TypeAlias = Callable[[int, str], None]
ShouldStop: TypeAlias = Callable[[], bool]


class Captioner(Protocol):
    """Writes captions. Recognised by its methods, not by its class."""

    def caption(
        self,
        requests: Iterable[Request | None],
        *,
        on_text: OnText | None = None,
        should_stop: ShouldStop | None = None,
    ) -> Iterator[tuple[int, Caption]]:
        """Caption a stream of requests.

        Args:
            requests: one or a million; see the contract above.
            on_text: called with (position, text so far), at most ten times a second for each caption.
            should_stop: asked at every decode step.

        Yields:
            (position of the request, its caption), in the order in which captions end.

        Raises:
            UsageError: a wrong argument.
            ModelError: the model cannot be loaded.
            Cancelled: ``should_stop`` said so while the model was loaded again, after `close`.
        """
        ...

    def close(self) -> None:
        """Free the model's memory. The captioner stays usable: the next call loads it again."""
        ...


def check_arguments(requests: object, on_text: object, should_stop: object) -> None:
    """What every ``caption`` does first.

    Raises:
        UsageError: a wrong argument.
    """
    if isinstance(requests, Request | str | bytes) or not isinstance(requests, Iterable):
        raise UsageError(f"requests must be an iterable of Request, not {type(requests).__name__}.")
    for name, callback in (("on_text", on_text), ("should_stop", should_stop)):
        if callback is not None and not callable(callback):
            raise UsageError(f"{name} must be callable, not {type(callback).__name__}.")


# Where each captioner's ``load`` function is; imported when it is asked for.
CAPTIONERS = {"joycaption": ".joycaption"}


def load_captioner(kind: str, model: str, **settings: Any) -> Captioner:
    """Make a captioner ready.

    Args:
        kind: a key of ``CAPTIONERS``.
        model: which of its models, in the captioner's own terms.
        settings: passed to the captioner's ``load``.

    Raises:
        UsageError: no such captioner.
        ModelError: the model cannot be found or loaded.
    """
    if kind not in CAPTIONERS:
        raise UsageError(f"captioner is {kind!r}, but must be one of {', '.join(CAPTIONERS)}.")
    captioner: Captioner = import_module(CAPTIONERS[kind], __package__).load(model, **settings)
    return captioner
