"""Continuous batching: a fixed number of slots decode together, and a slot is refilled as soon as its caption ends.

The engine knows token ids and pixels; it knows nothing of text, files or prompts. Callers `add` prompts, call `step`
until nothing is left, and may `abort` any of them. A prompt's tokens are the same whatever shares the batch with it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import UsageError
from ..model.llama import RopeTable, causal
from ..model.llava import Llava
from ..types import FinishReason, Sampling
from .cache import KVCache
from .sampler import SamplingRows, choose

__all__ = ["Engine", "Prompt", "Step"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one caption starts from.

    Attributes:
        tokens: ids with the image token already repeated for every patch.
        pixels: [3, size, size] float32 in -1..1, on any device.
    """

    tokens: Sequence[int]
    pixels: Tensor
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """What one step brought for one prompt: its next token, or the error that ended it.

    ``logprob`` is natural-log, under the unfiltered distribution. ``finish`` is None while the caption goes on.
    """

    id: int
    token: int | None
    logprob: float
    finish: FinishReason | None
    error: str | None = None


@dataclass(slots=True)
class _Sequence:
    """A prompt in a slot. ``position`` is where its next token will be written in the KV cache."""

    id: int
    prompt: Prompt
    token: int = 0
    position: int = 0
    generated: int = 0


class Engine:
    """Decodes up to ``slots`` captions at a time.

    Args:
        model: in evaluation mode, on its device.
        slots: captions decoded together.
        stop_tokens: ids that end a caption.
    """

    def __init__(self, model: Llava, *, slots: int, stop_tokens: frozenset[int]) -> None:
        if slots < 1:
            raise UsageError(f"slots is {slots}, but must be 1 or more.")
        parameter = next(model.parameters())
        self.model, self.stop_tokens = model, stop_tokens
        self.device, self.dtype = parameter.device, parameter.dtype
        self.cache = KVCache(model.config.text, slots, device=self.device, dtype=self.dtype)
        self.rope = RopeTable(model.config.text, 0, device=self.device, dtype=self.dtype)
        self._slots: list[_Sequence | None] = [None] * slots
        self._waiting: deque[_Sequence] = deque()
        self._rows: SamplingRows | None = None  # of the running slots; None after a change
        self._ids = count()

    @property
    def room(self) -> int:
        """How many prompts could be added now and start at the next step."""
        return max(0, self._slots.count(None) - len(self._waiting))

    @property
    def idle(self) -> bool:
        """True when nothing is running or waiting."""
        return not self._waiting and not any(self._slots)

    def add(self, prompt: Prompt) -> int:
        """Queue a prompt; it starts when a slot is free. Returns its id.

        Raises:
            UsageError: prompt and answer are longer than the model's context.
        """
        limit, needed = self.model.config.text.max_position_embeddings, _needed(prompt)
        if limit is not None and needed > limit:
            raise UsageError(
                f"The prompt takes {len(prompt.tokens)} tokens and asks for up to {prompt.sampling.max_new_tokens} "
                f"more, but the model's context is {limit}. Shorten the prompt, or ask for fewer new tokens."
            )
        sequence = _Sequence(next(self._ids), prompt)
        self._waiting.append(sequence)
        return sequence.id

    def abort(self, id: int) -> None:
        """Forget a prompt, waiting or running; its slot is free at once. Unknown ids are ignored."""
        self._waiting = deque(sequence for sequence in self._waiting if sequence.id != id)
        self._slots = [None if sequence and sequence.id == id else sequence for sequence in self._slots]
        self._rows = None

    @torch.inference_mode()
    def step(self) -> list[Step]:
        """Start one waiting prompt, or else decode one token for every running caption.

        One or the other, so that a caller who wants to stop waits for a single prefill at most, and no first token is
        lost when decoding fails. Prompts go first: a slot that is filled early decodes with the others.

        A prompt whose prefill fails is reported with its error and does not touch the others. An error while decoding
        concerns all that run, and is raised; `abort` them, and the engine can be used again.
        """
        if self._waiting and None in self._slots:
            return [self._start(self._waiting.popleft(), self._slots.index(None))]
        return self._decode() if any(self._slots) else []

    def _start(self, sequence: _Sequence, slot: int) -> Step:
        try:
            self._reserve(_needed(sequence.prompt))
            logits = prefill(self.model, self.cache, self.rope, slot, sequence.prompt)
            rows = SamplingRows.stack([sequence.prompt.sampling], [sequence.prompt.seed], self.device)
            choice = choose(logits, rows, torch.zeros(1, dtype=torch.int64, device=self.device))
            token, logprob = int(choice[0]), float(choice[1])  # here a device reports what went wrong before
        except RuntimeError as error:  # torch's own kind, out of memory included
            return Step(sequence.id, None, 0.0, "error", f"The model failed on this picture: {error}")
        sequence.position = len(sequence.prompt.tokens)
        self._slots[slot], self._rows = sequence, None
        return self._record(slot, token, logprob)

    def _decode(self) -> list[Step]:
        # Slots fill from the front; those behind the last running one are left out of the batch.
        rows = max(slot for slot, sequence in enumerate(self._slots) if sequence is not None) + 1
        batch = [sequence or _IDLE for sequence in self._slots[:rows]]
        if self._rows is None:
            self._rows = SamplingRows.stack(
                [sequence.prompt.sampling for sequence in batch],
                [sequence.prompt.seed for sequence in batch],
                self.device,
            )
        state = torch.tensor([[one.token, one.position, one.generated] for one in batch], device=self.device)
        tokens, positions, generated = state.unbind(1)
        longest = max(sequence.position for sequence in batch) + 1
        logits = decode_step(self.model, self.cache, self.rope, tokens, positions, longest)
        chosen, logprobs = choose(logits, self._rows, generated)
        results = zip(chosen.tolist(), logprobs.tolist(), strict=True)
        return [self._record(slot, *result) for slot, result in enumerate(results) if self._slots[slot] is not None]

    def _record(self, slot: int, token: int, logprob: float) -> Step:
        """Note a slot's new token; free the slot when it was the last."""
        sequence = self._slots[slot]
        assert sequence is not None
        if math.isnan(logprob):
            return self._overflowed(sequence, slot)
        if sequence.generated:
            sequence.position += 1
        sequence.token = token
        sequence.generated += 1
        finish: FinishReason | None = None
        if token in self.stop_tokens:
            finish = "stop"
        elif sequence.generated >= sequence.prompt.sampling.max_new_tokens:
            finish = "length"
        if finish is not None:
            self._slots[slot], self._rows = None, None
        return Step(sequence.id, token, logprob, finish)

    def _overflowed(self, sequence: _Sequence, slot: int) -> Step:
        self.cache.clear(slot)
        self._slots[slot], self._rows = None, None
        reason = f"The model's numbers overflowed in {self.dtype} on this picture. Try precision bf16 or fp32."
        return Step(sequence.id, None, 0.0, "error", reason)

    def _reserve(self, length: int) -> None:
        self.cache.reserve(length)
        if self.rope.cos.shape[0] < self.cache.length:
            self.rope = RopeTable(self.model.config.text, self.cache.length, device=self.device, dtype=self.dtype)


