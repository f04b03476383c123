"""A stand-in for Llama 3.1's tokenizer: as many ids, its special tokens at their ids, and a template of its form."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

VOCABULARY = 128_256
ORDINARY = 128_000
BOS, END_OF_TEXT, START_HEADER, END_HEADER, EOM, EOT = 128000, 128001, 128006, 128007, 128008, 128009
IMAGE, BEFORE_IMAGE, AFTER_IMAGE = 128077, 128078, 128079

_NAMED = {
    BOS: "<|begin_of_text|>",
    END_OF_TEXT: "<|end_of_text|>",
    128004: "<|finetune_right_pad_id|>",
    START_HEADER: "<|start_header_id|>",
    END_HEADER: "<|end_header_id|>",
    EOM: "<|eom_id|>",
    EOT: "<|eot_id|>",
    128010: "<|python_tag|>",
}
# Pairs that become one token, so that ids depend on how the text is cut up.
_MERGES = ["t h", "th e", "Ġ the", "i n", "in g", "Ġ a", "e r", "o n", "Ġ s", "r e", "Ġ i", "a s", "Ċ Ċ"]


def special_tokens() -> list[str]:
    """In the order of their ids, 128,000 to 128,255; the reserved ones are numbered in the gaps."""
    free = (id for id in range(ORDINARY, VOCABULARY) if id not in _NAMED)
    reserved = {id: f"<|reserved_special_token_{number}|>" for number, id in enumerate(free)}
    return [{**_NAMED, **reserved}[id] for id in range(ORDINARY, VOCABULARY)]


def tokenizer() -> Tokenizer:
    """Byte-level BPE: 256 bytes, a few merges, then tokens that no text gives, then the special ones."""
    merges = [(left, right) for left, right in (pair.split(" ") for pair in _MERGES)]
    ordinary = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    ordinary += [f"filler {number}" for number in range(ORDINARY - len(ordinary))]
    made = Tokenizer(models.BPE(vocab={token: id for id, token in enumerate(ordinary)}, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special_tokens()])
    made.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", BOS)]
    )
    return made


TEMPLATE = """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {{- "<|start_header_id|>" + message['role'] + "<|end_header_id|>\\n\\n" }}
    {%- if message['role'] == 'user' and loop.first %}
        {{- "<|reserved_special_token_70|><|reserved_special_token_69|><|reserved_special_token_71|>" }}
        {{- message['content'].lstrip() + "<|eot_id|>" }}
    {%- else %}
        {{- message['content'] + "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|start_header_id|>assistant<|end_header_id|>\\n\\n" }}
{%- endif %}
"""


def save(folder: Path, template: str | None = TEMPLATE) -> None:
    """``tokenizer.json``, ``tokenizer_config.json`` and, with a template, ``chat_template`` within the latter."""
    tokenizer().save(str(folder / "tokenizer.json"), pretty=False)
    config: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "pad_token": "<|finetune_right_pad_id|>",
        "clean_up_tokenization_spaces": True,
        "model_max_length": 131072,
    }
    if template is not None:
        config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
