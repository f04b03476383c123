"""Broken and hostile files give an ImageError that names the file and the reason, and cost neither time nor memory."""

from __future__ import annotations

import base64
import importlib.util
import io
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from joycaption.errors import ImageError
from joycaption.images import MAX_PIXELS, open_image
from joycaption.images.jpeg_xl import jpeg_xl_size

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about truncated metadata


def encoded(kind: str, size: tuple[int, int] = (64, 48), **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 90).convert("RGB").save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, data: bytes) -> bytes:
    """A grey PNG whose header may promise more than its data holds."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def gif(screen: tuple[int, int], frame: tuple[int, int]) -> bytes:
    palette = b"\0\0\0\xff\xff\xff"
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80, 0, 0) + palette
    return head + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\x02\x02\x44\x01\x00;"


def webp(width: int, height: int) -> bytes:
    """An animation whose canvas is as large as asked, and whose only frame is small."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return kind + struct.pack("<I", len(body)) + body

    def three_bytes(*values: int) -> bytes:
        return b"".join(value.to_bytes(3, "little") for value in values)

    picture = encoded("WEBP", (16, 16), lossless=True)[12:]
    canvas = chunk(b"VP8X", b"\x02\0\0\0" + three_bytes(width - 1, height - 1))
    frame = chunk(b"ANMF", three_bytes(0, 0, 15, 15, 100) + b"\0" + picture)
    body = b"WEBP" + canvas + chunk(b"ANIM", bytes(6)) + frame
    return chunk(b"RIFF", body)


def tiff(width: int, height: int) -> bytes:
    tags = ((256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1))
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def jpeg(width: int, height: int) -> bytes:
    data = encoded("JPEG")
    frame = data.index(b"\xff\xc0") + 5
    return data[:frame] + struct.pack(">HH", height, width) + data[frame + 4 :]


# First bytes of files that libjxl wrote, by their size: bare codestreams, and containers.
JXL_HEADERS = {
    size: base64.b64decode(header)
    for size, header in {
        (1, 1): "/woAEJAUNwIAEwgBALQAZw==",
        (64, 32): "/wrHQVLcCAATCAEA5ABnEw==",
        (256, 256): "/wp/QFLcCAATCAEA9ABnEw==",
        (300, 200): "/woxQVLcCAATCAEAuEADDA==",
        (320, 240): "/wr7QFLcCAATCAEAuEADDA==",
        (1920, 1080): "/wq6IQVJcSMAEwgBAGxAGg==",
        (600, 500): "/wqYL5AUNwIAEwgBAMzBAw==",
        (257, 13): "AAAADEpYTCANCocKAAAAFGZ0eXBqeGwgAAAAAGp4bCAAAABYanhsY/8KYAAAgqS4EQATCAEAqEADDA==",
        (9000, 1): "AAAADEpYTCANCocKAAAAFGZ0eXBqeGwgAAAAAGp4bCAAAAFnanhsY/8KAABPRgBJcSMAEwgBAGxA",
        (20_000, 20_000): "AAAADEpYTCANCocKAAAAFGZ0eXBqeGwgAAAAAGp4bCAAAAAJanhsbAoAAG7manhsY/8K/HAiICluBAATCAEA",
        (20_000, 19_999): "AAAADEpYTCANCocKAAAAFGZ0eXBqeGwgAAAAAGp4bCAAAAAJanhsbAoAAG7oanhsY/8K9HACfjgBkuJGABMI",
    }.items()
}

BROKEN = {
    "empty.jpg": b"",
    "text.jpg": b"This is no picture at all, only text.\n",
    "web_page.png": b"<!doctype html><html><body>404 Not Found</body></html>",
    "zeros.webp": bytes(4096),
    "signature_only.jpg": b"\xff\xd8\xff\xe0",
    "cut_header.png": encoded("PNG")[:20],
    "cut_in_half.jpg": encoded("JPEG")[:1500],
    "cut_in_half.png": encoded("PNG")[:3000],
    "cut_in_half.webp": encoded("WEBP")[:900],
    "cut_in_half.gif": encoded("GIF")[:1500],
    "cut_in_half.bmp": encoded("BMP")[:3000],
    "cut_in_half.tif": encoded("TIFF")[:3000],
    "cut_in_half_packed.tif": encoded("TIFF", compression="tiff_lzw")[:3000],
    "cut_in_half.avif": encoded("AVIF")[:900],
    "wrong_checksum.png": encoded("PNG").replace(b"IHDR", b"IHDX"),
    "overwritten.png": encoded("PNG")[:200] + b"\x55" * 400 + encoded("PNG")[600:],
    "no_pixels.bmp": bmp(0, 0),
    "negative.bmp": bmp(-5, 5),
    "no_data.png": png(1000, 1000, b""),
    "little_data.png": png(1000, 1000, zlib.compress(bytes(100))),
    "no_strips.tif": tiff(100, 100)[:60],
    "postscript.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "archive.zip": b"PK\x03\x04" + bytes(60),
    "container.jxl": b"\x00\x00\x00\x0cJXL \r\n\x87\n" + b"\x00\x00\x00\x00ftyp",
}

TOO_LARGE = {
    "20000.png": png(20_000, 20_000, zlib.compress(bytes(1_000_000))),
    "20000.jpg": jpeg(20_000, 20_000),
    "20000.bmp": bmp(20_000, 20_000),
    "20000.gif": gif((20_000, 20_000), (20_000, 20_000)),
    "20000.tif": tiff(20_000, 20_000),
    "16000.webp": webp(16_000, 16_000),
    "huge_frame.gif": gif((1, 1), (60_000, 60_000)),
    "20000.jxl": JXL_HEADERS[20_000, 20_000],
}


