"""Figures from config.json: every library version's form, what may be absent, and what is refused."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import transformers
from support.models import Shape, library_config

from joycaption.errors import CheckpointError
from joycaption.model import config as config_module
from joycaption.model.config import Llama3Scaling, parse_config, read_config

ROPE = {
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}

# Beta One's figures, in the form that transformers 4.46 to 4.57 save.
BETA_ONE: dict[str, Any] = {
    "architectures": ["LlavaForConditionalGeneration"],
    "image_seq_length": 729,
    "image_token_index": 128077,
    "model_type": "llava",
    "multimodal_projector_bias": True,
    "projector_hidden_act": "gelu",
    "text_config": {
        "attention_bias": False,
        "bos_token_id": 128000,
        "eos_token_id": [128001, 128008, 128009],
        "head_dim": 128,
        "hidden_act": "silu",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": 32,
        "num_hidden_layers": 32,
        "num_key_value_heads": 8,
        "pretraining_tp": 1,
        "rms_norm_eps": 1e-05,
        "rope_scaling": ROPE,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "vocab_size": 128256,
    },
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.50.3",
    "vision_config": {
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": 1152,
        "image_size": 384,
        "intermediate_size": 4304,
        "layer_norm_eps": 1e-06,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 16,
        "num_channels": 3,
        "num_hidden_layers": 27,
        "patch_size": 14,
        "vision_use_head": True,
    },
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "full",
}


def beta_one(**changes: Any) -> dict[str, Any]:
    """Beta One's config with figures changed (``section__name=value``); ``...`` takes one out."""
    config = deepcopy(BETA_ONE)
    for path, value in changes.items():
        *sections, name = path.split("__")
        place = config
        for section in sections:
            place = place[section]
        if value is ...:
            del place[name]
        else:
            place[name] = value
    return config


def version_5(rope: Any) -> dict[str, Any]:
    """The same config as version 5 saves it."""
    config = beta_one(text_config__rope_scaling=..., text_config__rope_theta=..., torch_dtype=...)
    config["text_config"]["rope_parameters"] = rope
    config["dtype"] = "bfloat16"
    return config


def test_every_figure_is_read() -> None:
    read = parse_config(BETA_ONE)
    assert read.image_token == 128077
    assert read.vision_layers == 26  # -2 is the output before the last of 27 layers
    text, vision = read.text, read.vision
    assert (text.vocab_size, text.hidden_size, text.intermediate_size) == (128256, 4096, 14336)
    assert (text.num_hidden_layers, text.num_attention_heads, text.num_key_value_heads) == (32, 32, 8)
    assert (text.head_dim, text.rms_norm_eps, text.max_position_embeddings) == (128, 1e-5, 131072)
    assert (text.rope_theta, text.rope_scaling) == (500000.0, Llama3Scaling(8.0, 1.0, 4.0, 8192))
    assert (vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers) == (1152, 4304, 27)
    assert (vision.num_attention_heads, vision.image_size, vision.patch_size) == (16, 384, 14)
    assert (vision.num_channels, vision.layer_norm_eps, vision.patches) == (3, 1e-6, 729)
    assert read.assumed == ()


def test_both_forms_of_the_rotary_settings() -> None:
    assert parse_config(version_5({**ROPE, "rope_theta": 500000.0})) == parse_config(BETA_ONE)


def test_the_oldest_name_of_the_scaling_type() -> None:
    rope = {**{key: value for key, value in ROPE.items() if key != "rope_type"}, "type": "llama3"}
    assert parse_config(beta_one(text_config__rope_scaling=rope)) == parse_config(BETA_ONE)


@pytest.mark.parametrize(
    "config",
    [
        beta_one(text_config__rope_scaling=...),
        beta_one(text_config__rope_scaling=None),
        beta_one(text_config__rope_scaling={"rope_type": "default"}),
        version_5({"rope_theta": 500000.0}),
        version_5({"rope_theta": 500000.0, "rope_type": "default"}),
    ],
    ids=["absent", "null", "default", "version 5, no type", "version 5, default"],
)
def test_no_scaling(config: dict[str, Any]) -> None:
    read = parse_config(config)
    assert read.text.rope_theta == 500000.0
    assert read.text.rope_scaling is None


