"""Options that several commands share, and what they stand for."""

from __future__ import annotations

from functools import partial
from typing import Annotated, TypeAlias

import typer

from ..errors import UsageError
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
    "about_model",
    "about_sampling",
    "about_saving",
    "about_writing",
    "build_instruction",
]

# An option under one heading of the help page.
about_saving = partial(typer.Option, rich_help_panel="What to read and save")
about_model = partial(typer.Option, rich_help_panel="Model")
about_writing = partial(typer.Option, rich_help_panel="What to write", show_default=False)
about_sampling = partial(typer.Option, rich_help_panel="How words are chosen")

ModelOption: TypeAlias = Annotated[
    str, about_model(help="beta-one, demo (knows drawn shapes only), a folder, or owner/name on the Hugging Face hub.")
]
PrecisionOption: TypeAlias = Annotated[str, about_model(help="auto, bf16, fp16 or fp32.")]
DeviceOption: TypeAlias = Annotated[str, about_model(help="auto, cpu, cuda, cuda:1, xpu or mps.")]

TypeOption: TypeAlias = Annotated[
    str | None, about_writing(help=f"Caption type: {', '.join(BETA_ONE.types)}. Default: descriptive.")
]
LengthOption: TypeAlias = Annotated[
    str | None, about_writing(help=f"any, {', '.join(BETA_ONE.length_words)}, or a number of words. Default: any.")
]
ToneOption: TypeAlias = Annotated[
    str | None, about_writing(help="formal or casual (trained, for descriptive captions), or any other word.")
]
ExtraOption: TypeAlias = Annotated[
    list[str] | None, about_writing(help=f"An extra wish; may be repeated: {', '.join(BETA_ONE.extras)}.")
]
NameOption: TypeAlias = Annotated[str | None, about_writing(help="What to call a person in the picture.")]
SystemPromptOption: TypeAlias = Annotated[
    str | None, about_writing(help=f"{', '.join(BETA_ONE.system_prompts)}, or your own text. Default: captioner.")
]


def build_instruction(
    type: str | None,
    length: str | None,
    tone: str | None,
    extras: list[str] | None,
    name: str | None,
    own: str | None = None,
) -> str:
    """The prompt that these options stand for. Says so when the model was not trained on the tone.

    Args:
        own: the user's own instruction, in the place of type, length and tone.

    Raises:
        UsageError: an option that is not allowed, or one that the user's own instruction replaces.
    """
    if own is not None and (type or length or tone):
        raise UsageError("--prompt replaces --type, --length and --tone: give it or them.")
    type, length = type or "descriptive", length or "any"
    instruction = build_prompt(type, length, extras=extras or (), name=name, tone=tone, instruction=own)
    if not is_trained_tone(type, tone):
        say(f"The model was not trained on the tone {tone!r} with the type {type}; it may not follow.", "yellow")
    return instruction
