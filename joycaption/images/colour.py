"""From any of Pillow's modes to RGB."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .arrays import scale_to_bytes

__all__ = ["to_rgb"]


def to_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """A new RGB image: deep grey scaled to 8 bits, transparency flattened onto ``background``."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _deep_grey_to_bytes(image).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":  # Pillow's way from La to RGBA loses the alpha channel
        image = image.convert("LA")
    rgba = image.convert("RGBA")
    flat = Image.new("RGB", image.size, background)
    flat.paste(rgba, mask=rgba)
    return flat


def _deep_grey_to_bytes(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float grey.

    Modes I and F do not tell which value is white: it is taken as the first of 1 (for F), 255, 65535 and 2**32 - 1 that
    no pixel exceeds.
    """
    values = np.nan_to_num(np.asarray(image))
    if image.mode.startswith("I;16"):
        whites = [65535]
    else:
        whites = [white for white in (1, 255, 65535, 2**32 - 1) if image.mode == "F" or white > 1]
    white = next((white for white in whites if values.max() <= white), values.max())
    return Image.fromarray(scale_to_bytes(values, float(white)))
