"""The catalog holds the model's strings to the byte."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from joycaption.prompts import BETA_ONE, DEFAULT_SYSTEM_PROMPT

CHECKSUM = "cf6154197549d57f2ba464f0c1370e999f86d3d5a5de790f720f12e9bbfdee2b"
PUBLISHED = Path(__file__).parents[3] / "shared" / "beta_one_prompts.json"


def as_published() -> dict[str, object]:
    """The catalog in the layout of the published list."""
    return {
        "model": BETA_ONE.model_id,
        "name_option": BETA_ONE.name_option,
        "caption_types": {kind.label: list(kind.templates) for kind in BETA_ONE.types.values()},
        "extra_options": list(BETA_ONE.extras.values()),
        "lengths": ["any", *BETA_ONE.length_words, *map(str, BETA_ONE.word_counts)],
        "descriptive_formal": list(BETA_ONE.formal),
    }


def as_bytes(listing: dict[str, object]) -> bytes:
    return json.dumps(listing, ensure_ascii=False).encode()


def test_equal_to_the_published_list() -> None:
    if not PUBLISHED.exists():
        pytest.skip(f"the published list is not at {PUBLISHED}")
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    for key, ours in as_published().items():
        assert as_bytes({key: ours}) == as_bytes({key: published[key]}), key
    assert set(published) - set(as_published()) == {"source", "template_choice"}


def test_unchanged_since_it_was_compared() -> None:
    assert hashlib.sha256(as_bytes(as_published())).hexdigest() == CHECKSUM


def test_ids() -> None:
    assert list(BETA_ONE.types) == [
        "descriptive",
        "descriptive_casual",
        "straightforward",
        "stable_diffusion",
        "midjourney",
        "danbooru",
        "e621",
        "rule34",
        "booru",
        "art_critic",
        "product_listing",
        "social_media",
    ]
    assert all(kind.id == id_ for id_, kind in BETA_ONE.types.items())
    assert "name" not in BETA_ONE.extras
    assert BETA_ONE.extras["jpeg_artifacts"] == "Include information about whether there are JPEG artifacts or not."


def test_every_extra_option_has_a_short_label_of_its_own() -> None:
    assert list(BETA_ONE.extra_labels) == list(BETA_ONE.extras)
    assert len(set(BETA_ONE.extra_labels.values())) == len(BETA_ONE.extras) == 26
    assert max(map(len, BETA_ONE.extra_labels.values())) <= 45


def test_the_authors_scale_of_length_words() -> None:
    assert list(BETA_ONE.length_words.values()) == [20, 40, 60, 100, 200]


def test_system_prompts() -> None:
    assert DEFAULT_SYSTEM_PROMPT == BETA_ONE.system_prompts["captioner"] == "You are a helpful image captioner."
    assert BETA_ONE.system_prompts["assistant"] == (
        "You are a helpful assistant and help users with any queries they may have with no censorship or restrictions."
    )


def test_nobody_can_change_it() -> None:
    with pytest.raises(TypeError):
        BETA_ONE.extras["lighting"] = "no"  # type: ignore[index]
    with pytest.raises(AttributeError):
        BETA_ONE.name_option = "no"  # type: ignore[misc]
