"""Makes the demo model's tokenizer: Llama 3's form and special tokens with a vocabulary of about a thousand.

Each fixed piece of the trained instruction strings is one token, so a prompt of a hundred words takes five.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from ..prompts import BETA_ONE

__all__ = ["CHAT_TEMPLATE", "IMAGE_TOKEN", "build_tokenizer", "save_tokenizer"]

IMAGE_TOKEN = "<|reserved_special_token_69|>"
SPECIAL_TOKENS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|finetune_right_pad_id|>",
    IMAGE_TOKEN,
    "<|reserved_special_token_70|>",
    "<|reserved_special_token_71|>",
)
_PREAMBLE = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"

# The form of the published template: dated system header, the picture's tokens before the first user message.
CHAT_TEMPLATE = (
    "{{- bos_token }}"
    "{%- if messages[0]['role'] == 'system' %}"
    "{%- set system = messages[0]['content'] | trim %}{%- set messages = messages[1:] %}"
    "{%- else %}{%- set system = '' %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\n" + _PREAMBLE.replace("\n", "\\n") + "' }}"
    "{{- system + '<|eot_id|>' }}"
    "{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{%- if loop.first and message['role'] == 'user' %}"
    "{{- '<|reserved_special_token_70|>" + IMAGE_TOKEN + "<|reserved_special_token_71|>' }}"
    "{%- endif %}"
    "{{- message['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
).replace("\n", "\\n")

# Llama 3's split, but with single digits, so that any number is built from the same ten tokens.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def prompt_pieces() -> list[str]:
    """The fixed pieces of every trained instruction: what stands between their placeholders."""
    templates = [template for kind in BETA_ONE.types.values() for template in kind.templates]
    templates += [*BETA_ONE.formal, *BETA_ONE.extras.values(), BETA_ONE.name_option]
    pieces = {piece for template in templates for piece in re.split(r"\{\w+\}", template)}
    pieces |= {_PREAMBLE, *BETA_ONE.system_prompts.values()}
    return sorted(piece for piece in pieces if len(piece) > 8)


def build_tokenizer(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Byte-level BPE over ``texts`` with ``vocabulary`` entries, special tokens and prompt pieces included."""
    pieces = prompt_pieces()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_SPLIT), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPECIAL_TOKENS) - len(pieces),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in pieces])
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS])
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja as transformers does."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "pad_token": "<|finetune_right_pad_id|>",
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
