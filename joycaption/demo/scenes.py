"""Drawn scenes: up to four flat shapes on a plain background. The only pictures that the demo model knows.

Everything is in shares of the picture's sides, so one scene can be drawn at any size and at aspect ratios up to 4:3,
the range in which the smallest object keeps 24 of the 128 pixels that the model sees.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageDraw

__all__ = [
    "BACKGROUNDS",
    "COLORS",
    "FILLS",
    "SHAPES",
    "SIZES",
    "Scene",
    "SceneObject",
    "draw",
    "paint_over",
    "random_scene",
]

Point = tuple[float, float]
RGB = tuple[int, int, int]

COLORS: dict[str, RGB] = {
    "red": (220, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (250, 220, 50),
    "green": (50, 160, 70),
    "blue": (50, 90, 220),
    "purple": (130, 60, 180),
    "pink": (250, 130, 190),
    "brown": (130, 80, 45),
    "black": (25, 25, 25),
    "white": (245, 245, 245),
}
BACKGROUNDS: dict[str, RGB] = {
    "white": (250, 250, 250),
    "black": (15, 15, 15),
    "gray": (150, 150, 150),
    "beige": (235, 220, 190),
    "light blue": (180, 215, 245),
    "light green": (190, 230, 190),
    "lavender": (215, 195, 240),
    "navy": (25, 35, 90),
    "teal": (0, 110, 110),
}
# Diameter as a share of the geometric mean of the picture's sides.
SIZES: dict[str, float] = {"small": 0.235, "medium": 0.3, "large": 0.37}
FILLS = ("solid", "outlined", "striped")
CELLS = 9  # a 3x3 grid, numbered in reading order

MAX_ASPECT = 4 / 3
_MIN_CONTRAST = 92  # Euclidean RGB distance between an object and the background
_SUPERSAMPLING = 2


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One shape. ``x`` and ``y`` are its centre in shares of the picture's sides, ``tilt`` is in degrees."""

    shape: str
    color: str
    size: str
    fill: str
    cell: int
    x: float
    y: float
    rgb: RGB
    diameter: float
    tilt: float

    def box(self, aspect: float) -> tuple[float, float, float, float]:
        """Bounding box (left, top, right, bottom) in shares of the sides, for width / height = ``aspect``."""
        width, height = self.diameter / math.sqrt(aspect), self.diameter * math.sqrt(aspect)
        return self.x - width / 2, self.y - height / 2, self.x + width / 2, self.y + height / 2


@dataclass(frozen=True, slots=True)
class Scene:
    """A background and its objects in reading order. ``aspect`` is width / height."""

    background: str
    rgb: RGB
    aspect: float
    objects: tuple[SceneObject, ...]

    def without(self, index: int) -> Scene:
        kept = self.objects[:index] + self.objects[index + 1 :]
        return Scene(self.background, self.rgb, self.aspect, kept)


def random_scene(rng: random.Random, count: int | None = None) -> Scene:
    """A scene of ``count`` objects (by default one to four, seldom none), no two of one colour and shape."""
    if count is None:
        count = 0 if rng.random() < 0.03 else rng.randint(1, 4)
    background = rng.choice(list(BACKGROUNDS))
    rgb = _jitter(rng, BACKGROUNDS[background])
    aspect = math.exp(rng.uniform(-1, 1) * math.log(MAX_ASPECT)) if rng.random() < 0.7 else 1.0
    while True:
        objects = _random_objects(rng, count, BACKGROUNDS[background], aspect)
        if _fits(objects, aspect):
            return Scene(background, rgb, aspect, objects)


def _random_objects(rng: random.Random, count: int, background: RGB, aspect: float) -> tuple[SceneObject, ...]:
    colors = [name for name, rgb in COLORS.items() if math.dist(rgb, background) >= _MIN_CONTRAST]
    kinds = rng.sample([(color, shape) for color in colors for shape in SHAPES], count)
    cells = sorted(rng.sample(range(CELLS), count))
    return tuple(_random_object(rng, *kind, cell, aspect) for kind, cell in zip(kinds, cells, strict=True))


