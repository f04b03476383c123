"""The figures of a checkpoint, read from its ``config.json``.

A config written by transformers leaves out every figure that equals the default of its config class, so an absent
figure has a defined meaning. The ones whose meaning has been the same in every release are listed here, with that
value; each use of one is kept in `ModelConfig.assumed`, so that it can be shown. Anything else that is absent, and
anything that this code does not implement, is an error that names the figure.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CheckpointError

__all__ = ["Llama3Scaling", "ModelConfig", "TextConfig", "VisionConfig", "read_config"]

# Defaults of LlamaConfig, SiglipVisionConfig and LlavaConfig, the same from transformers 4.46 to 5.23 (measured).
_TEXT_DEFAULTS = {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": False,
}
_VISION_DEFAULTS = {
    "num_channels": 3,
    "layer_norm_eps": 1e-6,
    "hidden_act": "gelu_pytorch_tanh",
}
_TOP_DEFAULTS = {
    "projector_hidden_act": "gelu",
    "vision_feature_layer": -2,
    "multimodal_projector_bias": True,
}


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """SigLIP vision tower. ``image_size`` and ``patch_size`` are in pixels."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    image_size: int
    patch_size: int
    num_channels: int
    layer_norm_eps: float

    @property
    def patches(self) -> int:
        """Patches of one picture, which are also its tokens: 729 for Beta One."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True, slots=True)
class Llama3Scaling:
    """Llama 3.1's rotary scaling for long contexts. Source: the ``llama3`` rope type of transformers."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int


@dataclass(frozen=True, slots=True)
class TextConfig:
    """Llama language model. ``head_dim`` need not be ``hidden_size / num_attention_heads``."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: Llama3Scaling | None
    max_position_embeddings: int | None


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A LLaVA checkpoint: SigLIP tower, two-layer projector, Llama.

    Attributes:
        image_token: the id that stands for the picture in a prompt.
        vision_layers: how many vision layers run: the features are the output of that one, not normalised.
        assumed: figures that the file leaves to its class's default, as ``"name = value"``.
    """

    text: TextConfig
    vision: VisionConfig
    image_token: int
    vision_layers: int
    assumed: tuple[str, ...] = ()


def read_config(folder: Path) -> ModelConfig:
    """Read ``config.json`` of a model folder.

    Raises:
        CheckpointError: no such file, not JSON, a needed figure absent, or an architecture that is not supported.
    """
    file = folder / "config.json"
    try:
        raw = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} holds no config.json, so it is not a model folder.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}. Download the model again.") from error
    return parse_config(raw, str(file))


def parse_config(raw: Mapping[str, Any], file: str = "config.json") -> ModelConfig:
    """`read_config` for a config that is already in memory; ``file`` names it in errors."""
    if not isinstance(raw, Mapping):
        raise CheckpointError(f"{file} holds no JSON object, so it is no config. Download the model again.")
    if "quantization_config" in raw:
        raise CheckpointError(
            f"{file} is of a quantised model, which this version cannot read. Use the model in bf16 or fp16."
        )
    assumed: list[str] = []
    top = _Section(raw, "", _TOP_DEFAULTS, file, assumed)
    top.require("model_type", "llava")
    top.require("projector_hidden_act", "gelu")
    top.require("multimodal_projector_bias", True)
    top.require("vision_feature_select_strategy", "full")
    vision = _vision(top.section("vision_config", _VISION_DEFAULTS))
    return ModelConfig(
        text=_text(top.section("text_config", _TEXT_DEFAULTS)),
        vision=vision,
        image_token=top.whole("image_token_index", "image_token_id"),
        vision_layers=_feature_layer(top, vision.num_hidden_layers),
        assumed=tuple(assumed),
    )


class _Section:
    """One object of the config, with the defaults of its class and the place to note which were used."""

    def __init__(
        self, raw: Mapping[str, Any], path: str, defaults: Mapping[str, Any], file: str, assumed: list[str]
    ) -> None:
        self.raw, self.path, self.defaults, self.file, self.assumed = raw, path, defaults, file, assumed

    def get(self, *names: str) -> Any:
        """The figure under the first of these names that is there (names changed between library versions)."""
        for name in names:
            if self.raw.get(name) is not None:
                return self.raw[name]
        if names[0] in self.defaults:
            self.assumed.append(f"{self.path}{names[0]} = {self.defaults[names[0]]}")
            return self.defaults[names[0]]
        raise CheckpointError(
            f"{self.file} does not give {self.path}{names[0]}, which is needed to run the model. "
            "Download the model again, or add the figure from the model's page."
        )

    def whole(self, *names: str) -> int:
        value = self.get(*names)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.bad(names[0], value, "a positive whole number")
        return value

    def number(self, *names: str) -> float:
        value = self.get(*names)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
            raise self.bad(names[0], value, "a positive number")
        return float(value)

    def require(self, name: str, supported: object) -> None:
        value = self.get(name)
        if value != supported:
            raise self.bad(name, value, repr(supported))

    def section(self, name: str, defaults: Mapping[str, Any]) -> _Section:
        value = self.get(name)
        if not isinstance(value, Mapping):
            raise self.bad(name, value, "an object")
        return _Section(value, f"{self.path}{name}.", defaults, self.file, self.assumed)

    def whole_or_none(self, name: str) -> int | None:
        """A figure that need not be there."""
        return None if self.raw.get(name) is None else self.whole(name)

    def bad(self, name: str, value: object, supported: str) -> CheckpointError:
        return CheckpointError(
            f"{self.file} has {self.path}{name} = {value!r}; only {supported} is supported by this version."
        )


