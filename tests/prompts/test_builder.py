"""Instructions as the model was trained on them, and clear errors for everything else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from joycaption.errors import PromptError
from joycaption.prompts import BETA_ONE, build_prompt, is_trained_tone

PLAIN = "Write a detailed description for this image."
LIGHTING = "Include information about lighting."
ANGLE = "Include information about camera angle."
ADA = "If there is a person/character in the image you must refer to them as Ada."


class TestTypeAndLength:
    def test_default(self) -> None:
        assert build_prompt() == PLAIN

    @pytest.mark.parametrize("type_id", BETA_ONE.types)
    def test_every_type_picks_its_template_by_length(self, type_id: str) -> None:
        any_length, in_words, of_length = BETA_ONE.types[type_id].templates
        assert build_prompt(type_id) == any_length
        assert build_prompt(type_id, 30) == in_words.replace("{word_count}", "30")
        assert build_prompt(type_id, "very long") == of_length.replace("{length}", "very long")
        assert "{" not in build_prompt(type_id, 30) + build_prompt(type_id, "short")

    @pytest.mark.parametrize("type_id", BETA_ONE.types)
    def test_ids_and_labels_in_any_case(self, type_id: str) -> None:
        label = BETA_ONE.types[type_id].label
        for given in (type_id.upper(), label, label.upper(), f" {label.lower()} "):
            assert build_prompt(given) == build_prompt(type_id)

    @pytest.mark.parametrize("length", [50, "50", " 50 ", "050"])
    def test_a_number_of_words(self, length: str | int) -> None:
        assert build_prompt(length=length) == "Write a detailed description for this image in 50 words or less."

    @pytest.mark.parametrize("length", [1, 17, 5000])
    def test_any_positive_number_will_do(self, length: int) -> None:
        assert f" in {length} words or less." in build_prompt(length=length)

    @pytest.mark.parametrize("length", ["medium-length", "Medium-Length"])
    def test_a_length_word(self, length: str) -> None:
        assert build_prompt(length=length) == "Write a medium-length detailed description for this image."

    @pytest.mark.parametrize("length", [0, -5, "0", "-5", "1.5", 1.5, True, "", "ten", "1e3", "\N{SUPERSCRIPT TWO}"])
    def test_no_length(self, length: object) -> None:
        with pytest.raises(PromptError, match=r"any, very short, short, .* or a number of words, 1 or more"):
            build_prompt(length=length)

    def test_a_length_that_is_nearly_right(self) -> None:
        with pytest.raises(PromptError, match="Did you mean 'medium-length'"):
            build_prompt(length="medium")

    def test_an_unknown_type(self) -> None:
        with pytest.raises(PromptError, match=r"Unknown caption type 'poem'\. Allowed are descriptive, .*social_media"):
            build_prompt("poem")

    @pytest.mark.parametrize(("given", "meant"), [("danboru", "danbooru"), ("Product Listings", "product listing")])
    def test_a_type_that_is_nearly_right(self, given: str, meant: str) -> None:
        with pytest.raises(PromptError, match=f"Did you mean '{meant}'"):
            build_prompt(given)


class TestExtras:
    def test_in_the_catalogs_order_and_once(self) -> None:
        expected = f"{PLAIN} {LIGHTING} {ANGLE}"
        assert build_prompt(extras=["camera_angle", "lighting", "Camera_Angle"]) == expected
        assert build_prompt(extras=(extra for extra in ("lighting", "camera_angle"))) == expected

    def test_all_of_them(self) -> None:
        everything = " ".join(BETA_ONE.extras.values())
        assert build_prompt(extras=reversed(list(BETA_ONE.extras))) == f"{PLAIN} {everything}"

    def test_one_as_a_plain_string(self) -> None:
        assert build_prompt(extras="lighting") == f"{PLAIN} {LIGHTING}"

    def test_an_unknown_one(self) -> None:
        with pytest.raises(PromptError, match=r"Unknown extra option 'lightning'\. Allowed are name, .*'lighting'"):
            build_prompt(extras=["lightning"])


class TestName:
    @pytest.mark.parametrize("extras", [["lighting"], ["lighting", "name"]])
    def test_before_the_other_options(self, extras: list[str]) -> None:
        assert build_prompt(extras=extras, name=" Ada ") == f"{PLAIN} {ADA} {LIGHTING}"

    @pytest.mark.parametrize("name", ["{name}", "{length}", "{0}", "{", r"\1 \g<0>", "%s"])
    def test_a_name_is_never_taken_for_a_placeholder(self, name: str) -> None:
        assert build_prompt("danbooru", 20, name=name).endswith(f"refer to them as {name}.")

    @pytest.mark.parametrize("name", [None, "", "  "])
    def test_the_option_without_a_name(self, name: str | None) -> None:
        with pytest.raises(PromptError, match="needs a name"):
            build_prompt(extras=["name"], name=name)

    def test_a_blank_name(self) -> None:
        with pytest.raises(PromptError, match="needs a name"):
            build_prompt(name=" ")


class TestTone:
    def test_formal(self) -> None:
        assert build_prompt(tone="formal") == "Write a descriptive caption for this image in a formal tone."
        assert build_prompt(tone="Formal", length=80) == (
            "Write a descriptive caption for this image in a formal tone within 80 words."
        )
        assert build_prompt(tone="formal", length="long") == (
            "Write a long descriptive caption for this image in a formal tone."
        )

    @pytest.mark.parametrize("length", ["any", "short", 40])
    def test_casual_is_the_casual_type(self, length: str | int) -> None:
        casual = build_prompt("descriptive_casual", length)
        assert build_prompt("descriptive", length, tone="casual") == casual
        assert build_prompt("Descriptive (Casual)", length, tone="casual") == casual
        assert "in a casual tone" in casual

    def test_another_tone_is_appended_last(self) -> None:
        assert build_prompt(tone="sly {name}", extras=["lighting"]) == f"{PLAIN} {LIGHTING} Use a sly {{name}} tone."

    @pytest.mark.parametrize("tone", ["formal", "casual"])
    def test_another_type_takes_the_appended_form(self, tone: str) -> None:
        assert build_prompt("midjourney", tone=tone) == f"Write a MidJourney prompt for this image. Use a {tone} tone."

    def test_blank(self) -> None:
        with pytest.raises(PromptError, match="tone is blank"):
            build_prompt(tone=" ")

    @pytest.mark.parametrize(
        ("type_id", "tone", "trained"),
        [
            ("descriptive", None, True),
            ("descriptive", "formal", True),
            ("Descriptive", "Casual", True),
            ("descriptive_casual", "casual", True),
            ("descriptive_casual", "formal", False),
            ("descriptive", "poetic", False),
            ("e621", None, True),
            ("e621", "formal", False),
        ],
    )
    def test_is_trained_tone(self, type_id: str, tone: str | None, trained: bool) -> None:
        assert is_trained_tone(type_id, tone) is trained
        assert ("Use a" not in build_prompt(type_id, tone=tone)) is trained


class TestInstruction:
    """The user's own, in the place of type, length and tone."""

    OWN = "List {{every}} {length} shape, {name}.\n"

    def test_it_is_taken_as_it_is(self) -> None:
        assert build_prompt(instruction=self.OWN) == self.OWN

    def test_name_extras_and_tags_go_with_it(self) -> None:
        built = build_prompt(instruction=self.OWN, name="Ada", extras=["camera_angle", "lighting"], tags="1girl")
        assert built == f"1girl\n\n{self.OWN} {ADA} {LIGHTING} {ANGLE}"

    def test_type_length_and_tone_have_no_say(self) -> None:
        assert build_prompt("danbooru", "short", tone="wry", instruction="Name it.") == "Name it."

    @pytest.mark.parametrize("blank", ["", "  ", "\n\t"])
    def test_blank(self, blank: str) -> None:
        with pytest.raises(PromptError, match="instruction is"):
            build_prompt(instruction=blank)

    def test_an_extra_that_is_unknown_is_told_all_the_same(self) -> None:
        with pytest.raises(PromptError, match="'lightning'"):
            build_prompt(instruction="Name it.", extras=["lightning"])


class TestTags:
    @pytest.mark.parametrize("tags", ["1girl, {solo}", ["1girl", " {solo} "], ("1girl", "", "{solo}")])
    def test_before_a_blank_line(self, tags: str | list[str]) -> None:
        assert build_prompt(tags=tags, extras=["lighting"]) == f"1girl, {{solo}}\n\n{PLAIN} {LIGHTING}"

    @pytest.mark.parametrize("tags", [None, "", " ", [], ["", " "]])
    def test_none(self, tags: str | list[str] | None) -> None:
        assert build_prompt(tags=tags) == PLAIN


def test_another_models_catalog() -> None:
    older = replace(BETA_ONE, name_option="Call them {name}.", extras={"light": "Mention light."})
    assert build_prompt(name="Bo", extras=["light"], catalog=older) == f"{PLAIN} Call them Bo. Mention light."
    with pytest.raises(PromptError, match="Allowed are name, light"):
        build_prompt(extras=["lighting"], catalog=older)
