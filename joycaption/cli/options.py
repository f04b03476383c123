"""Options that several commands share, and what they stand for."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from ..prompts import BETA_ONE, build_prompt, is_trained_tone
from .console import say

__all__ = [
    "DeviceOption",
    "ExtraOption",
    "LengthOption",
    "ModelOption",
    "NameOption",
    "PrecisionOption",
    "SystemPromptOption",
    "ToneOption",
    "TypeOption",
    "build_instruction",
]

_PROMPT_PANEL = "What to write"
_MODEL_PANEL = "Model"

ModelOption: TypeAlias = Annotated[
    str,
    typer.Option(
        help="beta-one, demo (knows drawn shapes only), a folder, or owner/name on the Hugging Face hub.",
        rich_help_panel=_MODEL_PANEL,
    ),
]
PrecisionOption: TypeAlias = Annotated[
    str, typer.Option(help="auto, bf16, fp16 or fp32.", rich_help_panel=_MODEL_PANEL)
]
DeviceOption: TypeAlias = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:1, xpu or mps.", rich_help_panel=_MODEL_PANEL)
]
TypeOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help=f"Caption type: {', '.join(BETA_ONE.types)}. Default: descriptive.",
        show_default=False,
        rich_help_panel=_PROMPT_PANEL,
    ),
]
LengthOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help=f"any, {', '.join(BETA_ONE.length_words)}, or a number of words. Default: any.",
        show_default=False,
        rich_help_panel=_PROMPT_PANEL,
    ),
]
ToneOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="formal or casual (trained, for descriptive captions), or any other word.",
        show_default=False,
        rich_help_panel=_PROMPT_PANEL,
    ),
]
ExtraOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        help=f"An extra wish; may be repeated: {', '.join(BETA_ONE.extras)}.",
        show_default=False,
        rich_help_panel=_PROMPT_PANEL,
    ),
]
NameOption: TypeAlias = Annotated[
    str | None,
    typer.Option(help="What to call a person in the picture.", show_default=False, rich_help_panel=_PROMPT_PANEL),
]
SystemPromptOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help=f"{', '.join(BETA_ONE.system_prompts)}, or your own text. Default: captioner.",
        show_default=False,
        rich_help_panel=_PROMPT_PANEL,
    ),
]


def build_instruction(
    type: str | None, length: str | None, tone: str | None, extras: list[str] | None, name: str | None
) -> str:
    """The prompt that these options stand for. Says so when the model was not trained on the tone.

    Raises:
        PromptError: an option that is not allowed.
    """
    type, length = type or "descriptive", length or "any"
    instruction = build_prompt(type, length, extras=extras or (), name=name, tone=tone)
    if not is_trained_tone(type, tone):
        say(f"The model was not trained on the tone {tone!r} with the type {type}; it may not follow.", "yellow")
    return instruction
