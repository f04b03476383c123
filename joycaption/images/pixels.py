"""From an RGB picture to the numbers that the vision tower reads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import UsageError

__all__ = ["pixel_values"]

# The arithmetic of transformers' PIL processor, in its order (times 1/255 in float64; then, in float32, minus 0.5 and
# divided by 0.5), so that results are bit-equal. A byte has 256 values, so a table holds every result.
_FLOAT_OF_BYTE = ((np.arange(256) * (1 / 255)).astype(np.float32) - np.float32(0.5)) / np.float32(0.5)


def pixel_values(image: Image.Image, size: int) -> npt.NDArray[np.float32]:
    """Squash a picture to a square with LANCZOS and map 0..255 to -1..1, as the model was trained.

    Bit-equal to transformers' PIL-based SigLIP processor with ``resample=LANCZOS`` and mean and std 0.5. The aspect
    ratio is not kept.

    Args:
        image: mode RGB, as ``open_image`` returns it.
        size: side of the square, in pixels.

    Returns:
        Contiguous float32 of shape [3, size, size].

    Raises:
        UsageError: the picture is not RGB.
    """
    if image.mode != "RGB":
        raise UsageError(f"The picture has mode {image.mode}, but must have RGB: open it with open_image.")
    squashed = np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))
    return np.ascontiguousarray(_FLOAT_OF_BYTE[squashed].transpose(2, 0, 1))
