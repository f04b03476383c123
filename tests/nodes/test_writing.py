"""The inputs that the caption node and the folder node share."""

from __future__ import annotations

from typing import Any

import pytest
from support.nodepack import Pack

from joycaption import Sampling
from joycaption.prompts import DEFAULT_SYSTEM_PROMPT

AUTHORS = Sampling()


@pytest.fixture(params=["JoyCaptionCaption", "JoyCaptionFolder"])
def inputs(pack: Pack, request: pytest.FixtureRequest) -> dict[str, Any]:
    return pack.inputs(request.param)


def test_the_seed_stays_and_may_be_any_of_64_bits(inputs: dict[str, Any]) -> None:
    seed = inputs["seed"]
    assert (seed.default, seed.min, seed.max) == (0, 0, 2**64 - 1)
    assert seed.control_after_generate.value == "fixed"


def test_sampled_or_greedy(inputs: dict[str, Any]) -> None:
    assert inputs["sampling"].options == ["sampled", "greedy"]
    assert Sampling(**{name: inputs[name].default for name in ("temperature", "top_p", "top_k", "min_p")}) == AUTHORS


def test_defaults_are_the_authors(inputs: dict[str, Any]) -> None:
    assert inputs["max_tokens"].default == AUTHORS.max_new_tokens
    assert (inputs["system_prompt"].default, inputs["system_prompt"].placeholder) == ("", DEFAULT_SYSTEM_PROMPT)
    assert inputs["custom_prompt"].default == inputs["begin_with"].default == ""


def test_options_need_not_be_connected(inputs: dict[str, Any]) -> None:
    assert (inputs["options"].optional, inputs["options"].io_type) == (True, "JOYCAPTION_OPTIONS")
