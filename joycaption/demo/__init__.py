"""The demo model: a miniature of JoyCaption's architecture that knows drawn shapes and nothing else.

It is here so that an installation can be checked in seconds, tests know the right answer, and a first run needs no
download. `scenes` draws the pictures, `language` says what is in them, `train` makes the model, `evaluate` measures it.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["MODEL", "SAMPLES"]

MODEL = Path(__file__).parent / "model"
SAMPLES = Path(__file__).parent / "samples"
