"""Decoding of untrusted picture files with Pillow.

``Image.open`` is not used: it warns about, or refuses, large pictures by a limit that is global to the process, and it
tries formats (PostScript among them) that nobody captions.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TypeAlias

from PIL import ExifTags, Image, TiffImagePlugin

from ..errors import ImageError
from .jpeg_xl import is_jpeg_xl, jpeg_xl_size

__all__ = ["IMAGE_SUFFIXES", "MAX_PIXELS", "check_size", "decode", "reason", "upright"]

MAX_PIXELS = 200_000_000
"""Largest picture opened by default, in pixels (width x height): about 14,000 x 14,000, 0.8 GB when decoded.

WebP ends a little earlier, at 179 million: Pillow's decoder has that limit built in.
"""

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".jxl"}
)
"""File name endings, in lower case, that folders are scanned for. What a file really is shows in its content."""

_Opener: TypeAlias = "Callable[[IO[bytes], str], Image.Image]"

_PILLOW_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")

_TURN_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(file: IO[bytes], max_pixels: int) -> Image.Image:
    """Decode a picture file completely, its first frame, upright; the file may be closed afterwards.

    Raises:
        ImageError: the reason, as the end of a sentence, without the file's name.
    """
    signature = file.read(16)
    if not signature:
        raise ImageError("the file is empty")
    file.seek(0)
    if is_jpeg_xl(signature):
        return _decode_jpeg_xl(file, max_pixels)
    name, opener = _identify(signature)
    with _blaming(name):
        image = opener(file, "")  # given the file's name, Pillow may map the file, and crash if that shrinks meanwhile
        check_size(image.size, max_pixels)
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            _allocate(image)
        image.load()
        return upright(image)


def check_size(size: tuple[int, int], max_pixels: int) -> None:
    """Raise an ImageError if (width, height) is more than ``max_pixels``."""
    width, height = size
    if width * height > max_pixels:
        limit = f"{max_pixels / 1e6:g} million"
        raise ImageError(f"it has {width} x {height} pixels, more than the limit of {limit}; make it smaller first")


def upright(image: Image.Image) -> Image.Image:
    """Apply the EXIF orientation. Broken metadata does not make a broken picture: it is then taken as upright."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except Exception:
        return image
    turn = _TURN_UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def reason(error: Exception) -> str:
    """What an exception says, to end a sentence with."""
    if isinstance(error, MemoryError):
        return "it needs more memory than there is"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rstrip(".") or type(error).__name__


def _identify(signature: bytes) -> tuple[str, _Opener]:
    """The format with this signature, and the function that reads its header."""
    Image.init()
    for name in _PILLOW_FORMATS:
        opener, accepts = Image.OPEN.get(name, (None, None))
        verdict = accepts(signature) if accepts else False
        if isinstance(verdict, str):  # the right format, but this Pillow was built without it
            raise ImageError(verdict)
        if opener and verdict:
            return name, opener
    if signature[4:11] == b"ftypavi":
        raise ImageError("AVIF needs Pillow 11.3 or newer: pip install --upgrade pillow")
    raise ImageError("it is not a JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or JPEG XL picture")


@contextmanager
def _blaming(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into an ImageError that names the format."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"Pillow refuses it as too large ({reason(error)})") from error
    except Exception as error:
        raise ImageError(f"it is a broken {name} file ({reason(error)})") from error


def _allocate(image: TiffImagePlugin.TiffImageFile) -> None:
    """Give a TIFF its memory beforehand: its loader would warn about a size that is already accepted."""
    stored_size = image.tag_v2[TiffImagePlugin.IMAGEWIDTH], image.tag_v2[TiffImagePlugin.IMAGELENGTH]
    image.im = Image.new(image.mode, stored_size, None).im


def _decode_jpeg_xl(file: IO[bytes], max_pixels: int) -> Image.Image:
    with _blaming("JPEG XL"):
        check_size(jpeg_xl_size(file.read()), max_pixels)  # the plug-in decodes everything before it tells the size
    try:
        importlib.import_module("pillow_jxl")
    except ImportError as error:
        raise ImageError("JPEG XL needs a plug-in for Pillow: pip install pillow-jxl-plugin") from error
    with _blaming("JPEG XL"):
        file.seek(0)
        image = Image.OPEN["JXL"][0](file, "")
        image.load()
        # The decoder has turned the picture already, unless what it gives back is a stored JPEG.
        return upright(image) if getattr(image, "jpeg", False) else image
