"""Size of a JPEG XL picture from its header, by ISO/IEC 18181-1 (codestream) and 18181-2 (container)."""

from __future__ import annotations

from ..errors import ImageError

__all__ = ["is_jpeg_xl", "jpeg_xl_size"]

_CODESTREAM = b"\xff\x0a"
_CONTAINER = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
_HEADER_BYTES = 14
_WIDTH_TO_HEIGHT = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def is_jpeg_xl(signature: bytes) -> bool:
    """Whether a file that begins with these 12 bytes or more is JPEG XL."""
    return signature.startswith((_CODESTREAM, _CONTAINER))


def jpeg_xl_size(data: bytes) -> tuple[int, int]:
    """(width, height) in pixels of a JPEG XL file, without decoding it.

    Raises:
        ImageError: the container holds no picture.
    """
    codestream = data[:_HEADER_BYTES] if data.startswith(_CODESTREAM) else _first_codestream_box(data)
    bits = int.from_bytes(codestream[len(_CODESTREAM) :], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    in_eighths = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if in_eighths else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    ratio = take(3)
    if ratio == 0:
        return side(), height
    width_part, height_part = _WIDTH_TO_HEIGHT[ratio - 1]
    return height * width_part // height_part, height


def _first_codestream_box(data: bytes) -> bytes:
    position = 0
    while position + 8 <= len(data):
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        start = position + 8
        if length == 1:  # the length did not fit in four bytes
            length, start = int.from_bytes(data[start : start + 8], "big"), start + 8
        if kind == b"jxlc":
            return data[start : start + _HEADER_BYTES]
        if kind == b"jxlp":  # a part, which begins with its number
            return data[start + 4 : start + 4 + _HEADER_BYTES]
        if length < 8:  # 0 is a box up to the end of the file
            break
        position += length
    raise ImageError("it is a JPEG XL container without a picture")
