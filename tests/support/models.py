"""Small random checkpoints of the real classes, made and saved by whichever transformers is installed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from packaging.version import Version
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from joycaption.engine import Engine, Prompt
from joycaption.model.checkpoint import load_weights, own_name
from joycaption.model.config import read_config
from joycaption.model.llama import RopeTable, causal
from joycaption.model.llava import Llava
from joycaption.types import Sampling

MODERN = Version(transformers.__version__) >= Version("4.56")  # where torch_dtype became dtype

SPECIAL = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>",
    "<|finetune_right_pad_id|>", "<|reserved_special_token_69|>", "<|reserved_special_token_70|>",
    "<|reserved_special_token_71|>",
)  # fmt: skip
IMAGE_TOKEN = 256 + SPECIAL.index("<|reserved_special_token_69|>")
STOP_TOKENS = tuple(256 + SPECIAL.index(token) for token in ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"))


@dataclass(frozen=True)
class Shape:
    """Figures of a small LLaVA. The vocabulary is 256 bytes, the special tokens, and filler that is never typed."""

    vision_hidden: int = 32
    vision_layers: int = 3
    vision_heads: int = 2
    image_size: int = 28
    patch_size: int = 14
    hidden: int = 64
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    vocabulary: int = 512
    vision_use_head: bool = False
    scaled_rope: bool = True


TINY = Shape()
# About 26 million weights and 64 picture tokens.
RANDOM_26M = Shape(
    vision_hidden=256, vision_layers=5, vision_heads=4, image_size=112, hidden=512, layers=10, heads=8, kv_heads=2,
    head_dim=64,
)  # fmt: skip


def library_config(shape: Shape = TINY) -> Any:
    """The transformers config of a shape, for any supported version."""
    rope = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    return transformers.LlavaConfig(
        vision_config=transformers.SiglipVisionConfig(
            hidden_size=shape.vision_hidden,
            intermediate_size=2 * shape.vision_hidden,
            num_hidden_layers=shape.vision_layers,
            num_attention_heads=shape.vision_heads,
            image_size=shape.image_size,
            patch_size=shape.patch_size,
            vision_use_head=shape.vision_use_head,
        ),
        text_config=transformers.LlamaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.hidden,
            intermediate_size=2 * shape.hidden,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            rms_norm_eps=1e-5,
            max_position_embeddings=4096,
            rope_theta=500000.0,
            rope_scaling=rope if shape.scaled_rope else None,
            bos_token_id=256,
            eos_token_id=list(STOP_TOKENS),
            pad_token_id=262,
            tie_word_embeddings=False,
        ),
        image_token_index=IMAGE_TOKEN,
        projector_hidden_act="gelu",
        vision_feature_layer=-2,
        vision_feature_select_strategy="full",
        image_seq_length=(shape.image_size // shape.patch_size) ** 2,
        tie_word_embeddings=False,
    )


def random_library_model(shape: Shape = TINY, seed: int = 0, spread: float = 0.2) -> Any:
    """A transformers model with weights wide enough that greedy text varies; the same in every version."""
    model = transformers.LlavaForConditionalGeneration(library_config(shape))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.Generator().manual_seed(zlib.crc32(f"{seed} {own_name(name)}".encode()))
            weights = torch.randn(parameter.shape, generator=noise)
            is_norm = "norm" in name and name.endswith("weight")
            parameter.copy_(1 + weights * 0.1 if is_norm else weights * spread)
    return model.float().eval()


def byte_tokenizer(vocabulary: int = 512) -> Tokenizer:
    """One token for each byte, the special tokens behind them, filler up to ``vocabulary``."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    filler = (f"<|filler_{index}|>" for index in range(vocabulary - 256 - len(SPECIAL)))
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in (*SPECIAL, *filler)])
    return tokenizer


TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{% if message['role'] == 'user' %}<|reserved_special_token_70|><|reserved_special_token_69|>"
    "<|reserved_special_token_71|>{% endif %}{{ message['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


