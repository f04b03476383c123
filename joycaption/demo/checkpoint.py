"""The demo model's files, in the layout and the config classes of the published checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from ..model.checkpoint import SINGLE_FILE, published_tensors
from ..model.llava import Llava
from .tokenizer import IMAGE_TOKEN, save_tokenizer

__all__ = ["demo_config", "save_demo"]


def demo_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """The miniature's config.json: 64 picture tokens, 4 of 5 vision layers used, 4 language layers."""
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": tokenizer.token_to_id(IMAGE_TOKEN),
        "image_seq_length": 64,
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": True,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "full",
        "tie_word_embeddings": False,
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 192,
            "intermediate_size": 768,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "image_size": 128,
            "patch_size": 16,
            "num_channels": 3,
            "layer_norm_eps": 1e-6,
            "hidden_act": "gelu_pytorch_tanh",
            "vision_use_head": False,
        },
        "text_config": {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 48,
            "rms_norm_eps": 1e-5,
            "hidden_act": "silu",
            "max_position_embeddings": 4096,
            "rope_theta": 10000.0,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 2048,
            },
            "bos_token_id": tokenizer.token_to_id("<|begin_of_text|>"),
            "eos_token_id": [tokenizer.token_to_id(token) for token in ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")],
            "pad_token_id": tokenizer.token_to_id("<|finetune_right_pad_id|>"),
            "tie_word_embeddings": False,
        },
    }


def save_demo(model: Llava, config: dict[str, Any], tokenizer: Tokenizer, folder: Path) -> None:
    """Write weights (bf16), config, generation config, processor config and tokenizer."""
    tensors = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in published_tensors(model).items()}
    save_file({**tensors, **_unused_layer(config)}, folder / SINGLE_FILE, metadata={"format": "pt"})
    text = config["text_config"]
    generation = {key: text[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    size = {"height": config["vision_config"]["image_size"], "width": config["vision_config"]["image_size"]}
    pixels = {
        "image_processor_type": "SiglipImageProcessor",
        "do_resize": True,
        "size": size,
        "resample": 1,  # LANCZOS, in Pillow's numbering
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    for name, content in (
        ("config.json", {**config, "torch_dtype": "bfloat16"}),
        ("generation_config.json", generation),
        ("preprocessor_config.json", pixels),
    ):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    save_tokenizer(tokenizer, folder)


def _unused_layer(config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The last vision layer and the post-norm. No caption depends on them, but the published layout has them."""
    width, inner = config["vision_config"]["hidden_size"], config["vision_config"]["intermediate_size"]
    shapes = {
        "layer_norm1": (width,),
        "layer_norm2": (width,),
        "self_attn.q_proj": (width, width),
        "self_attn.k_proj": (width, width),
        "self_attn.v_proj": (width, width),
        "self_attn.out_proj": (width, width),
        "mlp.fc1": (inner, width),
        "mlp.fc2": (width, inner),
    }
    last = config["vision_config"]["num_hidden_layers"] - 1
    prefix = "vision_tower.vision_model"
    tensors = {}
    for name, shape in [*((f"encoder.layers.{last}.{n}", s) for n, s in shapes.items()), ("post_layernorm", (width,))]:
        tensors[f"{prefix}.{name}.weight"] = torch.zeros(shape, dtype=torch.bfloat16)
        tensors[f"{prefix}.{name}.bias"] = torch.zeros(shape[0], dtype=torch.bfloat16)
    return tensors
