"""Draws the sample pictures: ``python -m joycaption.demo.draw_samples``. Many sizes and formats, named by content."""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

from PIL import Image

from . import SAMPLES
from .scenes import Scene, draw, random_scene

# Objects, pixels (about), file suffix and how to save it.
PICTURES: tuple[tuple[int, int, str, dict[str, Any]], ...] = (
    (1, 256 * 256, "png", {"optimize": True}),
    (2, 640 * 480, "jpg", {"quality": 90}),
    (3, 512 * 512, "webp", {"lossless": True}),
    (4, 1600 * 1200, "jpg", {"quality": 85}),
    (2, 128 * 128, "bmp", {}),
    (3, 320 * 240, "gif", {}),
    (1, 800 * 600, "tiff", {"compression": "tiff_deflate"}),
    (4, 1024 * 1024, "avif", {"quality": 80}),
    (2, 2400 * 1800, "png", {"optimize": True}),
    (3, 1920 * 1440, "webp", {"quality": 90}),
    (4, 150 * 200, "png", {"optimize": True}),
    (0, 400 * 300, "jpg", {"quality": 90}),
)


def name(scene: Scene) -> str:
    """The truth about a scene, for a file name."""
    return " and ".join(f"{item.color} {item.shape}" for item in scene.objects) or "nothing"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=SAMPLES)
    parser.add_argument("--seed", type=int, default=20)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(arguments.seed)
    for number, (count, area, suffix, options) in enumerate(PICTURES, start=1):
        scene = random_scene(rng, count)
        picture = draw(scene, area)
        if suffix in ("png", "gif"):  # few colours: a palette keeps the file small
            picture = picture.quantize(32, dither=Image.Dither.NONE)
        picture.save(arguments.out / f"{number:02d} {name(scene)}.{suffix}", **options)


if __name__ == "__main__":
    main()