def save_tokenizer(folder: Path, vocabulary: int = 512) -> None:
    byte_tokenizer(vocabulary).save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>",
        "pad_token": "<|finetune_right_pad_id|>", "chat_template": TEMPLATE, "clean_up_tokenization_spaces": False,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def save_checkpoint(
    folder: Path, shape: Shape = TINY, seed: int = 0, change: Callable[[Any], object] | None = None, **options: Any
) -> Any:
    """Write a whole model folder as transformers does, and return the library's model; ``change`` sees it before."""
    folder.mkdir(parents=True, exist_ok=True)
    model = random_library_model(shape, seed)
    if change is not None:
        change(model)
    model.save_pretrained(folder, **options)
    save_tokenizer(folder, shape.vocabulary)
    return model


def load_own_model(folder: Path, dtype: torch.dtype = torch.float32) -> Llava:
    """The same folder through this project's loader."""
    return load_weights(folder, read_config(folder), device=torch.device("cpu"), dtype=dtype)


def random_prompt(shape: Shape, seed: int, before: int = 3, after: int = 5, new_tokens: int = 40) -> Prompt:
    """A picture of noise between ``before`` and ``after`` bytes of noise; greedy."""
    noise = torch.Generator().manual_seed(seed)
    text = torch.randint(0, 256, (before + after,), generator=noise).tolist()
    patches = (shape.image_size // shape.patch_size) ** 2
    pixels = torch.rand(3, shape.image_size, shape.image_size, generator=noise) * 2 - 1
    tokens = [256, *text[:before], *[IMAGE_TOKEN] * patches, *text[before:]]
    return Prompt(tokens, pixels, Sampling.greedy(new_tokens), seed)


def load_library_model(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """``from_pretrained`` under the name that this version has for the number format."""
    form = {"dtype" if MODERN else "torch_dtype": dtype}
    return transformers.LlavaForConditionalGeneration.from_pretrained(folder, **form).eval()


def library_greedy(model: Any, tokens: list[int], pixels: torch.Tensor, new_tokens: int) -> list[int]:
    """New token ids from the library's own greedy loop, the stop token included."""
    ids = torch.tensor([tokens])
    output = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        pixel_values=pixels[None].to(next(model.parameters()).dtype),
        max_new_tokens=new_tokens,
        do_sample=False,
        temperature=None,
        top_p=None,
        eos_token_id=list(STOP_TOKENS),
        pad_token_id=262,
    )
    return output[0, len(tokens) :].tolist()


def engine_tokens(model: Llava, prompts: list[Prompt], slots: int) -> list[list[int]]:
    """New token ids of each prompt from this project's engine, the stop token included."""
    engine = Engine(model, slots=slots, stop_tokens=frozenset(STOP_TOKENS))
    tokens: dict[int, list[int]] = {engine.add(prompt): [] for prompt in prompts}
    while not engine.idle:
        for step in engine.step():
            assert step.error is None, step.error
            tokens[step.id].append(step.token)
    return list(tokens.values())


@torch.inference_mode()
def library_logits(library: Any, prompt: Prompt) -> torch.Tensor:
    """[length, vocabulary] in fp32, from one forward pass."""
    ids = torch.tensor([list(prompt.tokens)])
    pixels = prompt.pixels[None].to(next(library.parameters()).dtype)
    logits: torch.Tensor = library(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pixels).logits
    return logits[0].float()


@torch.inference_mode()
def whole_logits(model: Llava, prompt: Prompt) -> torch.Tensor:
    """The same from our modules."""
    parameter = next(model.parameters())
    picture = model.encode_pictures(prompt.pixels[None].to(parameter))[0]
    embedded = model.embed_prompt(torch.tensor(prompt.tokens), picture)[None]
    rope = RopeTable(model.config.text, len(prompt.tokens), device=parameter.device, dtype=parameter.dtype)
    hidden = model.language_model(embedded, rope.span(0, len(prompt.tokens)), causal)
    logits: torch.Tensor = model.lm_head(hidden)[0]
    return logits.float()
