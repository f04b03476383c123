"""Every kind of source, mode and file format becomes the same upright RGB picture."""

from __future__ import annotations

import io
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from joycaption.errors import ImageError, UsageError
from joycaption.images import IMAGE_SUFFIXES, open_image

SAVED_AS = {
    ".bmp": {},
    ".gif": {},
    ".png": {},
    ".tif": {"compression": "tiff_lzw"},
    ".tiff": {},
    ".webp": {"lossless": True},
    ".jpg": {"quality": 98, "subsampling": 0},
    ".jpeg": {"quality": 98, "subsampling": 0},
    ".jpe": {"quality": 98, "subsampling": 0},
    ".jfif": {"quality": 98, "subsampling": 0},
    ".avif": {"quality": 98, "subsampling": "4:4:4"},
}
OPEN_FILES = Path("/proc/self/fd")
LOSSLESS = (".bmp", ".png", ".tif", ".tiff", ".webp")

# What each EXIF orientation asks of a reader, as numpy spells it (height first).
EXIF_TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}
EXIF_INVERSE = {6: 8, 8: 6}


def colour_blocks() -> np.ndarray:
    """48 x 32 pixels in six blocks of different colours, which survive lossy formats; no symmetry."""
    blocks = np.array(
        [
            [[220, 30, 30], [30, 200, 40], [40, 40, 210]],
            [[240, 240, 240], [20, 20, 20], [230, 210, 40]],
        ],
        dtype=np.uint8,
    )
    return blocks.repeat(16, axis=0).repeat(16, axis=1)


