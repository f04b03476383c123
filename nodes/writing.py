"""The inputs that say how captions are written; the caption node and the folder node share them."""

from __future__ import annotations

from comfy_api.latest import io

from ..joycaption.prompts import DEFAULT_SYSTEM_PROMPT
from ..joycaption.types import MAX_SEED, Sampling
from .sockets import OptionsSocket

__all__ = ["sampling_of", "system_of", "writing_inputs"]

_AUTHORS = Sampling()
_GREEDY, _SAMPLED = "greedy", "sampled"


def writing_inputs() -> list[io.Input]:
    """Options, texts, sampling, seed and length."""
    return [
        OptionsSocket.Input(
            "options", optional=True, tooltip="From JoyCaption Options; without it, a descriptive caption."
        ),
        io.String.Input(
            "custom_prompt",
            multiline=True,
            default="",
            placeholder="Your own instruction, instead of the caption type",
            tooltip="Takes the place of type, length and tone. The name and the extras of the options still count.",
        ),
        io.String.Input(
            "begin_with",
            default="",
            tooltip="How every caption begins, such as a trigger word. The model goes on from there.",
        ),
        io.String.Input(
            "system_prompt",
            default="",
            placeholder=DEFAULT_SYSTEM_PROMPT,
            tooltip="Empty: the one that the model was trained with.",
            advanced=True,
        ),
        io.Combo.Input(
            "sampling",
            options=[_SAMPLED, _GREEDY],
            tooltip="sampled: varied, by the seed, as the model's author advises. greedy: always the likeliest word.",
        ),
        *_filters(),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=MAX_SEED,
            control_after_generate=io.ControlAfterGenerate.fixed,
            tooltip="The same seed gives the same caption, whatever else is captioned with it (to the letter in fp32).",
        ),
        io.Int.Input(
            "max_tokens",
            default=_AUTHORS.max_new_tokens,
            min=1,
            max=4096,
            tooltip="The longest caption. A token is about three quarters of a word.",
        ),
    ]


def _filters() -> list[io.Input]:
    return [
        io.Float.Input(
            "temperature",
            default=_AUTHORS.temperature,
            min=0.0,
            max=2.0,
            step=0.05,
            tooltip="Higher is more varied.",
            advanced=True,
        ),
        io.Float.Input(
            "top_p",
            default=_AUTHORS.top_p,
            min=0.01,
            max=1.0,
            step=0.01,
            tooltip="Choose among the likeliest words until their probabilities sum to this.",
            advanced=True,
        ),
        io.Int.Input(
            "top_k",
            default=_AUTHORS.top_k,
            min=0,
            max=1000,
            tooltip="Choose among this many words; 0: no limit.",
            advanced=True,
        ),
        io.Float.Input(
            "min_p",
            default=_AUTHORS.min_p,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip="Leave out words less likely than this share of the likeliest one's probability; 0: none.",
            advanced=True,
        ),
    ]


def sampling_of(kind: str, temperature: float, top_p: float, top_k: int, min_p: float, max_tokens: int) -> Sampling:
    """The sampling that the inputs say. Greedily, the others have no effect.

    Raises:
        UsageError: a value outside its range.
    """
    if kind == _GREEDY:
        return Sampling.greedy(max_tokens)
    return Sampling(temperature, top_p, top_k, min_p, max_tokens)


def system_of(text: str) -> str | None:
    return text if text.strip() else None