REFUSE_ALL = """
import sys
from pathlib import Path
from joycaption.errors import ImageError
from joycaption.images import open_image

for path in sys.argv[1:]:
    try:
        open_image(path)
    except ImageError:
        continue
    sys.exit(f"{path} was opened")
status = Path("/proc/self/status").read_text()
print(status.split("VmHWM:")[1].split()[0])
"""


class TestBrokenFiles:
    @pytest.mark.parametrize("name", BROKEN)
    def test_the_error_names_the_file_and_a_reason(self, name: str, tmp_path: Path) -> None:
        path = tmp_path / name
        path.write_bytes(BROKEN[name])
        with pytest.raises(ImageError, match=rf"^Cannot read {re.escape(str(path))}: \S.+\.$"):
            open_image(path)

    @pytest.mark.parametrize("name", BROKEN)
    def test_given_as_bytes(self, name: str) -> None:
        with pytest.raises(ImageError, match=rf"^Cannot read the picture given as {len(BROKEN[name])} bytes: \S.+\.$"):
            open_image(BROKEN[name])

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("empty.jpg", "the file is empty"),
            ("text.jpg", "it is not a JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or JPEG XL picture"),
            ("cut_in_half.jpg", "it is a broken JPEG file .*truncated"),
            ("wrong_checksum.png", "it is a broken PNG file"),
            ("postscript.eps", "it is not a JPEG"),
        ],
    )
    def test_the_reason_is_the_right_one(self, name: str, words: str) -> None:
        with pytest.raises(ImageError, match=words):
            open_image(BROKEN[name])

    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match=r"no_such\.png: No such file or directory\.$"):
            open_image(tmp_path / "no_such.png")

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ImageError, match="it is a folder"):
            open_image(tmp_path)

    @pytest.mark.parametrize("path", ["", "a\0b.png", "x" * 5000])
    def test_an_impossible_path(self, path: str) -> None:
        with pytest.raises(ImageError, match="Cannot read "):
            open_image(path)

    def test_a_pil_image_whose_file_turns_out_broken(self, tmp_path: Path) -> None:
        path = tmp_path / "late.jpg"
        path.write_bytes(BROKEN["cut_in_half.jpg"])
        with Image.open(path) as image, pytest.raises(ImageError, match=r"late\.jpg.*truncated"):
            open_image(image)

    def test_jpeg_xl_without_its_plug_in_names_the_package(self) -> None:
        if importlib.util.find_spec("pillow_jxl"):
            pytest.skip("Pillow's plug-in for JPEG XL is installed")
        with pytest.raises(ImageError, match="pip install pillow-jxl-plugin"):
            open_image(b"\xff\x0a" + bytes(30))

    def test_avif_with_a_pillow_that_is_too_old(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Image.init()
        monkeypatch.delitem(Image.OPEN, "AVIF")
        with pytest.raises(ImageError, match="AVIF needs Pillow"):
            open_image(encoded("AVIF"))


class TestPixelLimit:
    @pytest.mark.parametrize("name", TOO_LARGE)
    def test_too_large(self, name: str) -> None:
        with pytest.raises(ImageError, match=r"more than the limit of 200 million|too large"):
            open_image(TOO_LARGE[name])

    @pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory as Linux tells it")
    def test_refused_before_decoding(self, tmp_path: Path) -> None:
        """A fresh process that refuses all of them never holds as much as one of them decoded (400 MB)."""
        for name, data in TOO_LARGE.items():
            (tmp_path / name).write_bytes(data)
        path = os.pathsep.join(sys.path)
        command = [sys.executable, "-W", "ignore", "-c", REFUSE_ALL, *map(str, tmp_path.iterdir())]
        result = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=True)
        peak_in_kilobytes = int(result.stdout)
        assert peak_in_kilobytes < 200_000

    def test_the_message_says_how_large_and_what_to_do(self) -> None:
        with pytest.raises(ImageError, match=r"it has 20000 x 20000 pixels, .* 200 million; make it smaller first"):
            open_image(TOO_LARGE["20000.png"])

    def test_the_stated_limit(self) -> None:
        assert MAX_PIXELS == 200_000_000

    def test_the_caller_may_choose_another(self) -> None:
        picture = Image.new("RGB", (10, 10))
        assert open_image(picture, max_pixels=100).size == (10, 10)
        for source in (picture, encoded("PNG", (10, 10)), np.asarray(picture)):
            with pytest.raises(ImageError, match=r"10 x 10 pixels, more than the limit of 9\.9e-05 million"):
                open_image(source, max_pixels=99)

    @pytest.mark.parametrize("size", JXL_HEADERS, ids=str)
    def test_jpeg_xl_sizes(self, size: tuple[int, int]) -> None:
        assert jpeg_xl_size(JXL_HEADERS[size]) == size

    def test_jpeg_xl_boxes_of_every_form(self) -> None:
        start, picture = b"\x00\x00\x00\x0cJXL \r\n\x87\n", JXL_HEADERS[64, 32]
        long_length = struct.pack(">I4sQ", 1, b"free", 20) + b"skip"
        to_the_end = struct.pack(">I4s", 0, b"jxlc") + picture
        first_part = struct.pack(">I4sI", 12 + len(picture), b"jxlp", 0) + picture
        assert jpeg_xl_size(start + long_length + to_the_end) == (64, 32)
        assert jpeg_xl_size(start + first_part) == (64, 32)
