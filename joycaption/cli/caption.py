"""``joycaption caption``: pictures in; captions on stdout and in sidecar files."""

from __future__ import annotations

from enum import Enum
from functools import partial
from typing import Annotated, Any

import typer

from ..errors import UsageError
from ..prompts import BETA_ONE
from ..types import Sampling
from .interrupt import STOPPED, Interrupt
from .options import (
    DeviceOption,
    ExtraOption,
    LengthOption,
    ModelOption,
    NameOption,
    PrecisionOption,
    SystemPromptOption,
    ToneOption,
    TypeOption,
    about_model,
    about_sampling,
    about_saving,
    about_writing,
    build_instruction,
)

__all__ = ["caption"]

SOME_FAILED = 1


class Existing(str, Enum):
    """What to do about pictures that have a caption."""

    SKIP = "skip"
    OVERWRITE = "overwrite"


def caption(
    paths: Annotated[list[str], typer.Argument(help="Pictures, folders, globs.", show_default=False)],
    recursive: Annotated[bool, about_saving("--recursive", "-r", help="Subfolders too.")] = False,
    model: ModelOption = "beta-one",
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    batch_size: Annotated[int, about_model(min=1, help="Captions written at the same time, at most.")] = 8,
    type: TypeOption = None,
    length: LengthOption = None,
    tone: ToneOption = None,
    extra: ExtraOption = None,
    name: NameOption = None,
    prompt: Annotated[str | None, about_writing(help="Your own instruction, instead of type, length and tone.")] = None,
    system_prompt: SystemPromptOption = None,
    begin_with: Annotated[str, about_writing(help="How every caption begins.")] = "",
    greedy: Annotated[bool, about_sampling("--greedy", help="Always the likeliest word.")] = False,
    temperature: Annotated[float | None, about_sampling(help="Default: 0.6; 0 is --greedy.")] = None,
    top_p: Annotated[float | None, about_sampling(help="Default: 0.9.")] = None,
    top_k: Annotated[int | None, about_sampling(help="Default: 0, no limit.")] = None,
    min_p: Annotated[float | None, about_sampling(help="Default: 0, no limit.")] = None,
    max_tokens: Annotated[int, about_sampling(min=1, help="Longest caption, in tokens.")] = 512,
    seed: Annotated[int, about_sampling(min=0, help="The same seed gives a picture the same caption again.")] = 0,
    format: Annotated[str, about_saving(help="Kind of caption file: txt, caption.")] = "txt",
    existing: Annotated[Existing, about_saving(help="What to do about pictures that have a caption.")] = Existing.SKIP,
    no_save: Annotated[bool, about_saving("--no-save", help="Neither read nor write caption files.")] = False,
    dry_run: Annotated[
        bool, about_saving("--dry-run", help="Show the prompt and what would be done, then stop.")
    ] = False,
    json: Annotated[
        bool, about_saving("--json", help="Print one JSON object per picture; captions are saved too.")
    ] = False,
) -> None:
    """Caption pictures, and save each caption beside its picture (cat.png, cat.txt) the moment it is done.

    Pictures that have a caption are skipped, so the same command goes on where it was stopped.
    """
    instruction = build_instruction(type, length, tone, extra, name, prompt)
    sampling = _sampling(greedy, max_tokens, temperature=temperature, top_p=top_p, top_k=top_k, min_p=min_p)
    with Interrupt() as interrupted:
        # From here on, because these take their time to import, and Ctrl-C shall be answered meanwhile.
        from ..dataset import RunSettings, scan, sidecar_format
        from .captioning import rehearse, run
        from .report import JsonReport, TextReport

        settings = RunSettings(
            prompt=instruction,
            system=BETA_ONE.system_prompts.get(system_prompt or "", system_prompt),
            begin_with=begin_with,
            sampling=sampling,
            seed=seed,
            sidecars=None if no_save else sidecar_format(format),
            overwrite=existing is Existing.OVERWRITE,
        )
        find_pictures = partial(scan, paths, recursive=recursive)
        report = JsonReport() if json else TextReport(name_skipped=dry_run)
        if dry_run:
            summary = rehearse(find_pictures(), settings, report, interrupted)
        else:
            summary = run(
                find_pictures,
                settings,
                report,
                interrupted,
                model=model,
                precision=precision,
                device=device,
                batch_size=batch_size,
            )
    if summary.stopped:
        raise typer.Exit(STOPPED)
    if summary.failed or summary.problem:
        raise typer.Exit(SOME_FAILED)


def _sampling(greedy: bool, max_tokens: int, **filters: float | None) -> Sampling:
    given: dict[str, Any] = {name: value for name, value in filters.items() if value is not None}
    if greedy and given:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise UsageError(f"--greedy takes the likeliest word and leaves no choice to {names}: give it or them.")
    return Sampling.greedy(max_tokens) if greedy else Sampling(**given, max_new_tokens=max_tokens)
