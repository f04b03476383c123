"""``joycaption demo``: the built-in model on its sample pictures."""

from __future__ import annotations

import time
from pathlib import Path

import typer

from .console import say
from .interrupt import STOPPED, Interrupt

__all__ = ["demo"]

_SAMPLES = Path(__file__).resolve().parents[1] / "demo" / "samples"


def demo() -> None:
    """Caption the sample pictures with the built-in demo model: a check that everything works, without a download."""
    with Interrupt() as interrupted:
        from .. import Sampling, load
        from ..dataset import scan

        say("The demo model is a miniature that knows drawn shapes on plain backgrounds and nothing else.")
        say("It shows that the installation works; captions of photos come from the model beta-one.")
        model = load("demo")
        for picture in scan([_SAMPLES]):
            if interrupted():
                raise typer.Exit(STOPPED)
            started = time.monotonic()
            caption = model.caption(picture.path, sampling=Sampling.greedy())
            typer.echo(f"\n{picture.path.name}  ({time.monotonic() - started:.2f} s)\n    {caption.text}")
