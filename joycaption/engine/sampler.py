"""The next token of each row, greedy or sampled.

A sampled token depends on its row's logits, its request's seed and how many tokens came before, and on nothing else:
not on the slot, the batch or the order of arrival. One uniform number per (seed, step) is made by a counter-based
hash, and picks from the sorted, filtered distribution by inverse CDF.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..types import Sampling

__all__ = ["SamplingRows", "choose", "uniform"]


@dataclass(frozen=True, slots=True)
class SamplingRows:
    """Sampling settings of each row as tensors [rows] on the device. ``seed`` holds the bits of an unsigned number."""

    temperature: Tensor
    top_p: Tensor
    top_k: Tensor
    min_p: Tensor
    seed: Tensor
    greedy: bool  # every row

    @classmethod
    def stack(cls, samplings: list[Sampling], seeds: list[int], device: torch.device) -> SamplingRows:
        def column(values: list[float], dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.tensor(values, dtype=dtype, device=device)

        return cls(
            temperature=column([one.temperature for one in samplings]),
            top_p=column([one.top_p for one in samplings]),
            top_k=column([one.top_k for one in samplings], torch.int64),
            min_p=column([one.min_p for one in samplings]),
            seed=column([_signed(seed) for seed in seeds], torch.int64),
            greedy=all(one.temperature == 0 for one in samplings),
        )


def choose(logits: Tensor, rows: SamplingRows, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Pick a token for each row.

    Args:
        logits: [rows, vocabulary], any float type; computed with in fp32.
        steps: [rows] int64, how many tokens each row has generated.

    Returns:
        Tokens [rows] int64, and their natural-log probability [rows] under the unfiltered distribution at
        temperature 1.
    """
    logits = logits.float()
    tokens = logits.argmax(-1)
    if not rows.greedy:
        sampled = _sample(logits, rows, uniform(rows.seed, steps))
        tokens = torch.where(rows.temperature == 0, tokens, sampled)
    chosen = logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    return tokens, chosen - logits.logsumexp(-1)


def _sample(logits: Tensor, rows: SamplingRows, uniforms: Tensor) -> Tensor:
    temperature = torch.where(rows.temperature == 0, 1.0, rows.temperature).unsqueeze(-1)
    shifted = logits - logits.amax(-1, keepdim=True)  # the largest is 0, which no tiny temperature can make infinite
    ordered, order = (shifted / temperature).sort(dim=-1, descending=True, stable=True)
    probabilities = _filtered(ordered, rows)
    cumulative = probabilities.cumsum(-1)
    target = uniforms.unsqueeze(-1) * cumulative[:, -1:]
    # The first place whose cumulative probability exceeds the target; rounding must not lead past the last kept one.
    kept = (probabilities > 0).sum(-1, keepdim=True).clamp(min=1)  # 0 for a row of NaN, which others must survive
    place = torch.minimum((cumulative <= target).sum(-1, keepdim=True), kept - 1)
    return order.gather(-1, place).squeeze(-1)


def _filtered(ordered: Tensor, rows: SamplingRows) -> Tensor:
    """Probabilities in descending order with what top-k, top-p and min-p drop set to 0; not normalised again."""
    ranks = torch.arange(ordered.shape[-1], device=ordered.device)
    top_k = torch.where(rows.top_k == 0, ordered.shape[-1], rows.top_k).unsqueeze(-1)
    probabilities = ordered.masked_fill(ranks >= top_k, -torch.inf).softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    dropped = (before >= rows.top_p.unsqueeze(-1)) & (rows.top_p < 1).unsqueeze(-1)
    dropped |= probabilities < rows.min_p.unsqueeze(-1) * probabilities[:, :1]
    dropped[:, 0] = False
    return probabilities.masked_fill(dropped, 0.0)


def uniform(seeds: Tensor, steps: Tensor) -> Tensor:
    """One number in [0, 1) per (seed, step), fp32 with 24 random bits: SplitMix64's finaliser, applied twice.

    Source of the constants: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
    """
    bits = _mix(_mix(seeds) + (steps + 1) * _signed(0x9E3779B97F4A7C15))
    return _shifted(bits, 40).float() * 2.0**-24


def _mix(bits: Tensor) -> Tensor:
    bits = (bits ^ _shifted(bits, 30)) * _signed(0xBF58476D1CE4E5B9)
    bits = (bits ^ _shifted(bits, 27)) * _signed(0x94D049BB133111EB)
    return bits ^ _shifted(bits, 31)


def _shifted(bits: Tensor, places: int) -> Tensor:
    """Logical right shift; torch's is arithmetic."""
    return (bits >> places) & ((1 << (64 - places)) - 1)


def _signed(unsigned: int) -> int:
    """The int64 with the same bits."""
    return unsigned - (1 << 64) if unsigned >= 1 << 63 else unsigned