def random_rgb(height: int = 6, width: int = 10, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(source: object, **options: object) -> np.ndarray:
    opened = open_image(source, **options)
    assert opened.mode == "RGB"
    return np.asarray(opened)


class TestFormats:
    @pytest.mark.parametrize("suffix", SAVED_AS)
    def test_a_file_is_read(self, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f"снимок 📷 one{suffix}"
        Image.fromarray(colour_blocks()).save(path, **SAVED_AS[suffix])
        off = np.abs(pixels(path).astype(int) - colour_blocks()).max()
        assert off <= (0 if suffix in (*LOSSLESS, ".gif") else 6)

    def test_every_suffix_that_is_scanned_for_is_tested(self) -> None:
        assert set(SAVED_AS) | {".jxl"} == IMAGE_SUFFIXES

    def test_the_content_decides_and_not_the_suffix(self, tmp_path: Path) -> None:
        path = tmp_path / "really_a_png.jpg"
        path.write_bytes(encoded(Image.fromarray(random_rgb())))
        assert np.array_equal(pixels(path), random_rgb())

    @pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
    def test_the_first_frame_of_an_animation(self, kind: str) -> None:
        red, blue = Image.new("RGB", (32, 32), (255, 0, 0)), Image.new("RGB", (32, 32), (0, 0, 255))
        data = encoded(red, kind, save_all=True, append_images=[blue])
        assert Image.open(io.BytesIO(data)).n_frames == 2
        red_level, _, blue_level = pixels(data)[16, 16]
        assert red_level > 240
        assert blue_level < 15

    def test_one_pixel(self) -> None:
        assert pixels(encoded(Image.new("RGB", (1, 1), (9, 8, 7)))).tolist() == [[[9, 8, 7]]]

    def test_jpeg_xl(self) -> None:
        pytest.importorskip("pillow_jxl", reason="Pillow's plug-in for JPEG XL is not installed")
        assert np.array_equal(pixels(encoded(Image.fromarray(random_rgb()), "JXL", lossless=True)), random_rgb())


class TestOrientation:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
    @pytest.mark.parametrize("orientation", EXIF_TURNS)
    def test_exif_orientation_is_applied(self, kind: str, orientation: int) -> None:
        turned = EXIF_TURNS[EXIF_INVERSE.get(orientation, orientation)](colour_blocks())
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = encoded(Image.fromarray(np.ascontiguousarray(turned)), kind, exif=exif)
        opened = pixels(data)
        assert opened.shape == colour_blocks().shape
        # Block centres: lossy formats blur the borders between the blocks.
        assert np.abs(opened[8::16, 8::16].astype(int) - colour_blocks()[8::16, 8::16]).max() <= 12

    def test_it_is_applied_once(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        lying = Image.open(io.BytesIO(encoded(Image.fromarray(random_rgb()), exif=exif)))
        upright = open_image(lying)
        assert lying.size == (10, 6)
        assert upright.size == (6, 10)
        assert np.array_equal(pixels(upright), np.asarray(upright))

    @pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about the metadata
    @pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02", b"\xff" * 50])
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
    def test_broken_metadata_does_not_break_a_picture(self, kind: str, exif: bytes) -> None:
        assert pixels(encoded(Image.fromarray(random_rgb()), kind, exif=exif)).shape == (6, 10, 3)


class TestModes:
    def test_one_bit(self) -> None:
        image = Image.fromarray(random_rgb()[:, :, 0]).convert("1")
        assert np.array_equal(pixels(encoded(image))[:, :, 1], np.asarray(image) * 255)

    def test_grey(self) -> None:
        image = Image.fromarray(random_rgb()[:, :, 0])
        assert np.array_equal(pixels(encoded(image)), random_rgb()[:, :, :1].repeat(3, axis=2))

    def test_palette(self) -> None:
        image = Image.fromarray(colour_blocks()).convert("P", palette=Image.Palette.ADAPTIVE, colors=6)
        assert np.array_equal(pixels(encoded(image)), colour_blocks())

    @pytest.mark.parametrize("transparency", [0, b"\x00\xff"], ids=["index", "alpha per colour"])
    def test_palette_with_transparency(self, transparency: int | bytes) -> None:
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 200, 100, 50])
        image.putpixel((1, 0), 1)
        data = encoded(image, transparency=transparency)
        assert pixels(data, background=(1, 2, 3)).tolist() == [[[1, 2, 3], [200, 100, 50]]]

    def test_one_transparent_colour(self) -> None:
        image = Image.new("RGB", (2, 1), (10, 20, 30))
        image.putpixel((1, 0), (5, 5, 5))
        data = encoded(image, transparency=(10, 20, 30))
        assert pixels(data).tolist() == [[[255, 255, 255], [5, 5, 5]]]

    @pytest.mark.parametrize("mode", ["RGBA", "RGBa", "LA", "La", "PA"])
    def test_alpha_is_flattened_onto_the_background(self, mode: str) -> None:
        image = Image.new("RGBA", (3, 1))
        for x, alpha in enumerate((0, 128, 255)):
            image.putpixel((x, 0), (100, 100, 100, alpha))
        if mode == "PA":
            image = Image.merge("PA", (image.convert("P").point(lambda _: 1), image.getchannel("A")))
            image.putpalette([0, 0, 0, 100, 100, 100])
        elif mode != "RGBA":
            image = image.convert("LA").convert(mode) if mode in ("LA", "La") else image.convert(mode)
        levels = pixels(image, background=(200, 0, 50))[0].astype(int)
        assert np.abs(levels - [[200, 0, 50], [150, 50, 75], [100, 100, 100]]).max() <= 1

    def test_white_is_the_background_unless_another_is_chosen(self) -> None:
        clear = encoded(Image.new("RGBA", (1, 1)))
        assert pixels(clear).tolist() == [[[255, 255, 255]]]
        assert pixels(clear, background=(4, 5, 6)).tolist() == [[[4, 5, 6]]]

    @pytest.mark.parametrize("background", [(0, 0), (0, 0, 256), (0.5, 0, 0), "red"])
    def test_a_background_that_is_no_colour(self, background: object) -> None:
        with pytest.raises(UsageError, match="three whole numbers from 0 to 255"):
            open_image(encoded(Image.new("RGB", (1, 1))), background=background)

    @pytest.mark.parametrize("kind", ["PNG", "TIFF"])
    @pytest.mark.parametrize("dtype", ["<u2", ">u2"])
    def test_sixteen_bit_grey_is_scaled(self, kind: str, dtype: str) -> None:
        levels = np.array([[0, 257, 128 * 257, 65535 - 257, 65535]], dtype=dtype)
        data = encoded(Image.fromarray(levels), kind)
        assert pixels(data)[0, :, 0].tolist() == [0, 1, 128, 254, 255]

    @pytest.mark.parametrize("brightest", [255, 65535, 2**31 - 1])
    def test_whole_number_grey_is_scaled_from_the_range_that_holds_it(self, brightest: int) -> None:
        image = Image.fromarray(np.array([[0, brightest]], dtype=np.int32))
        white = 255 if brightest < 2**16 else 128
        assert pixels(encoded(image, "TIFF"))[0, :, 0].tolist() == [0, white]

    @pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
    def test_float_grey_is_scaled_from_the_range_that_holds_it(self, white: float) -> None:
        image = Image.fromarray(np.array([[-1.0, 0.0, white / 5, white, np.nan]], dtype=np.float32))
        assert pixels(encoded(image, "TIFF"))[0, :, 0].tolist() == [0, 0, 51, 255, 0]

    @pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
    def test_cmyk(self, kind: str) -> None:
        image = Image.fromarray(colour_blocks()).convert("CMYK")
        options = {"quality": 98, "subsampling": 0} if kind == "JPEG" else {}
        data = encoded(image, kind, **options)
        assert Image.open(io.BytesIO(data)).mode == "CMYK"
        assert np.abs(pixels(data)[8::16, 8::16].astype(int) - colour_blocks()[8::16, 8::16]).max() <= 12

    def test_cmyk_jpeg_by_adobe_is_stored_inverted(self) -> None:
        data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=98)
        assert b"Adobe" in data
        assert np.abs(pixels(data).astype(int) - [255, 0, 0]).max() <= 12

    def test_luma_and_chroma(self) -> None:
        image = Image.fromarray(colour_blocks()).convert("YCbCr")
        assert np.abs(pixels(encoded(image, "TIFF")).astype(int) - colour_blocks()).max() <= 4


