"""The vision tower's input equals what transformers' PIL-based processor makes."""

from __future__ import annotations

import numpy as np
import pytest
import transformers
from PIL import Image

from joycaption.errors import UsageError
from joycaption.images import pixel_values

SIZES = [(1, 1), (3, 50), (64, 64), (200, 7), (320, 240), (33, 500)]


def picture(width: int, height: int) -> Image.Image:
    values = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def reference(image: Image.Image, size: int) -> np.ndarray:
    # Since 5.0 the name without "Pil" may stand for the torchvision variant, which has another LANCZOS or none.
    kind = getattr(transformers, "SiglipImageProcessorPil", None) or transformers.SiglipImageProcessor
    processor = kind(
        size={"height": size, "width": size},
        resample=Image.Resampling.LANCZOS,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return np.asarray(processor(image, return_tensors="np", input_data_format="channels_last")["pixel_values"])[0]


@pytest.mark.oracle
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equal_to_transformers(size: tuple[int, int]) -> None:
    image = picture(*size)
    ours, theirs = pixel_values(image, 64), reference(image, 64)
    assert theirs.shape == ours.shape == (3, 64, 64)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, theirs)


def test_black_grey_and_white() -> None:
    image = Image.new("RGB", (9, 9))
    assert (pixel_values(image, 4) == -1).all()
    assert (pixel_values(Image.new("RGB", (9, 9), "white"), 4) == 1).all()
    assert np.abs(pixel_values(Image.new("RGB", (9, 9), (128, 128, 128)), 4)).max() < 0.004


def test_squashed_and_not_cropped() -> None:
    image = Image.new("RGB", (400, 10), "black")
    image.paste((255, 255, 255), (200, 0, 400, 10))
    row = pixel_values(image, 8)[0, 4]
    assert row[:3].max() < -0.9
    assert row[5:].min() > 0.9


def test_ready_for_torch() -> None:
    assert pixel_values(picture(20, 30), 16).flags["C_CONTIGUOUS"]


def test_only_rgb() -> None:
    with pytest.raises(UsageError, match="has mode RGBA"):
        pixel_values(Image.new("RGBA", (4, 4)), 4)
