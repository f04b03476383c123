"""Measures the demo model on scenes that it has not seen: ``python -m joycaption.demo.evaluate``.

Prints one row for each figure that the project promises, with the bound beside it.
"""

from __future__ import annotations

import argparse
import io
import random
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..api import CaptionModel, load
from ..prompts import build_prompt
from ..types import Request, Sampling
from .language import LEVELS, TAG_REGISTERS, mentioned, mentioned_background
from .scenes import Scene, draw, paint_over, random_scene

__all__ = ["FIGURES", "Figure", "evaluate"]

SEED = 987_654_321  # far from any that training uses
GREEDY = Sampling.greedy(250)


@dataclass(frozen=True)
class Figure:
    """A measured share in 0..1 and the least that is promised (None: reported only)."""

    name: str
    value: float
    bound: float | None

    @property
    def kept(self) -> bool:
        return self.bound is None or self.value >= self.bound


class Exam:
    """Unseen scenes and a model to ask about them; the plain captions are kept, since several figures need them."""

    def __init__(self, model: CaptionModel, count: int) -> None:
        self.model, self.rng = model, random.Random(SEED)
        self.scenes = [random_scene(self.rng, self.rng.randint(1, 4)) for _ in range(count)]
        self.pictures = [draw(scene) for scene in self.scenes]
        self.captions = self.ask(self.pictures)

    def ask(self, pictures: Iterable[Image.Image], **options: object) -> list[str]:
        results = dict(self.model.caption_many(pictures, sampling=GREEDY, **options))  # type: ignore[arg-type]
        return [results[position].text for position in sorted(results)]

    def share(self, right: list[bool]) -> float:
        return sum(right) / len(right)


def objects_right(scenes: list[Scene], captions: list[str]) -> list[bool]:
    """Which captions name exactly the scene's objects, each with its colour and shape."""
    truth = ({(item.color, item.shape) for item in scene.objects} for scene in scenes)
    return [mentioned(caption) == expected for caption, expected in zip(captions, truth, strict=True)]


def _descriptive(exam: Exam) -> list[Figure]:
    right = objects_right(exam.scenes, exam.captions)
    backgrounds = [
        mentioned_background(caption) == scene.background
        for caption, scene in zip(exam.captions, exam.scenes, strict=True)
    ]
    by_count = [
        Figure(
            f"  of them with {count} object{'s' * (count > 1)}",
            exam.share([r for r, scene in zip(right, exam.scenes, strict=True) if len(scene.objects) == count]),
            None,
        )
        for count in range(1, 5)
    ]
    return [
        Figure("every object's colour and shape right", exam.share(right), 0.95),
        *by_count,
        Figure("background right", exam.share(backgrounds), 0.98),
    ]


def _robust(exam: Exam) -> list[Figure]:
    plain = exam.share(objects_right(exam.scenes, exam.captions))
    jpeg = exam.share(objects_right(exam.scenes, exam.ask(_as_jpeg(picture) for picture in exam.pictures)))
    large = (draw(scene, area=900 * 900) for scene in exam.scenes)
    other = exam.share(objects_right(exam.scenes, exam.ask(large)))
    return [
        Figure("the same scenes as JPEG, quality 90", jpeg, plain - 0.02),
        Figure("the same scenes at 900 pixels instead of 256", other, plain - 0.02),
    ]


def _as_jpeg(picture: Image.Image) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=90)
    return Image.open(file)


def _painted_over(exam: Exam) -> list[Figure]:
    count = min(200, len(exam.scenes))
    chosen = [exam.rng.randrange(len(scene.objects)) for scene in exam.scenes[:count]]
    pictures = [
        paint_over(picture, scene, index)
        for picture, scene, index in zip(exam.pictures, exam.scenes, chosen, strict=False)
    ]
    gone = []
    for caption, before, scene, index in zip(exam.ask(pictures), exam.captions, exam.scenes, chosen, strict=False):
        item = scene.objects[index]
        if (item.color, item.shape) in mentioned(before):
            gone.append((item.color, item.shape) not in mentioned(caption))
    return [Figure("a painted-over object's mention disappears", exam.share(gone), 0.95)]


def _tags(exam: Exam) -> list[Figure]:
    figures = []
    for register in sorted(TAG_REGISTERS):
        captions = exam.ask(exam.pictures, type=register)
        tags = [re.fullmatch(r"[^.\n]+(, [^.\n]+)+", caption) is not None for caption in captions]
        figures.append(Figure(f"{register}: comma-separated tags", exam.share(tags), 0.95))
        figures.append(Figure(f"{register}: objects right", exam.share(objects_right(exam.scenes, captions)), None))
    return figures


def _registers(exam: Exam) -> list[Figure]:
    requests: dict[str, dict[str, str]] = {
        "formal": {"tone": "formal"},
        "casual": {"tone": "casual"},
        "straightforward": {"type": "straightforward"},
    }
    return [
        Figure(
            f"{name}: objects right", exam.share(objects_right(exam.scenes, exam.ask(exam.pictures, **options))), None
        )
        for name, options in requests.items()
    ]


def _lengths(exam: Exam) -> list[Figure]:
    words = {
        length: [len(caption.split()) for caption in exam.ask(exam.pictures, length=length)]
        for length in LEVELS
        if length not in ("any", "medium-length")
    }
    shorter = [short < long for short, long in zip(words["short"], words["long"], strict=True)]
    ordered = [a <= b <= c <= d for a, b, c, d in zip(*words.values(), strict=True)]
    return [
        Figure('"short" has fewer words than "long"', exam.share(shorter), 0.95),
        Figure("the four length words in order", exam.share(ordered), None),
    ]


def _word_counts(exam: Exam) -> list[Figure]:
    figures = []
    for name, limits in (("tens", range(20, 261, 10)), ("any number from 10", range(10, 261))):
        chosen = [exam.rng.choice(limits) for _ in exam.pictures]
        requests = [
            Request(picture, build_prompt(length=limit), sampling=GREEDY)
            for picture, limit in zip(exam.pictures, chosen, strict=True)
        ]
        captions = dict(exam.model.captioner.caption(requests))
        kept = [len(captions[position].text.split()) <= limit for position, limit in enumerate(chosen)]
        figures.append(Figure(f"a word count kept ({name})", exam.share(kept), 0.90))
    return figures


FIGURES: tuple[Callable[[Exam], list[Figure]], ...] = (
    _descriptive,
    _robust,
    _painted_over,
    _tags,
    _registers,
    _lengths,
    _word_counts,
)


def evaluate(model: CaptionModel, count: int = 500) -> list[Figure]:
    """Every figure, on ``count`` unseen scenes."""
    exam = Exam(model, count)
    return [figure for measure in FIGURES for figure in measure(exam)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--report", type=Path, help="also write the table to this file")
    arguments = parser.parse_args()
    with load(arguments.model, batch_size=32) as model:
        figures = evaluate(model, arguments.scenes)
    lines = [f"{arguments.scenes} unseen scenes, greedy", ""]
    for figure in figures:
        bound = "" if figure.bound is None else f"  at least {figure.bound:.1%}: {'kept' if figure.kept else 'MISSED'}"
        lines.append(f"{figure.value:7.1%}  {figure.name}{bound}")
    print("\n".join(lines))
    if arguments.report:
        arguments.report.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
