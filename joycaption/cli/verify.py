"""``joycaption verify``: this project's model code against transformers, on the user's own checkpoint and machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .console import say
from .interrupt import Interrupt
from .models import find_or_download
from .options import DeviceOption, PrecisionOption

if TYPE_CHECKING:
    from ..verify import Verification

__all__ = ["verify"]

PARTED = 1


def verify(
    model: Annotated[str, typer.Argument(help="demo, beta-one, a folder, or owner/name on the Hugging Face hub.")],
    image: Annotated[
        Path | None, typer.Option(help="Picture to compare on; a sample picture by default.", show_default=False)
    ] = None,
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    tokens: Annotated[int, typer.Option(min=1, help="Length of the greedy caption to compare.")] = 60,
) -> None:
    """Compare first logits and a greedy caption with transformers' own implementation.

    Both models are loaded, one after the other. Exit status 0 when they agree, 1 when they part.
    """
    with Interrupt() as interrupted:
        from ..demo import SAMPLES
        from ..verify import verify_model

        folder = find_or_download(model, interrupted)
    # Outside of the block above: the library's own code cannot be asked to stop, so Ctrl-C simply ends it.
    picture = image or next(iter(sorted(SAMPLES.iterdir())))
    result = verify_model(folder, picture, precision=precision, device=device, new_tokens=tokens, say=say)
    typer.echo("\n".join(_lines(result, model, picture)))
    if not result.equal:
        raise typer.Exit(PARTED)


def _lines(result: Verification, model: str, picture: Path) -> list[str]:
    lines = [
        f"model         {model}",
        f"picture       {picture.name}",
        f"precision     {result.dtype} on {result.device}",
        f"versions      torch {result.torch}, transformers {result.transformers}",
        f"first logits  error {result.logits_error:.2e} of their norm (at most {result.tolerance:.0e} expected)",
    ]
    if result.assumed:
        lines.append(f"assumed       {'; '.join(result.assumed)} (left out of config.json: its class's defaults)")
    if result.parted_at is None:
        lines += [f"greedy text   the same {result.tokens} tokens", f"              {result.ours}"]
    else:
        margin = "" if result.margin is None else f", where the library's two best logits lie {result.margin:.3g} apart"
        lines += [
            f"greedy text   parts at token {result.parted_at}{margin}",
            f"  ours        {result.ours}",
            f"  library     {result.library}",
        ]
    return [*lines, f"verdict       {'EQUAL' if result.equal else 'NOT EQUAL: please report this whole output'}"]
