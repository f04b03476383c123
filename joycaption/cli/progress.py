"""Progress on stderr: bytes while a model is downloaded and loaded, then captions. Drawn on a terminal only."""

from __future__ import annotations

import sys
import time
from typing import Literal

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from ..dataset import Result, RunSummary
from .console import console, file_size

__all__ = ["Bars"]

_STAGES = {"download": "Downloading", "load": "Loading"}


class Bars:
    """The bars of one command. They show while the ``with`` block lasts.

    Attributes:
        visible: False when stderr is no terminal.
    """

    def __init__(self) -> None:
        self.visible = console.is_terminal
        self._tally = RunSummary()
        self._stages: dict[str, TaskID] = {}
        self._captions: TaskID | None = None
        self._pictures = 0
        self._began = 0.0
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),  # what the figures leave of the line
            _Figures(Column(no_wrap=True)),
            TimeRemainingColumn(),
            console=console,
            expand=True,
            transient=True,
            disable=not self.visible,
            redirect_stdout=sys.stdout.isatty(),  # else results meant for a file or a pipe would end up on stderr
            speed_estimate_period=600,  # seconds; on a slow machine captions are minutes apart
        )

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def begin_loading(self) -> None:
        """Show that something is going on: importing torch alone takes seconds, and tells nothing."""
        self._stages["start"] = self._progress.add_task("Starting", total=None)

    def on_bytes(self, stage: Literal["download", "load"], done: int, total: int) -> None:
        """Show how far a stage is. The ``progress`` callback of `joycaption.load`."""
        if "start" in self._stages:
            self._progress.remove_task(self._stages.pop("start"))
        if stage not in self._stages:
            self._stages[stage] = self._progress.add_task(_STAGES[stage])
        self._progress.update(self._stages[stage], completed=done, total=total, visible=done < total)

    def begin_captions(self, pictures: int) -> None:
        """Start the bar of captions, and the clock behind the rates.

        Args:
            pictures: how many there are in all, those skipped included.
        """
        self._pictures, self._began = pictures, time.monotonic()
        self._captions = self._progress.add_task("Captioning", figures="")
        self._show()

    def on_result(self, result: Result) -> None:
        self._tally.add(result)
        self._show()

    def rates(self) -> str:
        """Pictures and tokens per second since `begin_captions`, or nothing when there were none."""
        seconds = time.monotonic() - self._began
        if self._captions is None or not self._tally.captioned:
            return ""
        return f"{self._tally.captioned / seconds:.2f} pictures/s, {self._tally.tokens / seconds:.0f} tokens/s"

    def _show(self) -> None:
        if self._captions is None:
            return
        # Pictures that are skipped take no time, so counting them would spoil the time left.
        done, wanted = self._tally.captioned + self._tally.failed, self._pictures - self._tally.skipped
        figures = f"{done}/{wanted}  {self.rates()}"
        self._progress.update(self._captions, completed=done, total=wanted, figures=figures)


class _Figures(ProgressColumn):
    """How far a task is, in its own units."""

    def render(self, task: Task) -> Text:
        if task.total is None:
            return Text()
        return Text(task.fields.get("figures", f"{file_size(task.completed)} of {file_size(task.total)}"))
