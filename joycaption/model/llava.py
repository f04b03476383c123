"""JoyCaption's model: a SigLIP tower sees, a projector translates, a Llama writes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from .config import ModelConfig
from .llama import Llama
from .siglip import SiglipVision

__all__ = ["Llava"]


class Llava(nn.Module):
    """The three parts of the checkpoint.

    Args:
        config: every figure, from the checkpoint.
        ops: where Linear, Embedding, Conv2d, LayerNorm and RMSNorm come from: ``torch.nn``, or a module with the same
            names. Layers are only called, never reached into, so that an offloading or quantised layer works too.
        language_ops: the same for the language model's layers alone; ``ops`` when None.
    """

    def __init__(self, config: ModelConfig, ops: Any = nn, language_ops: Any = None) -> None:
        super().__init__()
        self.config = config
        self.vision_tower = SiglipVision(config.vision, config.vision_layers, ops)
        self.multi_modal_projector = Projector(config, ops)
        self.language_model = Llama(config.text, language_ops or ops)
        self.lm_head = ops.Linear(config.text.hidden_size, config.text.vocab_size, bias=False)

    def encode_pictures(self, pixels: Tensor) -> Tensor:
        """Pixels [pictures, 3, size, size] in -1..1 to embeddings [pictures, patches, text hidden]."""
        embeddings: Tensor = self.multi_modal_projector(self.vision_tower(pixels))
        return embeddings

    def embed_prompt(self, tokens: Tensor, picture: Tensor) -> Tensor:
        """Token ids [length], with as many image tokens as ``picture`` [patches, hidden] has rows, to [length, hidden].

        Rows of ``picture`` take the image tokens' places in order.
        """
        embeddings: Tensor = self.language_model.embed_tokens(tokens)
        seen = (tokens == self.config.image_token).unsqueeze(-1).expand_as(embeddings)
        return embeddings.masked_scatter(seen, picture.to(embeddings.dtype))


class Projector(nn.Module):
    """Vision features to the language model's embedding space."""

    def __init__(self, config: ModelConfig, ops: Any) -> None:
        super().__init__()
        self.linear_1 = ops.Linear(config.vision.hidden_size, config.text.hidden_size)
        self.linear_2 = ops.Linear(config.text.hidden_size, config.text.hidden_size)

    def forward(self, features: Tensor) -> Tensor:
        output: Tensor = self.linear_2(F.gelu(self.linear_1(features)))
        return output
