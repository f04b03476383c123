"""``joycaption demo``: the built-in model on its sample pictures."""

from __future__ import annotations

import time

import typer

from .interrupt import STOPPED, Interrupt

__all__ = ["demo"]


def demo() -> None:
    """Caption the sample pictures with the built-in demo model: a check that everything works, without a download."""
    with Interrupt() as interrupted:
        from .. import Sampling, load
        from ..dataset import scan
        from ..demo import SAMPLES

        typer.echo("The demo model is a miniature that only knows drawn shapes on plain backgrounds, nothing else.")
        typer.echo("It shows that the installation works. Photos need the model beta-one.")
        model = load("demo", should_stop=interrupted)
        for picture in scan([SAMPLES]):
            if interrupted():
                raise typer.Exit(STOPPED)
            started = time.monotonic()
            caption = model.caption(picture.path, sampling=Sampling.greedy())
            typer.echo(f"\n{picture.path.name}  ({time.monotonic() - started:.2f} s)\n    {caption.text}")
