"""``joycaption models``: what is on this machine, and downloads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from .console import file_size, print_table, say
from .interrupt import Interrupt

__all__ = ["find_or_download", "models"]

models = typer.Typer(help="List the models on this machine, or download one.", invoke_without_command=True)


@models.callback()
def list_found(context: typer.Context) -> None:
    if context.invoked_subcommand is not None:
        return
    from ..model.locate import list_models, searched_folders

    table = Table("Model", "Size", "Folder", "Note", box=None, pad_edge=False)
    for model in list_models():
        table.add_row(model.name, file_size(model.bytes), str(model.path), model.note)
    print_table(table)
    searched = ", ".join(map(str, searched_folders())) or "none (set JOYCAPTION_MODELS to name some)"
    say(f"Searched: the Hugging Face cache and these folders: {searched}.", "dim")


@models.command()
def download(name: Annotated[str, typer.Argument(help="beta-one, or owner/name on the Hugging Face hub.")]) -> None:
    """Download a model, unless it is here already, and print its folder.

    What has arrived is kept when the download is stopped; the same command goes on from there.
    """
    with Interrupt() as interrupted:
        typer.echo(find_or_download(name, interrupted))


def find_or_download(name: str, interrupted: Interrupt) -> Path:
    """The folder of a model, which is downloaded, with a bar, unless it is here already.

    Raises:
        ModelError, Cancelled: as in `joycaption.model.download.resolve_model`.
    """
    from ..model.download import resolve_model
    from .progress import Bars

    with Bars() as bars:

        def on_bytes(done: int, total: int, file: str) -> None:
            bars.on_bytes("download", done, total)

        return resolve_model(name, progress=on_bytes, should_stop=interrupted)
