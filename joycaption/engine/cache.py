"""Keys and values of every sequence in flight, allocated once for a number of slots."""

from __future__ import annotations

import torch
from torch import Tensor

from ..model.config import TextConfig

__all__ = ["KVCache"]

_BUCKET = 128  # lengths are rounded up to this many tokens


def _rounded(length: int) -> int:
    return -(-length // _BUCKET) * _BUCKET


class KVCache:
    """``keys`` and ``values``: [layers, slots, kv_heads, length, head_dim], contiguous.

    For Beta One in bf16 that is 128 KiB per token and slot.
    """

    def __init__(self, config: TextConfig, slots: int, *, device: torch.device, dtype: torch.dtype) -> None:
        self.shape = (config.num_hidden_layers, slots, config.num_key_value_heads)
        self.head_dim = config.head_dim
        self.keys = torch.zeros(*self.shape, 0, self.head_dim, device=device, dtype=dtype)
        self.values = torch.zeros_like(self.keys)

    @staticmethod
    def bytes_for(config: TextConfig, slots: int, length: int, dtype: torch.dtype) -> int:
        """What a cache takes whose slots hold ``length`` tokens each."""
        per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * dtype.itemsize
        return slots * _rounded(length) * per_token

    @property
    def length(self) -> int:
        """Tokens that fit into a slot."""
        return self.keys.shape[3]

    def reserve(self, length: int) -> None:
        """Make room for sequences of ``length`` tokens; what is in flight is kept."""
        if length <= self.length:
            return
        length = _rounded(length)
        self.keys, self.values = self._grown(self.keys, length), self._grown(self.values, length)

    def _grown(self, old: Tensor, length: int) -> Tensor:
        new = old.new_zeros(*self.shape, length, self.head_dim)  # zeros: masked positions are still multiplied by 0
        new[:, :, :, : old.shape[3]] = old
        return new

    def clear(self, slot: int) -> None:
        """Wipe a slot: masked positions are multiplied by 0, and 0 times NaN would be NaN for its next prompt."""
        self.keys[:, slot].zero_()
        self.values[:, slot].zero_()

    def fill(self, layer: int, slot: int, keys: Tensor, values: Tensor) -> None:
        """A whole prompt's keys and values [1, kv_heads, length, head_dim] at the start of a slot."""
        self.keys[layer, slot, :, : keys.shape[2]] = keys[0]
        self.values[layer, slot, :, : values.shape[2]] = values[0]

    def append(self, layer: int, positions: Tensor, keys: Tensor, values: Tensor) -> None:
        """One token's [rows, kv_heads, 1, head_dim] for each of the first slots, at ``positions`` [rows]."""
        rows = torch.arange(positions.shape[0], device=positions.device)
        self.keys[layer][rows, :, positions] = keys[:, :, 0]
        self.values[layer][rows, :, positions] = values[:, :, 0]
