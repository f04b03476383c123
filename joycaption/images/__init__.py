"""Any picture in, upright RGB out; and the square of pixel values that the vision tower reads.

Pictures are untrusted. A file's size is judged from its header before anything is decoded, only the formats named here
are tried, and whatever a decoder does about a broken file becomes an ``ImageError`` for that picture alone. Pillow's
global settings are neither touched nor relied on, no file stays open, and everything may run in many threads at once.
"""

from __future__ import annotations

from .download import MAX_DOWNLOAD_BYTES, MAX_DOWNLOAD_SECONDS, download_image
from .files import IMAGE_SUFFIXES, MAX_PIXELS
from .opening import ImageSource, open_image
from .pixels import pixel_values

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_DOWNLOAD_BYTES",
    "MAX_DOWNLOAD_SECONDS",
    "MAX_PIXELS",
    "ImageSource",
    "download_image",
    "open_image",
    "pixel_values",
]