class TestSources:
    def test_a_path_as_text(self, tmp_path: Path) -> None:
        Image.fromarray(random_rgb()).save(tmp_path / "a.png")
        assert np.array_equal(pixels(str(tmp_path / "a.png")), random_rgb())

    def test_a_pil_image_is_not_changed(self) -> None:
        image = Image.fromarray(random_rgb(channels=4))
        image.info["comment"] = "kept"
        opened = open_image(image)
        assert image.mode == "RGBA"
        assert image.info == {"comment": "kept"}
        assert opened.info == {}

    def test_the_result_is_a_copy(self) -> None:
        image = Image.fromarray(random_rgb())
        open_image(image).putpixel((0, 0), (0, 0, 0))
        assert np.array_equal(np.asarray(image), random_rgb())

    @pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
    def test_layouts_of_arrays_and_tensors(self, make: object) -> None:
        rgb, grey = random_rgb(), random_rgb()[:, :, :1]
        rgba = np.concatenate([rgb, np.full_like(grey, 255)], axis=2)
        as_rgb = grey.repeat(3, axis=2)
        for array, expected in (
            (rgb, rgb),
            (rgba, rgb),
            (grey, as_rgb),
            (grey[:, :, 0], as_rgb),
            (rgb[None], rgb),
            (np.ascontiguousarray(rgb.transpose(2, 0, 1)), rgb),
            (np.ascontiguousarray(rgba.transpose(2, 0, 1)), rgb),
            (np.ascontiguousarray(grey.transpose(2, 0, 1)), as_rgb),
            (np.ascontiguousarray(rgb.transpose(2, 0, 1))[None], rgb),
        ):
            assert np.array_equal(pixels(make(array)), expected), array.shape

    def test_channels_are_last_when_both_could_be(self) -> None:
        array = random_rgb(height=3, width=5)
        assert np.array_equal(pixels(array), array)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_float_tensors(self, dtype: torch.dtype) -> None:
        tensor = torch.tensor([[0.0, 0.25, 0.5, 1.0]], dtype=dtype, requires_grad=True)
        assert pixels(tensor)[0, :, 0].tolist() == [0, 64, 128, 255]

    def test_every_byte_survives_a_trip_through_floats(self) -> None:
        levels = np.arange(256, dtype=np.uint8)[None]
        assert np.array_equal(pixels(levels.astype(np.float32) / 255)[:, :, 0], levels)
        for dtype in ("<u2", ">u2"):
            deep = (levels.astype(np.uint16) * 257).astype(dtype)
            assert np.array_equal(pixels(deep)[:, :, 0], levels)

    def test_a_little_overshoot_is_clipped(self) -> None:
        assert pixels(np.array([[-0.02, 1.03]]))[0, :, 0].tolist() == [0, 255]

    @pytest.mark.parametrize(
        ("array", "complaint"),
        [
            (np.zeros((2, 8, 8, 3), np.uint8), r"its shape is \[2, 8, 8, 3\]"),
            (np.zeros((8, 8, 2), np.uint8), r"its shape is \[8, 8, 2\]"),
            (np.zeros((0, 8, 3), np.uint8), r"its shape is \[0, 8, 3\]"),
            (np.zeros(8, np.uint8), r"its shape is \[8\]"),
            (np.zeros((8, 8, 3), np.int64), "its dtype is int64"),
            (np.full((8, 8, 3), 200.0), "its floats run from 200 to 200"),
            (np.array([[-1.0, 1.0]]), "its floats run from -1 to 1"),
            (np.array([[0.5, np.nan]]), "its floats run from nan to nan"),
        ],
    )
    def test_arrays_that_are_no_picture(self, array: np.ndarray, complaint: str) -> None:
        with pytest.raises(ImageError, match=complaint):
            open_image(array)

    def test_something_else(self) -> None:
        with pytest.raises(ImageError, match="Cannot read the list: a picture is a path, an address, bytes"):
            open_image([1, 2, 3])


