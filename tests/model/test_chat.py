"""Prompts to ids and back, on a tokenizer of Llama 3.1's size and on a small one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import transformers
from support import llama31
from support.llama31 import AFTER_IMAGE, BEFORE_IMAGE, BOS, EOT, IMAGE
from support.models import IMAGE_TOKEN, STOP_TOKENS, TEMPLATE, library_config, save_tokenizer
from tokenizers import AddedToken, Tokenizer

from joycaption.errors import CheckpointError, UsageError
from joycaption.model.chat import Chat
from joycaption.model.config import parse_config, read_config
from joycaption.prompts import DEFAULT_SYSTEM_PROMPT, build_prompt

PATCHES = 729
BETA_ONE: dict[str, Any] = {
    "model_type": "llava",
    "image_token_index": IMAGE,
    "vision_feature_select_strategy": "full",
    "text_config": {
        "model_type": "llama",
        "vocab_size": llama31.VOCABULARY,
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "rope_theta": 500000.0,
        "eos_token_id": [llama31.END_OF_TEXT, llama31.EOM, EOT],
    },
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 384,
        "patch_size": 14,
    },
}
PROMPTS = {
    "descriptive": build_prompt(),
    "tags": build_prompt("danbooru", "any", tags="1girl, solo"),
    "unicode": "Écrivez une légende 🦊👩‍👩‍👧 für dieses Bild, 写一个标题。 ﷽ \u200b\ufeff",
    "braces": "Use {name} and {{ bos_token }} and {% raw %}{% endif %} and {0} and %s.",
    "newlines": "\n\n  tags, more tags\r\n\r\n\tWrite a caption.  \n",
    "nearly special": "<|eot_id|<|<|begin_of_text |> <|image|> |>",
    "one letter": "a",
    "long": "the thing is on the sea " * 300,
}
ANSWERS = ("", "A photograph of", " leading", "trailing ", "{braces} 🦊", "two\nlines")


@pytest.fixture(scope="module")
def full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama31")
    llama31.save(folder)
    (folder / "config.json").write_text(json.dumps(BETA_ONE), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def chat(full_size: Path) -> Chat:
    return Chat(full_size, parse_config(BETA_ONE))


@pytest.fixture(scope="module")
def library(full_size: Path) -> Any:
    return transformers.PreTrainedTokenizerFast.from_pretrained(full_size)


def library_ids(library: Any, prompt: str, system: str, begin_with: str) -> list[int]:
    """As the library renders and encodes it, the image token repeated as its processor does."""
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": prompt})
    text = library.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) + begin_with
    image = "<|reserved_special_token_69|>"
    ids: list[int] = library.encode(text.replace(image, image * PATCHES), add_special_tokens=False)
    return ids


class TestLlama31:
    def test_the_stand_in_has_llama_s_ids(self) -> None:
        tokenizer = llama31.tokenizer()
        assert tokenizer.get_vocab_size() == 128_256
        known = {
            128000: "<|begin_of_text|>", 128001: "<|end_of_text|>", 128002: "<|reserved_special_token_0|>",
            128006: "<|start_header_id|>", 128007: "<|end_header_id|>", 128008: "<|eom_id|>", 128009: "<|eot_id|>",
            128077: "<|reserved_special_token_69|>", 128255: "<|reserved_special_token_247|>",
        }  # fmt: skip
        assert {id: tokenizer.id_to_token(id) for id in known} == known

    @pytest.mark.oracle
    @pytest.mark.parametrize("system", [DEFAULT_SYSTEM_PROMPT, "", "Sé útil. {x}\n"], ids=["default", "none", "own"])
    @pytest.mark.parametrize("name", PROMPTS)
    def test_ids_are_the_library_s(self, chat: Chat, library: Any, name: str, system: str) -> None:
        ids = chat.encode(PROMPTS[name], system)
        assert ids == library_ids(library, PROMPTS[name], system, "")
        assert ids.count(BOS) == 1 == ids.index(BOS) + 1
        assert ids.count(IMAGE) == PATCHES

    @pytest.mark.oracle
    @pytest.mark.parametrize("begin_with", ANSWERS)
    def test_ids_of_a_given_beginning(self, chat: Chat, library: Any, begin_with: str) -> None:
        ids = chat.encode("Describe.", "Be brief.", begin_with)
        assert ids == library_ids(library, "Describe.", "Be brief.", begin_with.rstrip())

    def test_where_everything_stands(self, chat: Chat) -> None:
        """Llama 3.1's form, written out."""
        expected = (
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
            "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
            "You are a helpful image captioner.<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\n"
            "<|reserved_special_token_70|><|reserved_special_token_69|><|reserved_special_token_71|>"
            "Describe it.<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        )
        assert chat.render("  Describe it.", "You are a helpful image captioner.") == expected
        ids = chat.encode("  Describe it.", "You are a helpful image captioner.", "The")
        picture = ids.index(IMAGE)
        assert ids[picture - 1] == BEFORE_IMAGE
        assert ids[picture : picture + PATCHES] == [IMAGE] * PATCHES
        assert ids[picture + PATCHES] == AFTER_IMAGE
        without_picture = [*ids[:picture], IMAGE, *ids[picture + PATCHES :]]
        assert chat.tokenizer.decode(without_picture, skip_special_tokens=False) == expected + "The"

    def test_the_text_reaches_the_model_unchanged(self, chat: Chat) -> None:
        for prompt in PROMPTS.values():
            ids = chat.encode(prompt, "")
            after = ids[ids.index(AFTER_IMAGE) + 1 :]
            assert chat.tokenizer.decode(after[: after.index(EOT)]) == prompt.lstrip()

    def test_stop_tokens(self, chat: Chat) -> None:
        assert chat.stop_tokens == {llama31.END_OF_TEXT, llama31.EOM, EOT}

    @pytest.mark.parametrize("token", ["<|eot_id|>", "<|reserved_special_token_69|>", "<|reserved_special_token_247|>"])
    @pytest.mark.parametrize("place", ["prompt", "system prompt", "begin-with text"])
    def test_special_tokens_in_a_user_s_text(self, chat: Chat, place: str, token: str) -> None:
        texts = {"prompt": "a", "system prompt": "b", "begin-with text": "c"}
        texts[place] += token
        with pytest.raises(UsageError, match=rf"^The {place} holds {re.escape(token)}, one of the model's special"):
            chat.encode(*texts.values())


# -- A small tokenizer, whose files are changed -------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    library_config().save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    return tmp_path


def small(folder: Path) -> Chat:
    return Chat(folder, read_config(folder))


def change(file: Path, **values: Any) -> None:
    """Set values of a JSON file; ``...`` takes one out."""
    content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    content.update(values)
    kept = {key: value for key, value in content.items() if value is not ...}
    file.write_text(json.dumps(kept), encoding="utf-8")


def use_template(folder: Path, template: str) -> None:
    change(folder / "tokenizer_config.json", chat_template=template)


OTHER = TEMPLATE.replace("assistant", "other")


def in_config(folder: Path) -> None:
    change(folder / "chat_template.json", chat_template=OTHER)


def in_jinja_file(folder: Path) -> None:
    use_template(folder, OTHER)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")


def in_named_list(folder: Path) -> None:
    entries = [{"name": "tool_use", "template": OTHER}, {"name": "default", "template": TEMPLATE}]
    change(folder / "tokenizer_config.json", chat_template=entries)


def in_processor_file(folder: Path) -> None:
    change(folder / "tokenizer_config.json", chat_template=...)
    change(folder / "chat_template.json", chat_template=TEMPLATE)


class TestTemplates:
    @pytest.mark.parametrize("source", [in_config, in_jinja_file, in_named_list, in_processor_file])
    def test_where_templates_are_kept(self, folder: Path, source: Callable[[Path], None]) -> None:
        expected = small(folder).encode("Describe.", "Be brief.")
        source(folder)
        assert small(folder).encode("Describe.", "Be brief.") == expected

    @pytest.mark.oracle
    @pytest.mark.parametrize("template", [TEMPLATE, TEMPLATE.replace("{{ bos_token }}", "")], ids=["with", "without"])
    def test_one_begin_of_text_whether_the_template_writes_it_or_not(self, folder: Path, template: str) -> None:
        use_template(folder, template)
        ids = small(folder).encode("Describe.", "Be brief.")
        library = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Describe."}]
        text = library.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        expected = library.encode(text.removeprefix("<|begin_of_text|>"), add_special_tokens=False)
        image = expected.index(IMAGE_TOKEN)
        assert ids == [256, *expected[:image], *[IMAGE_TOKEN] * 4, *expected[image + 1 :]]

    @pytest.mark.oracle
    def test_helpers_that_templates_may_use(self, folder: Path) -> None:
        """A template of every feature that transformers offers renders as there."""
        use_template(
            folder,
            TEMPLATE
            + "{% for number in range(9) %}{% if number == 2 %}{% continue %}{% endif %}{% if number > 3 %}{% break %}"
            "{% endif %}{{ number }}{% endfor %}\n"
            "  {% if tools is none %}none{% endif %}\n"
            "{{ {'b': 'é<&', 'a': [1, none]} | tojson }}{{ {'b': 1, 'a': 2} | tojson(indent=2, sort_keys=true) }}"
            "{{ [1, 2] | tojson(separators=(',', ':')) }}"
            "{% generation %}{{ strftime_now('%Y') }}{% endgeneration %}"
            "{% if not eos_token == '<|eot_id|>' %}{{ raise_exception('no') }}{% endif %}"
            "{{ messages | map(attribute='role') | join('/') }}{{ namespace(x=1).x }}{{ undefined_name }}",
        )
        library = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
        messages = [{"role": "system", "content": "b"}, {"role": "user", "content": "a"}]
        expected = library.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert small(folder).render("a", "b") == expected
        assert str(datetime.now().year) in expected

    def test_no_system_prompt_no_system_message(self, folder: Path) -> None:
        assert "system" in small(folder).render("a", "b")
        assert "system" not in small(folder).render("a", "")

    @pytest.mark.parametrize(
        ("old", "new", "counts"),
        [
            ("<|reserved_special_token_69|>", "", "1 begin-of-text and 0 image"),
            ("<|reserved_special_token_69|>", "<image>", "1 begin-of-text and 0 image"),
            ("<|reserved_special_token_70|>", "<|reserved_special_token_69|>", "1 begin-of-text and 2 image"),
            ("{{ bos_token }}", "{{ bos_token }}<|begin_of_text|>", "2 begin-of-text and 1 image"),
            ("{{ bos_token }}", "x{{ bos_token }}", "2 begin-of-text and 1 image"),
        ],
    )
    def test_templates_of_another_form_are_refused(self, folder: Path, old: str, new: str, counts: str) -> None:
        use_template(folder, TEMPLATE.replace(old, new))
        with pytest.raises(CheckpointError, match=f"{re.escape(str(folder))} gives {counts} tokens"):
            small(folder)

    @pytest.mark.parametrize(
        "template",
        [
            "{% for message in messages %}",
            "{{ messages | no_such_filter }}",
            "{% no_such_tag %}",
            "{{ 1 / 0 }}",
            "{{ 'a' + 1 }}",
            "{{ messages[0]['role']['x']['y'] }}",
            "{{ raise_exception('Only tools are supported.') }}",
            "{{ messages.append(1) }}",
            "{{ ''.__class__.__mro__ }}{{ ''.__class__.__mro__[1].__subclasses__() }}",
            "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
            "{{ " + "(" * 5000,
        ],
        ids=range(11),
    )
    def test_broken_templates(self, folder: Path, template: str) -> None:
        use_template(folder, template)
        with pytest.raises(CheckpointError, match=rf"chat template in {re.escape(str(folder))} cannot be (read|used)"):
            small(folder)

    def test_a_template_s_own_complaint_is_passed_on(self, folder: Path) -> None:
        use_template(folder, "{{ raise_exception('Only tools are supported') }}")
        with pytest.raises(CheckpointError, match=r"cannot be used: Only tools are supported\."):
            small(folder)

    @pytest.mark.parametrize("template", [..., None, 3, [], ["x"], [{"name": "tool_use", "template": TEMPLATE}]])
    def test_no_template(self, folder: Path, template: object) -> None:
        change(folder / "tokenizer_config.json", chat_template=template)
        with pytest.raises(CheckpointError, match="holds no chat template"):
            small(folder)


class TestFiles:
    def test_no_tokenizer(self, folder: Path) -> None:
        (folder / "tokenizer.json").unlink()
        with pytest.raises(CheckpointError, match=r"holds no tokenizer\.json"):
            small(folder)

    @pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
    @pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"\x80" * 20], ids=["utf-16", "no text"])
    def test_files_that_cannot_be_read(self, folder: Path, name: str, content: bytes) -> None:
        (folder / name).write_bytes(content)
        with pytest.raises(CheckpointError, match=f"{re.escape(str(folder / name))} cannot be read"):
            small(folder)

    @pytest.mark.parametrize("content", ["", "{", "[" * 100_000], ids=["empty", "cut short", "hostile"])
    @pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json"])
    def test_broken_json(self, folder: Path, name: str, content: str) -> None:
        (folder / name).write_text(content, encoding="utf-8")
        with pytest.raises(CheckpointError, match=f"{re.escape(str(folder / name))} cannot be read"):
            small(folder)

    @pytest.mark.parametrize("token", [..., None, "<|no_such_token|>", {"no": "content"}, 5])
    def test_no_begin_of_text(self, folder: Path, token: object) -> None:
        change(folder / "tokenizer_config.json", bos_token=token)
        with pytest.raises(CheckpointError, match="names no begin-of-text token"):
            small(folder)

    def test_special_tokens_as_objects_and_in_their_own_file(self, folder: Path) -> None:
        change(folder / "tokenizer_config.json", bos_token=..., eos_token=...)
        change(folder / "special_tokens_map.json", bos_token={"content": "<|begin_of_text|>", "lstrip": False})
        assert small(folder).bos == 256

    def test_a_tokenizer_larger_than_the_model(self, folder: Path) -> None:
        save_tokenizer(folder, vocabulary=513)
        with pytest.raises(CheckpointError, match=r"has 513 tokens .* but the model has 512 rows"):
            small(folder)

    def test_an_image_token_that_the_model_does_not_have(self, folder: Path) -> None:
        change(folder / "config.json", image_token_index=512)
        with pytest.raises(CheckpointError, match="image token 512, but the model has 512 rows"):
            small(folder)

    def test_a_tokenizer_set_to_cut_and_pad(self, folder: Path) -> None:
        """Files may hold the settings of the last training run; prompts are never cut or padded."""
        expected = small(folder).encode("the prompt " * 50, "")
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.enable_truncation(16)
        tokenizer.enable_padding(length=4096)
        tokenizer.save(str(folder / "tokenizer.json"))
        assert small(folder).encode("the prompt " * 50, "") == expected


