"""The values that cross the seam between callers and captioners. Frozen, checked when made, free of torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Hashable
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

__all__ = ["Candidate", "Caption", "FinishReason", "ImageInput", "Request", "Sampling", "derive_seed"]

ImageInput: TypeAlias = "Path | str | bytes | Image.Image | np.ndarray"
FinishReason: TypeAlias = Literal["stop", "length", "interrupted", "error"]

MAX_SEED = 2**64 - 1


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _within(low: float, value: Any, high: float = math.inf) -> bool:
    number = isinstance(value, Real) and not isinstance(value, bool)
    return number and bool(low <= value <= high and value != math.inf)


def _check(fits: bool, name: str, value: object, allowed: str) -> None:
    if not fits:
        raise UsageError(f"{name} is {value!r}, but must be {allowed}.")


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen. The defaults are those the model's author publishes (temperature 0.6, top_p 0.9).

    Filters apply in the order temperature, top_k, top_p, min_p, as in transformers.

    Attributes:
        temperature: 0 is greedy decoding: always the likeliest token, whatever the other fields say.
        top_p: keep the likeliest tokens until their probabilities sum to this, in (0, 1]; 1 keeps all.
        top_k: keep this many of the likeliest tokens; 0 keeps all.
        min_p: drop tokens less likely than this share of the likeliest one's probability; 0 keeps all.
        max_new_tokens: end a caption after this many tokens, with finish reason ``length``.

    Raises:
        UsageError: a value outside its range.
    """

    temperature: float = 0.6
    top_p: float = 0.9
    top_k: int = 0
    min_p: float = 0.0
    max_new_tokens: int = 512

    def __post_init__(self) -> None:
        _check(_within(0, self.temperature), "temperature", self.temperature, "a number, 0 or more")
        _check(_within(0, self.top_p, 1) and self.top_p > 0, "top_p", self.top_p, "a number above 0 and at most 1")
        _check(_whole(self.top_k) and self.top_k >= 0, "top_k", self.top_k, "a whole number, 0 or more")
        _check(_within(0, self.min_p, 1), "min_p", self.min_p, "a number from 0 to 1")
        _check(
            _whole(self.max_new_tokens) and self.max_new_tokens >= 1,
            "max_new_tokens",
            self.max_new_tokens,
            "a whole number, 1 or more",
        )

    @classmethod
    def greedy(cls, max_new_tokens: int = 512) -> Sampling:
        """Always the likeliest token: the same caption every time, whatever the seed."""
        return cls(temperature=0.0, top_p=1.0, max_new_tokens=max_new_tokens)


@dataclass(frozen=True, slots=True)
class Request:
    """One caption to write.

    Attributes:
        image: a path, an http(s) URL, an encoded file's bytes, a PIL image, an array or a tensor, as
            ``joycaption.images.open_image`` takes it. Opened only when its turn comes.
        prompt: the instruction, as ``joycaption.prompts.build_prompt`` makes it, or the user's own.
        system: the system prompt; None takes the captioner's default.
        begin_with: start of the answer, given by the user; it is part of the caption.
        sampling: how tokens are chosen.
        seed: the sampler's seed, 0 to 2**64 - 1; the same seed gives the same caption in any batch and order.
        picture_key: equal keys promise equal pictures, which then may be encoded once.

    Raises:
        UsageError: a seed out of range, a text that is no string, or a sampling that is no `Sampling`.
    """

    image: ImageInput
    prompt: str
    system: str | None = None
    begin_with: str = ""
    sampling: Sampling = Sampling()
    seed: int = 0
    picture_key: Hashable | None = None

    def __post_init__(self) -> None:
        _check(isinstance(self.prompt, str), "prompt", self.prompt, "a string")
        _check(self.system is None or isinstance(self.system, str), "system", self.system, "a string or None")
        _check(isinstance(self.begin_with, str), "begin_with", self.begin_with, "a string")
        _check(isinstance(self.sampling, Sampling), "sampling", self.sampling, "a Sampling")
        _check(
            _whole(self.seed) and 0 <= self.seed <= MAX_SEED, "seed", self.seed, f"a whole number from 0 to {MAX_SEED}"
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """One alternative text for the same request, for captioners that return several."""

    text: str
    mean_logprob: float | None = None


@dataclass(frozen=True, slots=True)
class Caption:
    """What became of one request.

    Attributes:
        text: the caption, stripped; empty when ``error`` is set. Never an error's text.
        finish_reason: ``stop`` (the model ended it), ``length`` (max_new_tokens or the KV cache was reached),
            ``interrupted`` (the caller stopped the run; the text is what there was), ``error``.
        error: one sentence that says what went wrong, or None.
        prompt_tokens: tokens of the prompt, picture included.
        tokens: tokens generated, the stop token included.
        seconds: from the start of this request's prefill to its last token.
        mean_logprob: mean natural-log probability of the generated tokens under the unfiltered distribution.
        candidates: alternative texts, where a captioner gives them.
    """

    text: str
    finish_reason: FinishReason
    error: str | None = None
    prompt_tokens: int = 0
    tokens: int = 0
    seconds: float = 0.0
    mean_logprob: float | None = None
    candidates: tuple[Candidate, ...] = ()

    @classmethod
    def failed(cls, error: str) -> Caption:
        """A caption that could not be written, and why."""
        return cls(text="", finish_reason="error", error=error)

    @property
    def complete(self) -> bool:
        """True when the text may be saved: not failed, not cut short by the caller, not empty."""
        return self.finish_reason in ("stop", "length") and bool(self.text)


def derive_seed(seed: int, *parts: int | str) -> int:
    """A seed for one item of many, from the run's seed and what names the item, never from its place in a batch."""
    digest = hashlib.sha256(json.dumps([seed, *parts]).encode()).digest()
    return int.from_bytes(digest[:8], "little")
