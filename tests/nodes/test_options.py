"""JoyCaption Options: every choice is the catalog's, and the prompt is the library's to the byte."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from support.nodepack import Pack

from joycaption import build_prompt
from joycaption.prompts import BETA_ONE

NODE = "JoyCaptionOptions"
LENGTHS = ("any", "very short", "medium-length", "20", "260")
TONES = ("", "formal", "casual", "sly {name}")
NAMES = ("", "Ada {length}")
EXTRAS: tuple[tuple[str, ...], ...] = (
    (),
    ("lighting",),
    ("no_meta_phrases", "changeable_only"),
    tuple(BETA_ONE.extras),
)


def test_choices_are_the_catalogs(pack: Pack) -> None:
    inputs = pack.inputs(NODE)
    assert list(inputs) == ["type", "length", "tone", "name", *BETA_ONE.extras]
    assert inputs["type"].options == [kind.label for kind in BETA_ONE.types.values()]
    assert inputs["length"].options == ["any", *BETA_ONE.length_words, *(str(words) for words in BETA_ONE.word_counts)]


@pytest.mark.parametrize("extra", BETA_ONE.extras)
def test_every_extra_is_a_switch_that_is_off(pack: Pack, extra: str) -> None:
    switch = pack.inputs(NODE)[extra]
    assert (switch.io_type, switch.default) == ("BOOLEAN", False)
    assert (switch.display_name, switch.tooltip) == (BETA_ONE.extra_labels[extra], BETA_ONE.extras[extra])


@pytest.mark.parametrize("kind", [kind.label for kind in BETA_ONE.types.values()])
def test_the_prompt_is_the_librarys(pack: Pack, kind: str) -> None:
    for length, tone, name, extras in product(LENGTHS, TONES, NAMES, EXTRAS):
        switches = dict.fromkeys(extras, True)
        options, prompt = pack.run(NODE, type=kind, length=length, tone=tone, name=name, **switches).result
        assert prompt == build_prompt(kind, length, tone=tone or None, name=name or None, extras=extras)
        assert options.prompt() == prompt


@pytest.mark.parametrize("blank", ["", "  ", "\t\n"])
def test_a_blank_name_or_tone_is_none(pack: Pack, blank: str) -> None:
    assert pack.run(NODE, name=blank, tone=blank).result[1] == build_prompt()


def test_white_space_around_name_and_tone_does_not_count(pack: Pack) -> None:
    assert pack.run(NODE, name=" Ada ", tone=" wry\n").result[1] == build_prompt(name="Ada", tone="wry")


def test_the_node_shows_the_prompt(pack: Pack) -> None:
    node = pack.run(NODE, type="MidJourney", lighting=True)
    assert list(node.ui["text"]) == [node.result[1]]


@pytest.mark.parametrize(("old", "said"), [({"type": "Poem"}, "caption type 'Poem'"), ({"length": "epic"}, "'epic'")])
def test_a_choice_that_is_no_more(pack: Pack, old: dict[str, Any], said: str) -> None:
    with pytest.raises(pack.NodeError, match=f"^JoyCaption Options: .*{said}"):
        pack.run(NODE, **old)