@pytest.mark.oracle
@pytest.mark.parametrize(
    "shape",
    [Shape(), Shape(scaled_rope=False), Shape(head_dim=24, kv_heads=1), Shape(image_size=42, vision_use_head=True)],
    ids=str,
)
def test_what_the_installed_transformers_saves(tmp_path: Path, shape: Shape) -> None:
    library_config(shape).save_pretrained(tmp_path)
    read = read_config(tmp_path)
    assert (read.text.hidden_size, read.text.num_hidden_layers, read.text.vocab_size) == (64, 3, 512)
    assert (read.text.num_attention_heads, read.text.num_key_value_heads) == (4, shape.kv_heads)
    assert read.text.head_dim == shape.head_dim
    assert read.text.rope_theta == 500000.0
    assert read.text.rope_scaling == (Llama3Scaling(8.0, 1.0, 4.0, 64) if shape.scaled_rope else None)
    assert (read.text.rms_norm_eps, read.text.max_position_embeddings) == (1e-5, 4096)
    assert (read.vision.hidden_size, read.vision.image_size, read.vision.patch_size) == (32, shape.image_size, 14)
    assert (read.vision.num_hidden_layers, read.vision_layers) == (3, 2)


# -- Figures that the file may leave out --------------------------------------------------------------------------

DEFAULTS = {
    "": (config_module._TOP_DEFAULTS, "LlavaConfig"),
    "text_config.": (config_module._TEXT_DEFAULTS, "LlamaConfig"),
    "vision_config.": (config_module._VISION_DEFAULTS, "SiglipVisionConfig"),
}


@pytest.mark.oracle
@pytest.mark.parametrize("path", DEFAULTS)
def test_our_defaults_are_the_installed_transformers_s(path: str) -> None:
    defaults, kind = DEFAULTS[path]
    library = getattr(transformers, kind)()
    assert defaults == {name: getattr(library, name) for name in defaults}


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [(path, name, value) for path, (defaults, _) in DEFAULTS.items() for name, value in defaults.items()],
)
def test_a_figure_left_to_its_class_s_default_is_listed(path: str, name: str, value: object) -> None:
    key = path.replace(".", "__") + name
    spelled_out = beta_one(**{key: value})
    read, full = parse_config(beta_one(**{key: ...})), parse_config(spelled_out)
    assert read.assumed == (f"{path}{name} = {value}",)
    assert full.assumed == ()
    assert (read.text, read.vision, read.vision_layers) == (full.text, full.vision, full.vision_layers)


@pytest.mark.parametrize("absent", [..., None])
def test_head_size_from_the_width(absent: object) -> None:
    read = parse_config(beta_one(text_config__head_dim=absent))
    assert read.text.head_dim == 128
    assert read.assumed == ("text_config.head_dim = 128",)


def test_a_context_limit_may_be_absent() -> None:
    assert parse_config(beta_one(text_config__max_position_embeddings=...)).text.max_position_embeddings is None


# -- Figures that must be there -----------------------------------------------------------------------------------

NEEDED = [
    "model_type", "image_token_index", "vision_feature_select_strategy", "text_config", "vision_config",
    "text_config.model_type", "text_config.vocab_size", "text_config.intermediate_size",
    "text_config.num_key_value_heads", "text_config.rope_theta",
    "text_config.rope_scaling.rope_type", "text_config.rope_scaling.factor",
    "text_config.rope_scaling.low_freq_factor", "text_config.rope_scaling.high_freq_factor",
    "text_config.rope_scaling.original_max_position_embeddings",
    "vision_config.model_type", "vision_config.hidden_size", "vision_config.intermediate_size",
    "vision_config.num_hidden_layers", "vision_config.num_attention_heads", "vision_config.image_size",
    "vision_config.patch_size",
]  # fmt: skip


@pytest.mark.parametrize("absent", [..., None], ids=["absent", "null"])
@pytest.mark.parametrize("name", NEEDED)
def test_a_needed_figure_that_is_absent_is_named(name: str, absent: object) -> None:
    with pytest.raises(CheckpointError) as error:
        parse_config(beta_one(**{name.replace(".", "__"): absent}), "/models/mine/config.json")
    assert str(error.value).startswith(f"/models/mine/config.json does not give {name},")


@pytest.mark.parametrize("name", ["rope_theta", "factor", "original_max_position_embeddings"])
def test_an_absent_rotary_figure_of_version_5_is_named(name: str) -> None:
    rope = {key: value for key, value in {**ROPE, "rope_theta": 500000.0}.items() if key != name}
    with pytest.raises(CheckpointError, match=rf"does not give text_config\.rope_parameters\.{name},"):
        parse_config(version_5(rope))