class TestStopTokens:
    def sources(
        self, folder: Path, eos: object = ..., generation: object = ..., top: object = ..., text: object = ...
    ) -> Chat:
        change(folder / "tokenizer_config.json", eos_token=eos)
        change(folder / "generation_config.json", eos_token_id=generation)
        inner = json.loads((folder / "config.json").read_text(encoding="utf-8"))["text_config"]
        inner["eos_token_id"] = None if text is ... else text
        change(folder / "config.json", eos_token_id=top, text_config=inner)
        return small(folder)

    @pytest.mark.parametrize(
        ("sources", "expected"),
        [
            ({"eos": "<|eot_id|>"}, {STOP_TOKENS[2]}),
            ({"generation": [257, 260, 261]}, {257, 260, 261}),
            ({"top": 260}, {260}),
            ({"text": [257]}, {257}),
            ({"eos": "<|eot_id|>", "generation": 257, "text": [260]}, {257, 260, 261}),
            ({"eos": "<|no_such_token|>", "generation": [257, None, "x"]}, {257}),
        ],
    )
    def test_every_place_counts(self, folder: Path, sources: dict[str, object], expected: set[int]) -> None:
        assert self.sources(folder, **sources).stop_tokens == expected

    @pytest.mark.parametrize("eos", [..., "<|no_such_token|>"])
    def test_none_at_all(self, folder: Path, eos: object) -> None:
        with pytest.raises(CheckpointError, match="names no end-of-text token"):
            self.sources(folder, eos=eos)


