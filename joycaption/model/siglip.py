"""The SigLIP vision tower, up to the layer whose output the projector reads.

The published tower's remaining layers, its post-norm and its pooling head never influence a caption and are not built.
Parameter names follow the checkpoint, except that q, k and v are one fused projection.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .config import VisionConfig

__all__ = ["SiglipVision"]


class SiglipVision(nn.Module):
    """Pixels [pictures, channels, size, size] to features [pictures, patches, hidden]."""

    def __init__(self, config: VisionConfig, layers: int, ops: Any = nn) -> None:
        super().__init__()
        self.patch_embedding = ops.Conv2d(
            config.num_channels, config.hidden_size, kernel_size=config.patch_size, stride=config.patch_size
        )
        self.position_embedding = ops.Embedding(config.patches, config.hidden_size)
        self.layers = nn.ModuleList(SiglipLayer(config, ops) for _ in range(layers))

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)
        positions = torch.arange(patches.shape[1], device=pixels.device)
        hidden: Tensor = patches + self.position_embedding(positions)
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


class SiglipLayer(nn.Module):
    def __init__(self, config: VisionConfig, ops: Any) -> None:
        super().__init__()
        self.layer_norm1 = ops.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = SiglipAttention(config, ops)
        self.layer_norm2 = ops.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = SiglipMLP(config, ops)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden + self.self_attn(self.layer_norm1(hidden))
        output: Tensor = hidden + self.mlp(self.layer_norm2(hidden))
        return output


class SiglipAttention(nn.Module):
    """Every patch sees every patch of its picture."""

    def __init__(self, config: VisionConfig, ops: Any) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.qkv_proj = ops.Linear(config.hidden_size, 3 * config.hidden_size)
        self.out_proj = ops.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        pictures, patches, width = hidden.shape
        qkv = self.qkv_proj(hidden).view(pictures, patches, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v)
        output: Tensor = self.out_proj(attended.transpose(1, 2).reshape(pictures, patches, width))
        return output


class SiglipMLP(nn.Module):
    def __init__(self, config: VisionConfig, ops: Any) -> None:
        super().__init__()
        self.fc1 = ops.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = ops.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        output: Tensor = self.fc2(F.gelu(self.fc1(hidden), approximate="tanh"))
        return output
