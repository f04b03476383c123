"""Picture files for tests: drawn scenes, and files that are no pictures although they are called so."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from joycaption.demo.scenes import draw, random_scene

__all__ = ["BROKEN", "SIZES", "draw_picture", "draw_pictures"]

SIZES = ((640, 480), (512, 512), (300, 700), (800, 300), (64, 64), (1024, 768), (333, 517))  # seven, of all shapes


def draw_picture(path: Path, seed: int = 0) -> Path:
    """A small drawn scene, in the format that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(random_scene(random.Random(seed)), 96 * 96).save(path)
    return path


def draw_pictures(folder: Path, count: int) -> list[Path]:
    return [draw_picture(folder / f"scene {number}.png", number) for number in range(count)]


def _encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 90).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _huge_png() -> bytes:
    header = _png_chunk(b"IHDR", struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _png_chunk(b"IDAT", zlib.compress(b"")) + _png_chunk(b"IEND", b"")


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("cat.png", _encoded("PNG"))
    return buffer.getvalue()


def _damaged_png() -> bytes:
    data = bytearray(_encoded("PNG"))
    data[len(data) // 2] ^= 0xFF
    return bytes(data)


BROKEN: Mapping[str, bytes] = {
    "empty.png": b"",
    "web page.jpg": b"<!DOCTYPE html><title>404 Not Found</title>",
    "zeros.bmp": bytes(4096),
    "archive.webp": _zip(),
    "huge.png": _huge_png(),
    "damaged.png": _damaged_png(),
    "cut.jpg": _encoded("JPEG")[:400],
    "cut.webp": _encoded("WEBP")[:200],
    "cut.tiff": _encoded("TIFF")[:300],
    "header only.gif": _encoded("GIF")[:13],
}
"""Ten kinds of broken files: name -> content."""
