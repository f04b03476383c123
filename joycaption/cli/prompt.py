"""``joycaption prompt``: the exact instruction that some options stand for."""

from __future__ import annotations

import typer

from .options import ExtraOption, LengthOption, NameOption, ToneOption, TypeOption, build_instruction

__all__ = ["prompt"]


def prompt(
    type: TypeOption = None,
    length: LengthOption = None,
    tone: ToneOption = None,
    extra: ExtraOption = None,
    name: NameOption = None,
) -> None:
    """Print the exact prompt that these options give the model."""
    typer.echo(build_instruction(type, length, tone, extra, name))
