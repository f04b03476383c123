"""Ctrl-C as a question that running work asks, instead of an exception that tears it apart."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any

__all__ = ["STOPPED", "Interrupt"]

STOPPED = 130  # the exit status that shells give to Ctrl-C

_SHOW_CURSOR = b"\x1b[?25h"
_STDERR = 2


class Interrupt:
    """While the ``with`` block lasts, the first Ctrl-C makes calls of this object return True; the second one kills."""

    def __init__(self) -> None:
        self._pressed = False
        self._previous: Any = None

    def __call__(self) -> bool:
        return self._pressed

    def __enter__(self) -> Interrupt:
        self._previous = signal.signal(signal.SIGINT, self._on_press)
        return self

    def __exit__(self, *exception: object) -> None:
        signal.signal(signal.SIGINT, self._previous)

    def _on_press(self, number: int, frame: FrameType | None) -> None:
        self._pressed = True
        # The second press goes to the system, which ends even a program that hangs: so the cursor is shown again now.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # Not through sys.stderr, in the middle of whose write this may happen.
        os.write(_STDERR, (_SHOW_CURSOR if os.isatty(_STDERR) else b"") + b"\nStopping. Ctrl-C again quits at once.\n")
