"""Caption files: one line of UTF-8, whole or not at all."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from joycaption.dataset.sidecars import FORMATS, SidecarFormat, atomic_write_text, check_writable, sidecar_format
from joycaption.errors import UsageError

every_format = pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)


@every_format
@pytest.mark.parametrize(
    "caption", ["a red cat", "quotes \" ' and {braces}", "\u732b \U0001f431 \u2014 caf\u00e9", "1girl, solo"]
)
def test_round_trip(tmp_path: Path, form: SidecarFormat, caption: str) -> None:
    assert form.read(tmp_path / "cat.png") == ""
    path = form.write(tmp_path / "cat.png", caption)
    assert path == form.path(tmp_path / "cat.png")
    assert form.read(tmp_path / "cat.png") == caption
    assert path.read_bytes() == caption.encode()


@every_format
def test_caption_becomes_one_line(tmp_path: Path, form: SidecarFormat) -> None:
    path = form.write(tmp_path / "cat.png", "  a cat\r\n\n on a\u2028mat\t and\u00a0more \n")
    assert path.read_bytes() == b"a cat on a mat and more"


@every_format
@pytest.mark.parametrize("empty", ["", "  ", "\n\u2028\t"])
def test_empty_caption_is_refused_and_the_old_one_kept(tmp_path: Path, form: SidecarFormat, empty: str) -> None:
    form.write(tmp_path / "cat.png", "old")
    with pytest.raises(UsageError, match="empty"):
        form.write(tmp_path / "cat.png", empty)
    assert form.read(tmp_path / "cat.png") == "old"


@every_format
def test_writing_again_replaces(tmp_path: Path, form: SidecarFormat) -> None:
    form.write(tmp_path / "cat.png", "a rather long old caption")
    form.write(tmp_path / "cat.png", "new")
    assert form.read(tmp_path / "cat.png") == "new"


@pytest.mark.parametrize(
    ("picture", "sidecar"),
    [("cat.png", "cat.txt"), ("v1.2.final.jpg", "v1.2.final.txt"), ("\U0001f431 \u732b.webp", "\U0001f431 \u732b.txt")],
)
def test_only_the_last_extension_is_replaced(picture: str, sidecar: str) -> None:
    assert FORMATS["txt"].path(Path("d") / picture) == Path("d") / sidecar


@pytest.mark.parametrize("content", ["a cat".encode("utf-16"), b"\xef\xbb\xbfa cat", b"a caf\xe9"])
def test_captions_by_other_programs_count_whatever_their_encoding(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cat.txt").write_bytes(content)
    assert FORMATS["txt"].read(tmp_path / "cat.png")


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b" \r\n"])
def test_blank_files_hold_no_caption(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cat.txt").write_bytes(content)
    assert not FORMATS["txt"].read(tmp_path / "cat.png")


def test_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="txt, caption"):
        sidecar_format("doc")


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "cat.txt"
    target.mkdir()  # a folder cannot be replaced by a file
    with pytest.raises(OSError):
        atomic_write_text(target, "a cat")
    assert [path.name for path in tmp_path.iterdir()] == ["cat.txt"]
    with pytest.raises(UnicodeEncodeError):
        atomic_write_text(tmp_path / "dog.txt", "half a pair: \ud83d")
    assert [path.name for path in tmp_path.iterdir()] == ["cat.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_file_gets_ordinary_permissions(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    atomic_write_text(tmp_path / "cat.txt", "a cat")
    assert stat.S_IMODE((tmp_path / "cat.txt").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_name_as_long_as_names_can_be(tmp_path: Path) -> None:
    atomic_write_text(tmp_path / ("x" * 251 + ".txt"), "a cat")
    assert [len(path.name) for path in tmp_path.iterdir()] == [255]


def test_target_held_by_another_program_for_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Only Windows denies such a rename, so the denial is played here.
    denials, replace = iter([PermissionError(13, "in use")] * 2), Path.replace

    def deny_twice(self: Path, target: Path) -> Path:
        for error in denials:
            raise error
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", deny_twice)
    atomic_write_text(tmp_path / "cat.txt", "a cat")
    assert (tmp_path / "cat.txt").read_text() == "a cat"


def test_check_writable_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError):
        check_writable(tmp_path / "missing")
