"""What the demo model learns to say about a scene, for each kind of request.

There are six levels of detail, from a bare list of shapes to two sentences for each of them. A length word picks its
level; a number of words picks the richest level that should fit (one answer in 200 is a word or two over). Objects
come in reading order, and wherever positions are given they come first, so that a writer knows where to look before it
has to say what is there.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable

from .scenes import COLORS, SHAPES, Scene, SceneObject

__all__ = ["LEVELS", "REGISTERS", "TAG_REGISTERS", "mentioned", "mentioned_background", "write"]

LEVELS = {"very short": 1, "short": 2, "any": 3, "medium-length": 3, "long": 4, "very long": 5}

_PLACES = (
    "in the top left corner", "at the top center", "in the top right corner",
    "on the left side", "in the center", "on the right side",
    "in the bottom left corner", "at the bottom center", "in the bottom right corner",
)  # fmt: skip
_SHORT_PLACES = (
    "top left", "top center", "top right", "left", "center", "right", "bottom left", "bottom center", "bottom right",
)  # fmt: skip
_NUMBERS = ("no", "one", "two", "three", "four")


def write(scene: Scene, register: str, length: str | int, rng: random.Random) -> str:
    """The answer to a request of this register (a caption type, or ``formal`` / ``casual``) and length."""
    writer = REGISTERS[register]
    if isinstance(length, str):
        return writer(scene, LEVELS[length], rng)
    for level in range(5, 0, -1):
        if _worst_case(register, len(scene.objects), level) <= length:
            return writer(scene, level, rng)
    return _fragments(scene, length, tags=register in TAG_REGISTERS)


# --- words for one object ---


def _kind(item: SceneObject) -> str:
    return f"{item.color} {item.shape}"


def _article(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _relation(scene: Scene, index: int) -> str:
    """How an object lies to the one before it in reading order."""
    item, before = scene.objects[index], scene.objects[index - 1]
    rows, columns = item.cell // 3 - before.cell // 3, item.cell % 3 - before.cell % 3
    side = "to the right of" if columns > 0 else "to the left of"
    if rows == 0:
        where = side
    elif columns == 0:
        where = "below"
    else:
        where = f"below and {side}"
    return f"The {_kind(item)} is {where} the {_kind(before)}."


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _fragments(scene: Scene, words: int, *, tags: bool) -> str:
    """As many bare objects as fit into so few words."""
    kinds = ", ".join(_kind(item) for item in scene.objects[: max(1, words // 2)]) or "nothing"
    return kinds if tags else f"{kinds}.".capitalize()


# --- prose ---


def _prose(openings: tuple[str, ...], sentence: str) -> Callable[[Scene, int, random.Random], str]:
    """A register: ways to begin, all of one length, and the sentence that places an object."""

    def write_prose(scene: Scene, level: int, rng: random.Random) -> str:
        if level == 1:
            kinds = [_article(_kind(item)) for item in scene.objects] or ["nothing"]
            return f"{_listed(kinds)} on a {scene.background} background.".capitalize()
        if level == 2:
            parts = [f"{_PLACES[item.cell]} {_article(f'{item.size} {_kind(item)}')}" for item in scene.objects]
            return f"On a {scene.background} background: {_listed(parts or ['there is nothing'])}."
        sentences = [rng.choice(openings).format(background=scene.background)]
        if level >= 4:
            sentences.append(f"It holds {_NUMBERS[len(scene.objects)]} shape{'s' * (len(scene.objects) != 1)}.")
        for index, item in enumerate(scene.objects):
            what = _article(f"{item.size} {item.fill} {_kind(item)}")
            placed = sentence.format(where=_PLACES[item.cell], what=what)
            sentences.append(placed[0].upper() + placed[1:])
            if level >= 4 and index:
                sentences.append(_relation(scene, index))
        if not scene.objects:
            sentences.append("There is nothing drawn on it.")
        if level == 5:
            sentences.append("All of it is drawn flat, without any shading, and nothing else is to be seen.")
        return " ".join(sentences)

    return write_prose


# --- tags and prompts ---


def _tags(underscores: bool) -> Callable[[Scene, int, random.Random], str]:
    def write_tags(scene: Scene, level: int, rng: random.Random) -> str:
        tags = [f"{scene.background} background"] if level >= 2 or not scene.objects else []
        if level >= 3:
            tags.append(f"{len(scene.objects)} shape{'s' * (len(scene.objects) != 1)}")
        for item in scene.objects:
            tags.append(f"{item.size} {_kind(item)}" if level >= 3 else _kind(item))
            if level >= 4:
                tags.append(f"{item.fill} {_kind(item)}")
            if level == 5:
                tags.append(f"{_kind(item)} at {_SHORT_PLACES[item.cell]}")
        if level == 5:
            tags += ["simple background", "no humans"]
        return ", ".join(tag.replace(" ", "_") if underscores else tag for tag in tags)

    return write_tags


def _prompt(opening: str, closing: str) -> Callable[[Scene, int, random.Random], str]:
    def write_prompt(scene: Scene, level: int, rng: random.Random) -> str:
        parts = [opening] if level >= 3 else []
        for item in scene.objects:
            words = [item.size] * (level >= 2) + [item.fill] * (level >= 4) + [_kind(item)]
            where = [_SHORT_PLACES[item.cell]] * (level >= 4)
            parts.append(" ".join(where + words))
        parts.append(f"{scene.background} background")
        if level == 5:
            parts += ["clean edges", "flat colors", "simple geometric shapes", "vector illustration"]
        return ", ".join(parts) + (closing if level >= 3 else "")

    return write_prompt


_DESCRIPTIVE = _prose(
    ("This drawing has a {background} background.", "The picture shows a {background} background."),
    "{where} is {what}.",
)

REGISTERS: dict[str, Callable[[Scene, int, random.Random], str]] = {
    "descriptive": _DESCRIPTIVE,
    "formal": _prose(
        (
            "The composition rests upon a {background} background.",
            "The illustration employs a uniform {background} background.",
        ),
        "{where}, {what} is depicted.",
    ),
    "casual": _prose(
        ("So this one's got a {background} background!", "Okay, here we've got a {background} background!"),
        "over {where} there's {what}.",
    ),
    "straightforward": _prose(
        ("Simple drawing on a {background} background.", "Flat graphic on a {background} background."),
        "{where}: {what}.",
    ),
    "art_critic": _prose(
        ("The artist chose a {background} background.", "The eye meets a {background} background."),
        "{where} rests {what}.",
    ),
    "product_listing": _prose(
        ("For sale: print with a {background} background.", "New: poster with a lovely {background} background."),
        "{where} you get {what}.",
    ),
    "social_media": _prose(
        ("Check out this drawing with a {background} background!", "Look at my drawing on a {background} background!"),
        "{where} I put {what}!",
    ),
    "stable_diffusion": _prompt("vector art", ", flat design"),
    "midjourney": _prompt("minimalist shapes", " --style raw"),
    "danbooru": _tags(underscores=True),
    "e621": _tags(underscores=True),
    "rule34": _tags(underscores=True),
    "booru": _tags(underscores=False),
}


# These answer with comma-separated tags instead of sentences.
TAG_REGISTERS = frozenset({"stable_diffusion", "midjourney", "danbooru", "e621", "rule34", "booru"})


def _worst_case(register: str, count: int, level: int) -> int:
    """About the most words that this level takes for so many objects: long position and background names."""
    key = (register, count, level)
    if key not in _worst_cases:
        # Cells on a diagonal, so that every relation is of the longest form.
        items = tuple(
            SceneObject("circle", color, "small", "solid", cell, 0, 0, (0, 0, 0), 0, 0)
            for color, cell in zip(COLORS, (0, 4, 6, 8)[:count], strict=False)
        )
        scene = Scene("light blue", (0, 0, 0), 1.0, items)
        texts = (REGISTERS[register](scene, level, random.Random(seed)) for seed in range(8))
        _worst_cases[key] = max(len(text.split()) for text in texts)
    return _worst_cases[key]


_worst_cases: dict[tuple[str, int, int], int] = {}


# --- reading captions back ---

_KIND = re.compile(rf"\b({'|'.join(COLORS)})[ _]({'|'.join(SHAPES)})", re.IGNORECASE)
_BACKGROUND = re.compile(
    r"\b(light[ _]blue|light[ _]green|white|black|gray|beige|lavender|navy|teal)[ _]background", re.IGNORECASE
)


def mentioned(caption: str) -> set[tuple[str, str]]:
    """Every (colour, shape) that a caption names."""
    return {(color.lower(), shape.lower()) for color, shape in _KIND.findall(caption.replace("_", " "))}


def mentioned_background(caption: str) -> str | None:
    """The background that a caption names, if it names just one."""
    names = Counter(name.lower().replace("_", " ") for name in _BACKGROUND.findall(caption))
    return next(iter(names)) if len(names) == 1 else None