class TestDecoding:
    @pytest.mark.parametrize("text", ["🦊", "👩‍👩‍👧 and 🏳️‍🌈", "日本語", "naïve", "a , b . c 's n't", "  two  spaces\n"])
    def test_what_goes_in_comes_out(self, folder: Path, chat: Chat, text: str) -> None:
        """Nothing is cleaned up, though the file asks for it."""
        for one in (chat, small(folder)):
            assert one.decode(one.tokenizer.encode(text, add_special_tokens=False).ids) == text

    def test_an_emoji_split_over_tokens(self, folder: Path) -> None:
        one = small(folder)
        ids = one.tokenizer.encode("a🦊b", add_special_tokens=False).ids
        assert len(ids) == 6
        texts = [one.decode(ids[:end]) for end in range(1, 7)]
        assert texts[0] == "a"
        assert all(text.startswith("a") and text.rstrip("\N{REPLACEMENT CHARACTER}") == "a" for text in texts[1:4])
        assert texts[4:] == ["a🦊", "a🦊b"]

    def test_special_tokens_are_left_out(self, folder: Path) -> None:
        assert small(folder).decode([256, 32, IMAGE_TOKEN, *STOP_TOKENS]) == "A"
        assert small(folder).decode([]) == ""


def test_special_tokens_of_any_spelling_are_refused(folder: Path) -> None:
    """Not only those in Llama's brackets."""
    file = folder / "tokenizer.json"
    names = ["<image>", "[IMG]", *(f"<|extra_{number}|>" for number in range(3))]
    save_tokenizer(folder, vocabulary=500)
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    tokenizer.add_tokens(["ordinary"])
    tokenizer.save(str(file))
    one = small(folder)
    for name in names:
        with pytest.raises(UsageError, match=f"The prompt holds {re.escape(name)}"):
            one.encode(f"an {name} here", "")
    one.encode("an ordinary <picture>", "")


def test_the_model_s_files_are_not_changed(full_size: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(full_size, tmp_path / "copy")
    Chat(copy, parse_config(BETA_ONE)).encode("a", "b")
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == {
        file.name: file.read_bytes() for file in full_size.iterdir()
    }
