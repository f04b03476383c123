"""``open_image``: one function for every kind of picture a caller may hold."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import ImageError, UsageError
from .arrays import TensorLike, array_to_image
from .colour import to_rgb
from .download import download_image, is_url
from .files import MAX_PIXELS, check_size, decode, reason, upright

__all__ = ["ImageSource", "open_image"]

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image | npt.NDArray[Any] | TensorLike"


def open_image(
    source: ImageSource, *, background: tuple[int, int, int] = (255, 255, 255), max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """Open a picture of any kind as upright RGB.

    EXIF orientation is applied, transparency is flattened onto ``background``, 16-bit and float pictures are scaled to
    8 bits (not clipped), and of an animation the first frame is taken; of a PIL image, the frame it stands at.

    Args:
        source: a path; an http or https address; an encoded file's bytes; a PIL image, which is left as it is; a numpy
            array or torch tensor. Arrays and tensors hold uint8, uint16, or floats from 0 to 1. Their shape is [H, W],
            or [H, W, C] (as ComfyUI's IMAGE), or [C, H, W] when only the first dimension can be C: 1 (grey), 3 (RGB) or
            4 (RGBA). Of four dimensions, the first must be 1 and is dropped.
        background: the colour behind transparent parts, as (red, green, blue) from 0 to 255.
        max_pixels: refuse pictures of more pixels than this, before they are decoded.

    Returns:
        A new image of mode RGB, which holds no file open and no metadata.

    Raises:
        ImageError: the picture cannot be read; the message names it and gives the reason.
        UsageError: ``background`` is no colour.
    """
    if len(background) != 3 or not all(isinstance(level, int) and 0 <= level <= 255 for level in background):
        raise UsageError(f"background is {background!r}, but must be three whole numbers from 0 to 255.")
    name = _describe(source)
    if isinstance(source, str) and is_url(source):
        source = download_image(source)
    try:
        rgb = to_rgb(_load(source, max_pixels), background)
    except Exception as error:  # decoders raise nearly anything about hostile files
        raise ImageError(f"Cannot read {name}: {reason(error)}.") from error
    rgb.info = {}  # an orientation left in here would be applied again by whoever opens the result
    return rgb


def _describe(source: ImageSource) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    if isinstance(source, bytes):
        return f"the picture given as {len(source)} bytes"
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "")) or "the PIL image"
    return f"the {type(source).__name__}"


def _load(source: ImageSource, max_pixels: int) -> Image.Image:
    """Any source as a decoded, upright image of any mode."""
    if isinstance(source, Image.Image):
        check_size(source.size, max_pixels)
        source.load()
        return upright(source)
    if isinstance(source, bytes):
        return decode(io.BytesIO(source), max_pixels)
    if isinstance(source, (str, os.PathLike)):
        return _load_file(Path(source), max_pixels)
    if isinstance(source, np.ndarray) or (hasattr(source, "detach") and hasattr(source, "cpu")):
        return array_to_image(source, max_pixels)
    raise ImageError("a picture is a path, an address, bytes, a PIL image, a numpy array or a torch tensor")


def _load_file(path: Path, max_pixels: int) -> Image.Image:
    if path.is_dir():  # Windows would say "permission denied"
        raise ImageError("it is a folder, not a picture")
    with path.open("rb") as file:
        return decode(file, max_pixels)