# Fills the row of a slot that is free between running ones; what it computes is never read.
_IDLE = _Sequence(-1, Prompt(tokens=(), pixels=torch.empty(0), sampling=Sampling.greedy()))


def _needed(prompt: Prompt) -> int:
    return len(prompt.tokens) + prompt.sampling.max_new_tokens


def prefill(model: Llava, cache: KVCache, rope: RopeTable, slot: int, prompt: Prompt) -> Tensor:
    """Run a whole prompt, leave its keys and values in ``slot``, return its last logits [1, vocabulary]."""
    parameter = next(model.parameters())
    picture = model.encode_pictures(prompt.pixels[None].to(parameter))[0]
    tokens = torch.tensor(prompt.tokens, device=parameter.device)

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        cache.fill(layer, slot, k, v)
        return causal(layer, q, k, v)

    embedded = model.embed_prompt(tokens, picture)[None]
    hidden = model.language_model(embedded, rope.span(0, len(prompt.tokens)), attend)
    logits: Tensor = model.lm_head(hidden[:, -1])
    return logits


def decode_step(
    model: Llava, cache: KVCache, rope: RopeTable, tokens: Tensor, positions: Tensor, longest: int
) -> Tensor:
    """Run one token for each of the first slots.

    Args:
        tokens: [rows] int64, each row's last token.
        positions: [rows] int64, where it goes in the KV cache.
        longest: one more than the largest position.

    Returns:
        Logits [rows, vocabulary].
    """
    rows = tokens.shape[0]
    visible = torch.arange(longest, device=tokens.device) <= positions[:, None]  # [rows, longest]
    mask = visible[:, None, None]

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        cache.append(layer, positions, k, v)
        keys, values = cache.keys[layer, :rows, :, :longest], cache.values[layer, :rows, :, :longest]
        # The query heads that share a kv head stand as one sequence, so that grouped heads need no copies.
        packed = q.view(rows, keys.shape[1], -1, q.shape[-1])
        return F.scaled_dot_product_attention(packed, keys, values, attn_mask=mask).reshape(q.shape)

    embedded = model.language_model.embed_tokens(tokens)[:, None]
    hidden = model.language_model(embedded, rope.at(positions), attend)
    logits: Tensor = model.lm_head(hidden[:, 0])
    return logits