# -- Values that are not supported --------------------------------------------------------------------------------

UNSUPPORTED = [
    ("model_type", "llava_next"),
    ("projector_hidden_act", "relu"),
    ("multimodal_projector_bias", False),
    ("vision_feature_select_strategy", "default"),
    ("vision_feature_layer", 28),
    ("vision_feature_layer", -28),
    ("vision_feature_layer", [-2, -5]),
    ("vision_feature_layer", True),
    ("vision_feature_layer", "-2"),
    ("image_token_index", "<image>"),
    ("image_token_index", 128077.0),
    ("image_token_index", -1),
    ("text_config", []),
    ("text_config", "meta-llama/Llama-3.1-8B"),
    ("vision_config", 27),
    ("text_config.model_type", "qwen2"),
    ("text_config.hidden_act", "gelu"),
    ("text_config.attention_bias", True),
    ("text_config.mlp_bias", True),
    ("text_config.tie_word_embeddings", True),
    ("text_config.num_attention_heads", 0),
    ("text_config.num_attention_heads", True),
    ("text_config.num_key_value_heads", 5),
    ("text_config.num_key_value_heads", 64),
    ("text_config.head_dim", "128"),
    ("text_config.head_dim", 127),
    ("text_config.head_dim", 0),
    ("text_config.max_position_embeddings", "131072"),
    ("text_config.max_position_embeddings", -1),
    ("text_config.rms_norm_eps", 0),
    ("text_config.rms_norm_eps", float("nan")),
    ("text_config.rms_norm_eps", [1e-5]),
    ("text_config.rope_theta", float("inf")),
    ("text_config.rope_theta", "500000"),
    ("text_config.rope_scaling", "llama3"),
    ("text_config.rope_scaling", [8.0]),
    ("text_config.rope_scaling.rope_type", "yarn"),
    ("text_config.rope_scaling.rope_type", ["llama3"]),
    ("text_config.rope_scaling.factor", "8"),
    ("text_config.rope_scaling.original_max_position_embeddings", 8192.5),
    ("vision_config.model_type", "clip_vision_model"),
    ("vision_config.hidden_act", "quick_gelu"),
    ("vision_config.hidden_size", 1150),
    ("vision_config.image_size", [384, 384]),
    ("vision_config.image_size", 13),
    ("vision_config.num_channels", 1),
]


@pytest.mark.parametrize(("name", "value"), UNSUPPORTED, ids=str)
def test_an_unsupported_value_is_named(name: str, value: object) -> None:
    with pytest.raises(CheckpointError) as error:
        parse_config(beta_one(**{name.replace(".", "__"): value}), "/models/mine/config.json")
    message = str(error.value)
    assert message.startswith("/models/mine/config.json has ")
    assert "is supported by this version" in message
    if name == "vision_config.hidden_size":  # which of the two is wrong nobody knows; both are named
        assert "num_attention_heads = 16" in message
        assert "hidden_size = 1150" in message
    else:
        assert f"has {name} = {value!r};" in message


@pytest.mark.parametrize("rope", ["llama3", [1], {"rope_theta": 500000.0, "rope_type": "dynamic"}])
def test_unsupported_rotary_settings_of_version_5(rope: object) -> None:
    with pytest.raises(CheckpointError, match=r"has text_config\.rope_parameters"):
        parse_config(version_5(rope))


def test_a_scaling_without_its_type_is_not_taken_for_none() -> None:
    with pytest.raises(CheckpointError, match=r"does not give text_config\.rope_parameters\.rope_type,"):
        parse_config(version_5({"rope_theta": 500000.0, "factor": 8.0}))


def test_heads_that_do_not_share_the_width_evenly() -> None:
    with pytest.raises(CheckpointError, match=r"text_config\.num_attention_heads = 24; only a divisor of hidden_size"):
        parse_config(beta_one(text_config__head_dim=..., text_config__num_attention_heads=24))


# -- Files --------------------------------------------------------------------------------------------------------


def test_no_config(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no config\.json"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe\x00", json.dumps(BETA_ONE).encode()[:-10], b"[" * 100_000], ids=range(5)
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        read_config(tmp_path)


@pytest.mark.parametrize("content", ["[]", "null", '"llava"', "3"])
def test_json_of_another_kind(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match="no JSON object"):
        read_config(tmp_path)


def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        read_config(tmp_path)
