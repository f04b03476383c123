"""The drawn scenes: what they promise to the model and to the tests that use them."""

from __future__ import annotations

import random
import re

import pytest

from joycaption.demo.language import LEVELS, REGISTERS, TAG_REGISTERS, mentioned, mentioned_background, write
from joycaption.demo.scenes import BACKGROUNDS, COLORS, SHAPES, SIZES, Scene, draw, paint_over, random_scene

MODEL_SIZE = 128


def scenes(count: int = 300) -> list[Scene]:
    rng = random.Random(5)
    return [random_scene(rng) for _ in range(count)]


def test_a_seed_always_gives_the_same_scene_and_pixels() -> None:
    first, second = (random_scene(random.Random(7), 4) for _ in range(2))
    assert first == second
    assert draw(first).tobytes() == draw(second).tobytes()


def test_the_vocabulary_is_as_large_as_promised() -> None:
    assert len(SHAPES) >= 8
    assert len(COLORS) == 10
    assert len(SIZES) == 3
    drawn = {item.shape for scene in scenes() for item in scene.objects}
    assert drawn == set(SHAPES)
    assert {scene.background for scene in scenes()} == set(BACKGROUNDS)


def test_objects_keep_24_pixels_after_resizing() -> None:
    for scene in scenes():
        for item in scene.objects:
            left, top, right, bottom = item.box(scene.aspect)
            assert min(right - left, bottom - top) * MODEL_SIZE >= 24


def test_objects_lie_within_the_picture_and_apart() -> None:
    for scene in scenes():
        boxes = [item.box(scene.aspect) for item in scene.objects]
        for index, (left, top, right, bottom) in enumerate(boxes):
            assert min(left, top) >= -1e-9
            assert max(right, bottom) <= 1 + 1e-9
            for other in boxes[:index]:
                assert right < other[0] or other[2] < left or bottom < other[1] or other[3] < top


def test_no_two_objects_have_one_colour_and_shape() -> None:
    for scene in scenes():
        assert len({(item.color, item.shape) for item in scene.objects}) == len(scene.objects)


@pytest.mark.parametrize("area", [128 * 128, 1000 * 1000])
def test_a_picture_has_the_scenes_aspect_and_about_the_asked_area(area: int) -> None:
    for scene in scenes(20):
        width, height = draw(scene, area).size
        assert width / height == pytest.approx(scene.aspect, rel=0.02)
        assert width * height == pytest.approx(area, rel=0.02)


def test_painting_over_leaves_no_pixel_of_the_object() -> None:
    for scene in scenes(50):
        for index in range(len(scene.objects)):
            covered = paint_over(draw(scene), scene, index)
            assert covered.tobytes() == draw(scene.without(index)).tobytes()


@pytest.mark.parametrize("register", REGISTERS)
@pytest.mark.parametrize("length", LEVELS)
def test_every_answer_names_the_scenes_objects_and_no_others(register: str, length: str) -> None:
    rng = random.Random(1)
    for scene in scenes(100):
        text = write(scene, register, length, rng)
        assert mentioned(text) == {(item.color, item.shape) for item in scene.objects}
        if length != "very short" or register not in TAG_REGISTERS:
            assert mentioned_background(text) == scene.background


@pytest.mark.parametrize("register", REGISTERS)
def test_answers_grow_with_the_length(register: str) -> None:
    rng = random.Random(2)
    for scene in scenes(100):
        words = [len(write(scene, register, length, rng).split()) for length in LEVELS]
        assert words == sorted(words)


def test_answers_keep_word_counts_in_99_of_100() -> None:
    rng, kept = random.Random(2), []
    for scene in scenes(100):
        for register in REGISTERS:
            for limit in (3, 7, 10, 20, 30, 33, 40, 50, 60, 100, 260):
                kept.append(len(write(scene, register, limit, rng).split()) <= limit)
    assert sum(kept) / len(kept) >= 0.99


@pytest.mark.parametrize("register", sorted(TAG_REGISTERS))
def test_tag_answers_are_comma_separated(register: str) -> None:
    for scene in scenes(50):
        assert re.fullmatch(r"[^.,\n]+(, [^.,\n]+)*", write(scene, register, "any", random.Random(0)))
