"""The Llama language model, without a cache of its own.

Attention is given by the caller: each layer projects and rotates q, k and v, hands them to ``attend``, and projects
what comes back. So prefill, decoding over any kind of KV cache, and training all share these modules.
Parameter names follow the checkpoint, except that q/k/v and gate/up are one fused projection each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import Llama3Scaling, TextConfig

__all__ = ["Attend", "Llama", "Rope", "RopeTable", "causal"]

# attend(layer, q, k, v) -> attended. Shapes: q and the result [batch, heads, length, head_dim],
# k and v [batch, kv_heads, length, head_dim]; k is already rotated.
Attend: TypeAlias = Callable[[int, Tensor, Tensor, Tensor], Tensor]

# Cosine and sine for each position, each broadcastable to [batch, heads, length, head_dim].
Rope: TypeAlias = tuple[Tensor, Tensor]


class Llama(nn.Module):
    """Embeddings [batch, length, hidden] to final hidden states of the same shape, normalised."""

    def __init__(self, config: TextConfig, ops: Any = nn) -> None:
        super().__init__()
        self.embed_tokens = ops.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(LlamaLayer(config, index, ops) for index in range(config.num_hidden_layers))
        self.norm = ops.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, hidden: Tensor, rope: Rope, attend: Attend) -> Tensor:
        for layer in self.layers:
            hidden = layer(hidden, rope, attend)
        normed: Tensor = self.norm(hidden)
        return normed


class LlamaLayer(nn.Module):
    def __init__(self, config: TextConfig, index: int, ops: Any) -> None:
        super().__init__()
        self.input_layernorm = ops.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.self_attn = LlamaAttention(config, index, ops)
        self.post_attention_layernorm = ops.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.mlp = LlamaMLP(config, ops)

    def forward(self, hidden: Tensor, rope: Rope, attend: Attend) -> Tensor:
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), rope, attend)
        output: Tensor = hidden + self.mlp(self.post_attention_layernorm(hidden))
        return output


class LlamaAttention(nn.Module):
    def __init__(self, config: TextConfig, index: int, ops: Any) -> None:
        super().__init__()
        self.index = index
        self.head_dim = config.head_dim
        self.heads = (config.num_attention_heads, config.num_key_value_heads, config.num_key_value_heads)
        self.qkv_proj = ops.Linear(config.hidden_size, sum(self.heads) * config.head_dim, bias=False)
        self.o_proj = ops.Linear(config.num_attention_heads * config.head_dim, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor, rope: Rope, attend: Attend) -> Tensor:
        batch, length, _ = hidden.shape
        qkv = self.qkv_proj(hidden).view(batch, length, sum(self.heads), self.head_dim).transpose(1, 2)
        q, k, v = qkv.split(self.heads, dim=1)
        attended = attend(self.index, rotate(q, rope), rotate(k, rope), v)
        output: Tensor = self.o_proj(attended.transpose(1, 2).reshape(batch, length, -1))
        return output


class LlamaMLP(nn.Module):
    def __init__(self, config: TextConfig, ops: Any) -> None:
        super().__init__()
        self.gate_up_proj = ops.Linear(config.hidden_size, 2 * config.intermediate_size, bias=False)
        self.down_proj = ops.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        gate, up = self.gate_up_proj(hidden).chunk(2, dim=-1)
        output: Tensor = self.down_proj(F.silu(gate) * up)
        return output


def rotate(x: Tensor, rope: Rope) -> Tensor:
    """Rotary position embedding in the half-split layout that Llama's published weights expect."""
    cos, sin = rope
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def causal(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """`Attend` for one whole sequence without a cache: each position sees itself and those before it."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])


class RopeTable:
    """Cosines and sines [positions, head_dim], computed in fp32 and kept in ``dtype``, as the library does."""

    def __init__(self, config: TextConfig, positions: int, *, device: torch.device, dtype: torch.dtype) -> None:
        angles = torch.outer(torch.arange(positions, dtype=torch.float32), inverse_frequencies(config))
        angles = torch.cat((angles, angles), dim=-1)
        self.cos = angles.cos().to(device=device, dtype=dtype)
        self.sin = angles.sin().to(device=device, dtype=dtype)

    def span(self, start: int, stop: int) -> Rope:
        """For one run of positions: [1, 1, stop - start, head_dim]."""
        return self.cos[None, None, start:stop], self.sin[None, None, start:stop]

    def at(self, positions: Tensor) -> Rope:
        """For one position of each batch row, ``positions`` [batch]: [batch, 1, 1, head_dim]."""
        return self.cos[positions][:, None, None], self.sin[positions][:, None, None]


def inverse_frequencies(config: TextConfig) -> Tensor:
    """Rotary frequencies [head_dim / 2] in radians per position."""
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.int64).float() / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    return frequencies if config.rope_scaling is None else _llama3(frequencies, config.rope_scaling)


def _llama3(frequencies: Tensor, scaling: Llama3Scaling) -> Tensor:
    """Stretch long wavelengths by ``factor``, keep short ones, blend between. Source: Llama 3.1's reference code."""
    context = scaling.original_max_position_embeddings
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    wavelengths = 2 * math.pi / frequencies
    blend = ((context / wavelengths - low) / (high - low)).clamp(0, 1)
    blended = (1 - blend) * frequencies / scaling.factor + blend * frequencies
    kept = torch.where(wavelengths < context / high, frequencies, blended)
    return torch.where(wavelengths > context / low, frequencies / scaling.factor, kept)
