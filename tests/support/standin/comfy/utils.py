"""Progress, kept for the test to read."""

from __future__ import annotations

from collections.abc import Callable

bars: list[ProgressBar] = []
on_update: Callable[[], None] = lambda: None  # noqa: E731


class ProgressBar:
    def __init__(self, total: int) -> None:
        self.total = total
        self.values: list[int] = []

    def update_absolute(self, value: int, total: int | None = None) -> None:
        if not self.values:
            bars.append(self)  # the page shows nothing before
        self.total = self.total if total is None else total
        self.values.append(value)
        on_update()
