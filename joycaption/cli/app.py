"""The commands together, and what they have in common: errors become one sentence and an exit status."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import Cancelled, JoyCaptionError
from .caption import caption
from .console import say, say_error
from .demo import demo
from .interrupt import STOPPED
from .models import models
from .prompt import prompt
from .verify import verify

__all__ = ["app"]

WRONG_USE = 2


class _Group(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Cancelled as stopped:
            say(str(stopped))
            raise typer.Exit(STOPPED) from None
        except JoyCaptionError as error:
            say_error(str(error))
            raise typer.Exit(WRONG_USE) from None


app = typer.Typer(
    name="joycaption",
    cls=_Group,
    help="Caption pictures with JoyCaption.",
    epilog="Exit status: 0 all done; 1 something failed; 2 wrong use, or nothing could be begun; 130 Ctrl-C.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(caption)
app.command()(prompt)
app.add_typer(models, name="models")
app.command()(verify)
app.command()(demo)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None: ...