class TestSurroundings:
    def test_pillows_global_limit_is_not_ours(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pillow warns above its limit; with a limit under the picture's size no warning may come out."""
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        picture = Image.fromarray(colour_blocks())
        assert picture.width * picture.height > 1000
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF"):
                assert pixels(encoded(picture, kind)).shape == colour_blocks().shape
            assert pixels(encoded(picture, "TIFF", compression="tiff_lzw")).shape == colour_blocks().shape
        assert Image.MAX_IMAGE_PIXELS == 1000

    @pytest.mark.skipif(not OPEN_FILES.is_dir(), reason="open files are counted in /proc")
    def test_no_file_stays_open(self, tmp_path: Path) -> None:
        files = [tmp_path / f"a{suffix}" for suffix in SAVED_AS]
        for file in files:
            Image.fromarray(colour_blocks()).save(file, **SAVED_AS[file.suffix])
        broken = tmp_path / "broken.png"
        broken.write_bytes(files[2].read_bytes()[:60])
        before = len(list(OPEN_FILES.iterdir()))
        opened = [open_image(file) for file in files]
        with pytest.raises(ImageError) as error:  # which keeps the frames, and what they hold, alive
            open_image(broken)
        assert len(list(OPEN_FILES.iterdir())) == before
        assert len(opened) == len(files), error

    def test_many_threads(self, tmp_path: Path) -> None:
        expected = {}
        for index in range(24):
            suffix = list(SAVED_AS)[index % len(SAVED_AS)]
            path = tmp_path / f"{index}{suffix}"
            Image.fromarray(np.roll(colour_blocks(), index, axis=1)).save(path, **SAVED_AS[suffix])
            expected[path] = pixels(path)
        with ThreadPoolExecutor(8) as pool:
            jobs = list(expected) * 8
            for path, opened in zip(jobs, pool.map(pixels, jobs), strict=True):
                assert np.array_equal(opened, expected[path]), path.name