def _vision(section: _Section) -> VisionConfig:
    section.require("model_type", "siglip_vision_model")
    section.require("hidden_act", "gelu_pytorch_tanh")
    vision = VisionConfig(
        hidden_size=section.whole("hidden_size"),
        intermediate_size=section.whole("intermediate_size"),
        num_hidden_layers=section.whole("num_hidden_layers"),
        num_attention_heads=section.whole("num_attention_heads"),
        image_size=section.whole("image_size"),
        patch_size=section.whole("patch_size"),
        num_channels=section.whole("num_channels"),
        layer_norm_eps=section.number("layer_norm_eps"),
    )
    if vision.hidden_size % vision.num_attention_heads:
        allowed = f"a divisor of hidden_size = {vision.hidden_size}"
        raise section.bad("num_attention_heads", vision.num_attention_heads, allowed)
    if vision.image_size < vision.patch_size:
        raise section.bad("image_size", vision.image_size, f"patch_size = {vision.patch_size} or more")
    if vision.num_channels != 3:
        raise section.bad("num_channels", vision.num_channels, "3 (red, green, blue)")
    return vision


def _text(section: _Section) -> TextConfig:
    section.require("model_type", "llama")
    section.require("hidden_act", "silu")
    for flag in ("attention_bias", "mlp_bias", "tie_word_embeddings"):
        section.require(flag, False)
    hidden, heads = section.whole("hidden_size"), section.whole("num_attention_heads")
    kv_heads = section.whole("num_key_value_heads")
    if heads % kv_heads:
        raise section.bad("num_key_value_heads", kv_heads, f"a divisor of num_attention_heads = {heads}")
    theta, scaling = _rope(section)
    return TextConfig(
        vocab_size=section.whole("vocab_size"),
        hidden_size=hidden,
        intermediate_size=section.whole("intermediate_size"),
        num_hidden_layers=section.whole("num_hidden_layers"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=_head_dim(section, hidden, heads),
        rms_norm_eps=section.number("rms_norm_eps"),
        rope_theta=theta,
        rope_scaling=scaling,
        max_position_embeddings=section.whole_or_none("max_position_embeddings"),
    )


def _head_dim(section: _Section, hidden: int, heads: int) -> int:
    """Many checkpoints do not give it; in every version that means that the heads share ``hidden_size``."""
    given = section.whole_or_none("head_dim")
    if given is None and hidden % heads:
        raise section.bad("num_attention_heads", heads, f"a divisor of hidden_size = {hidden}")
    size = given or hidden // heads
    if size % 2:
        raise section.bad("head_dim", size, "an even number")
    if given is None:
        section.assumed.append(f"{section.path}head_dim = {size}")
    return size


def _rope(section: _Section) -> tuple[float, Llama3Scaling | None]:
    """Rotary settings, under ``rope_theta`` and ``rope_scaling`` (4.x) or ``rope_parameters`` (5.x)."""
    if section.raw.get("rope_parameters") is not None:
        rope = section.section("rope_parameters", {})
        theta = rope.number("rope_theta")
    else:
        theta = section.number("rope_theta")
        if section.raw.get("rope_scaling") is None:
            return theta, None
        rope = section.section("rope_scaling", {})
    # Version 5 may leave the type out of what is only a theta; a scaling without its type has no meaning.
    kind = "default" if rope.raw.keys() <= {"rope_theta"} else rope.get("rope_type", "type")
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise rope.bad("rope_type", kind, "'default' or 'llama3'")
    return theta, Llama3Scaling(
        factor=rope.number("factor"),
        low_freq_factor=rope.number("low_freq_factor"),
        high_freq_factor=rope.number("high_freq_factor"),
        original_max_position_embeddings=rope.whole("original_max_position_embeddings"),
    )


def _feature_layer(top: _Section, layers: int) -> int:
    """How many vision layers run: of the library's hidden states, 0 is the embedding and -1 the last layer's output."""
    index = top.get("vision_feature_layer")
    if isinstance(index, bool) or not isinstance(index, int) or not -layers <= index <= layers:
        raise top.bad("vision_feature_layer", index, f"one layer from {-layers} to {layers}")
    return index if index >= 0 else layers + 1 + index