def _random_object(rng: random.Random, color: str, shape: str, cell: int, aspect: float) -> SceneObject:
    size = rng.choice(list(SIZES))
    diameter = SIZES[size] * rng.uniform(1.0, 1.06)
    half_width, half_height = diameter / math.sqrt(aspect) / 2, diameter * math.sqrt(aspect) / 2
    x = min(max((cell % 3 + 0.5) / 3 + rng.uniform(-0.06, 0.06), half_width), 1 - half_width)
    y = min(max((cell // 3 + 0.5) / 3 + rng.uniform(-0.06, 0.06), half_height), 1 - half_height)
    fill, rgb, tilt = rng.choice(FILLS), _jitter(rng, COLORS[color]), rng.uniform(-8, 8)
    return SceneObject(shape, color, size, fill, cell, x, y, rgb, diameter, tilt)


def _fits(objects: tuple[SceneObject, ...], aspect: float) -> bool:
    boxes = [item.box(aspect) for item in objects]
    return not any(_overlap(a, b) for index, a in enumerate(boxes) for b in boxes[:index])


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    gap = 0.01
    return a[0] < b[2] + gap and b[0] < a[2] + gap and a[1] < b[3] + gap and b[1] < a[3] + gap


def _jitter(rng: random.Random, rgb: RGB) -> RGB:
    red, green, blue = (min(255, max(0, channel + rng.randint(-10, 10))) for channel in rgb)
    return red, green, blue


# --- shapes, as polygons in the square -1..1 with y downwards ---


def _arc(x: float, y: float, radius: float, start: float, stop: float, steps: int = 32) -> list[Point]:
    angles = (math.radians(start + (stop - start) * step / steps) for step in range(steps + 1))
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]


def _star() -> list[Point]:
    spokes = ((1.0 if index % 2 == 0 else 0.42, math.radians(-90 + 36 * index)) for index in range(10))
    return [(radius * math.cos(angle), radius * math.sin(angle)) for radius, angle in spokes]


def _heart() -> list[Point]:
    lobes = _arc(-0.5, -0.42, 0.5, 150, 360, 16) + _arc(0.5, -0.42, 0.5, 180, 390, 16)
    return [*lobes, (0.0, 1.0)]


def _cross() -> list[Point]:
    arm = 0.36
    return [
        (-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm),
        (arm, 1), (-arm, 1), (-arm, arm), (-1, arm), (-1, -arm), (-arm, -arm),
    ]  # fmt: skip


def _crescent() -> list[Point]:
    return _arc(0, 0, 1, 50, 310) + _arc(0.62, 0, 0.766, 270, 90)


SHAPES: dict[str, list[Point]] = {
    "circle": _arc(0, 0, 1, 0, 360, 48),
    "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
    "triangle": [(0, -1), (1, 0.9), (-1, 0.9)],
    "diamond": [(0, -1), (0.8, 0), (0, 1), (-0.8, 0)],
    "star": _star(),
    "heart": _heart(),
    "cross": _cross(),
    "crescent": _crescent(),
}


# --- drawing ---


def draw(scene: Scene, area: int = 256 * 256) -> Image.Image:
    """The scene as an RGB picture of about ``area`` pixels, in the scene's own aspect ratio."""
    width = round(math.sqrt(area * scene.aspect))
    height = round(math.sqrt(area / scene.aspect))
    canvas = Image.new("RGB", (width * _SUPERSAMPLING, height * _SUPERSAMPLING), scene.rgb)
    for item in scene.objects:
        canvas.paste(item.rgb, mask=_mask(item, *canvas.size))
    return canvas.reduce(_SUPERSAMPLING)


def _mask(item: SceneObject, width: int, height: int) -> Image.Image:
    diameter = item.diameter * math.sqrt(width * height)
    points = _placed(item, item.x * width, item.y * height, diameter / 2)
    mask = Image.new("L", (width, height))
    pen = ImageDraw.Draw(mask)
    if item.fill == "outlined":
        pen.line([*points, points[0], points[1]], fill=255, width=max(2, round(diameter * 0.12)), joint="curve")
        return mask
    pen.polygon(points, fill=255)
    return ImageChops.multiply(mask, _stripes(width, height, diameter)) if item.fill == "striped" else mask


def _placed(item: SceneObject, x: float, y: float, radius: float) -> list[Point]:
    cos, sin = math.cos(math.radians(item.tilt)), math.sin(math.radians(item.tilt))
    inset = 0.9 if item.fill == "outlined" else 0.96  # room for the pen and the tilt
    scale = radius * inset
    return [(x + scale * (px * cos - py * sin), y + scale * (px * sin + py * cos)) for px, py in SHAPES[item.shape]]


def _stripes(width: int, height: int, diameter: float) -> Image.Image:
    period = diameter * 0.25
    stripes = Image.new("L", (width, height))
    pen = ImageDraw.Draw(stripes)
    for index in range(math.ceil(height / period) + 1):
        pen.rectangle((0, index * period, width, index * period + period * 0.55), fill=255)
    return stripes


def paint_over(picture: Image.Image, scene: Scene, index: int) -> Image.Image:
    """A copy of the picture with one object covered by a rectangle of the background's colour."""
    covered = picture.copy()
    left, top, right, bottom = _mask(scene.objects[index], *picture.size).getbbox() or (0, 0, 0, 0)
    edge = 2  # pixels that anti-aliasing may have touched
    ImageDraw.Draw(covered).rectangle((left - edge, top - edge, right + edge, bottom + edge), fill=scene.rgb)
    return covered
