"""Runs a dataset for the ``caption`` command, with bars and a report, or only rehearses it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from .. import load
from ..captioners.base import Captioner
from ..captioners.lazy import LazyCaptioner
from ..dataset import Picture, Result, RunSettings, RunSummary, caption_dataset, count, select
from ..errors import Cancelled
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
            bars.begin_captions(count(find_pictures()) if bars.visible else 0)
            return captioner

        def on_result(result: Result) -> None:
            bars.on_result(result)
            report.result(result)

        captioner = LazyCaptioner(open_captioner)
        summary = caption_dataset(captioner, find_pictures(), settings, on_result=on_result, should_stop=interrupted)
    tell_summary(summary, bars.rates(), saved=settings.sidecars is not None)
    return summary
