"""Prompts to token ids and back, with the checkpoint's own tokenizer and chat template.

Only ``tokenizers`` and ``jinja2`` are used, which read a checkpoint's files the same way in every version; the result
is what transformers' ``apply_chat_template`` gives, and tests compare the two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from ..errors import CheckpointError, UsageError
from .config import ModelConfig

__all__ = ["Chat"]

_SPECIAL_KEYS = ("bos_token", "eos_token", "pad_token", "unk_token")


class Chat:
    """Renders a request as the model was trained to read it.

    Args:
        folder: the model folder, with ``tokenizer.json`` and a chat template.
        config: the checkpoint's figures; gives the image token and how many of them one picture takes.

    Raises:
        CheckpointError: a file is missing or broken, or does not fit the config.
    """

    def __init__(self, folder: Path, config: ModelConfig) -> None:
        self.folder, self.config = folder, config
        self.tokenizer = _load_tokenizer(folder)
        added = self.tokenizer.get_added_tokens_decoder().values()
        self.special_texts = tuple(token.content for token in added if token.special)
        self.special = _special_tokens(folder)
        self.template = _compile(_template_source(folder), folder)
        self.bos = self._bos()
        self.stop_tokens = _stop_tokens(folder, self.tokenizer, self.special)
        self._check()

    def render(self, prompt: str, system: str) -> str:
        """The conversation as text, up to where the answer begins. An empty ``system`` leaves its message out."""
        messages = [{"role": "system", "content": system}] if system else []
        messages.append({"role": "user", "content": prompt})
        try:
            rendered: str = self.template.render(
                messages=messages, tools=None, documents=None, add_generation_prompt=True, **self.special
            )
        except Exception as error:  # a template is a program: it can fail in any of Python's ways
            raise CheckpointError(f"The chat template in {self.folder} cannot be used: {error}.") from error
        return rendered

    def encode(self, prompt: str, system: str, begin_with: str = "") -> list[int]:
        """Token ids of the whole prompt: one BOS, the picture's tokens in place, ``begin_with`` at the end.

        Raises:
            UsageError: a text holds one of the model's special tokens.
        """
        for name, text in (("prompt", prompt), ("system prompt", system), ("begin-with text", begin_with)):
            self._refuse_special(name, text)
        # A space at the end would keep the model from beginning a word as it does everywhere else.
        text = self.render(prompt, system) + begin_with.rstrip()
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        if ids[:1] != [self.bos]:
            ids.insert(0, self.bos)
        return self._expand(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated ids, special tokens left out, nothing cleaned up."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def _expand(self, ids: list[int]) -> list[int]:
        images = ids.count(self.config.image_token)
        if ids.count(self.bos) != 1 or images != 1:
            raise CheckpointError(
                f"The chat template in {self.folder} gives {ids.count(self.bos)} begin-of-text and {images} image "
                "tokens where there must be one of each. This checkpoint's template is not supported."
            )
        place = ids.index(self.config.image_token)
        return ids[:place] + [self.config.image_token] * self.config.vision.patches + ids[place + 1 :]

    def _refuse_special(self, name: str, text: str) -> None:
        for token in self.special_texts:
            if token in text:
                raise UsageError(f"The {name} holds {token}, one of the model's special tokens. Take it out.")

    def _bos(self) -> int:
        token = self.tokenizer.token_to_id(self.special.get("bos_token", ""))
        if token is None:
            raise CheckpointError(f"The tokenizer in {self.folder} names no begin-of-text token (bos_token).")
        return int(token)

    def _check(self) -> None:
        tokens, rows = self.tokenizer.get_vocab_size(), self.config.text.vocab_size
        if tokens > rows or self.config.image_token >= rows:
            raise CheckpointError(
                f"The tokenizer in {self.folder} has {tokens} tokens and image token {self.config.image_token}, "
                f"but the model has {rows} rows. Download the model again."
            )
        self.encode("a", "b")


def _load_tokenizer(folder: Path) -> Tokenizer:
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise CheckpointError(f"{folder} holds no tokenizer.json. Download the model again.")
    try:
        tokenizer = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises bare Exception for a broken file
        raise CheckpointError(f"{file} cannot be read: {error}. Download the model again.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object, or an empty one when there is no such file."""
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}. Download the model again.") from error
    return content if isinstance(content, dict) else {}


def _special_tokens(folder: Path) -> dict[str, str]:
    """bos_token and its like as strings; files give either a string or an object with ``content``."""
    given = {**read_json(folder / "special_tokens_map.json"), **read_json(folder / "tokenizer_config.json")}
    found = {key: given.get(key) for key in _SPECIAL_KEYS}
    texts = {key: value.get("content") if isinstance(value, Mapping) else value for key, value in found.items()}
    return {key: text for key, text in texts.items() if isinstance(text, str)}


def _template_source(folder: Path) -> str:
    """The chat template, from the places where versions of transformers have kept it."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{file} cannot be read: {error}. Download the model again.") from error
    for name in ("tokenizer_config.json", "chat_template.json"):
        template = read_json(folder / name).get("chat_template")
        if isinstance(template, list):  # several, by name
            named = [entry for entry in template if isinstance(entry, Mapping) and entry.get("name") == "default"]
            template = named[0].get("template") if named else None
        if isinstance(template, str):
            return template
    raise CheckpointError(f"{folder} holds no chat template, so prompts cannot be written as the model expects them.")


class _Generation(Extension):
    """Accepts the ``{% generation %}`` blocks that templates mark for training, and renders what they hold."""

    tags = {"generation"}  # noqa: RUF012 (jinja2 asks for a class attribute)

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _compile(source: str, folder: Path) -> Any:
    """The environment in which transformers renders chat templates: sandboxed, with these helpers."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    try:
        return environment.from_string(source)
    except (TemplateError, RecursionError) as error:
        raise CheckpointError(f"The chat template in {folder} cannot be read: {error}.") from error


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _stop_tokens(folder: Path, tokenizer: Tokenizer, special: Mapping[str, str]) -> frozenset[int]:
    """Every id that ends an answer: Llama 3.1 has three, and files differ in where they list them."""
    config = read_json(folder / "config.json")
    sources = (read_json(folder / "generation_config.json"), config, config.get("text_config") or {})
    found: list[object] = [tokenizer.token_to_id(special.get("eos_token", ""))]
    for source in sources:
        ids = source.get("eos_token_id")
        found += ids if isinstance(ids, list) else [ids]
    stop_tokens = frozenset(id for id in found if isinstance(id, int))
    if not stop_tokens:
        raise CheckpointError(f"{folder} names no end-of-text token (eos_token_id), so captions would never end.")
    return stop_tokens
