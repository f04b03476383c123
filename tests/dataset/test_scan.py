"""Which pictures `scan` finds, in which order, and what it says when there are none."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from joycaption.dataset import Picture, scan
from joycaption.errors import DatasetError


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def names(root: Path, *paths: str | Path, recursive: bool = False) -> list[str]:
    """What a scan finds, relative to ``root``."""
    found = scan(paths or [root], recursive=recursive)
    return [picture.path.relative_to(root).as_posix() for picture in found]


def test_folder_gives_its_pictures_only(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "B.JPG", "a.txt", "notes.md", "clip.mp4", "no extension", ".hidden.png", "sub/c.png")
    assert names(tmp_path) == ["a.png", "B.JPG"]


def test_every_suffix_is_found(tmp_path: Path) -> None:
    from joycaption.images import IMAGE_SUFFIXES

    make(tmp_path, *(f"picture{suffix}" for suffix in IMAGE_SUFFIXES))
    assert len(names(tmp_path)) == len(IMAGE_SUFFIXES)


def test_natural_order(tmp_path: Path) -> None:
    make(tmp_path, "img10.png", "img2.png", "IMG1.png", "img01.png", "img.png", "img2b.png", "9.png", "10.png")
    expected = ["9.png", "10.png", "img.png", "IMG1.png", "img01.png", "img2.png", "img2b.png", "img10.png"]
    assert names(tmp_path) == expected


def test_digits_of_other_scripts_do_not_upset_the_order(tmp_path: Path) -> None:
    make(tmp_path, "x\u0662.png", "x1.png", "x\u00b2.png")
    assert set(names(tmp_path)) == {"x1.png", "x\u0662.png", "x\u00b2.png"}


def test_recursive_gives_a_folder_before_its_subfolders(tmp_path: Path) -> None:
    make(tmp_path, "z.png", "day10/a.png", "day2/b.png", "day2/deep/c.png", ".git/d.png", "empty/readme.md")
    assert names(tmp_path, recursive=True) == ["z.png", "day2/b.png", "day2/deep/c.png", "day10/a.png"]


def test_hidden_folder_is_scanned_when_it_is_named(tmp_path: Path) -> None:
    make(tmp_path, ".cache/a.png")
    assert names(tmp_path, tmp_path / ".cache") == [".cache/a.png"]


@pytest.mark.parametrize(
    "name", ["with space.png", "emoji \U0001f431.png", "\u732b\u306e\u7d75.png", "\u043a\u043e\u0442.png", "[a]*.png"]
)
def test_any_name(tmp_path: Path, name: str) -> None:
    if sys.platform == "win32" and "*" in name:
        pytest.skip("no such names on Windows")
    make(tmp_path, name)
    assert names(tmp_path) == names(tmp_path, tmp_path / name) == [name]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["a.png", "b.png"]),
        ("*.[jp][pn]g", ["a.png", "b.png", "c.jpg"]),
        ("b?*", ["b.png"]),
        ("day*/x.png", ["day1/x.png", "day2/x.png"]),
        ("day*", ["day1/x.png", "day2/x.png", "day2/y.jpg"]),
        ("**/*.jpg", ["c.jpg", "day2/y.jpg", "day2/deep/z.jpg"]),
        ("**/deep/*", ["day2/deep/z.jpg"]),
        ("**", ["a.png", "b.png", "c.jpg", "day1/x.png", "day2/x.png", "day2/y.jpg", "day2/deep/z.jpg"]),
    ],
)
def test_globs(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    make(tmp_path, "a.png", "b.png", "b.txt", "c.jpg", "day1/x.png", "day2/x.png", "day2/y.jpg", "day2/deep/z.jpg")
    assert names(tmp_path, tmp_path / pattern) == expected


def test_recursive_glob_searches_the_folders_that_it_matches(tmp_path: Path) -> None:
    make(tmp_path, "day1/x.png", "day2/deep/z.jpg", "night/a.png")
    assert names(tmp_path, tmp_path / "day*", recursive=True) == ["day1/x.png", "day2/deep/z.jpg"]


def test_name_that_looks_like_a_glob_but_exists(tmp_path: Path) -> None:
    make(tmp_path, "set [2024]/a.png", "set 2/b.png")
    assert names(tmp_path, tmp_path / "set [2024]") == ["set [2024]/a.png"]


def test_picture_has_one_name_however_it_is_given(tmp_path: Path) -> None:
    make(tmp_path, "a.png")
    given = (tmp_path, tmp_path / "a.png", tmp_path / "*.png", tmp_path / "**")
    assert {next(scan([path])).name for path in given} == {"a.png"}


def test_name_is_the_path_below_the_root_with_slashes(tmp_path: Path) -> None:
    make(tmp_path, "sub/deep/a.png")
    assert [picture.name for picture in scan([tmp_path], recursive=True)] == ["sub/deep/a.png"]


def test_name_does_not_depend_on_how_letters_are_composed() -> None:
    composed, decomposed = (Picture(Path("d") / name, Path("d")) for name in ("\u00e9.png", "e\u0301.png"))
    assert composed.name == decomposed.name


def test_caption_files_among_the_paths_are_ignored(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "a.txt", "a.caption")
    assert names(tmp_path, *sorted(tmp_path.iterdir())) == ["a.png"]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "sub/b.png")
    try:
        (tmp_path / "sub" / "up").symlink_to(tmp_path, target_is_directory=True)
        (tmp_path / "sub" / "self").symlink_to("self")
    except OSError:
        pytest.skip("links are not allowed here")
    assert names(tmp_path, recursive=True) == ["a.png", "sub/b.png"]


def test_linked_folder_is_followed_and_dead_link_is_not_lost(tmp_path: Path) -> None:
    make(tmp_path, "elsewhere/a.png", "set/b.png")
    try:
        (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        (tmp_path / "set" / "dead.png").symlink_to(tmp_path / "nothing.png")
    except OSError:
        pytest.skip("links are not allowed here")
    assert names(tmp_path, tmp_path / "set", recursive=True) == ["set/b.png", "set/dead.png", "set/linked/a.png"]


def test_scan_is_lazy(tmp_path: Path) -> None:
    make(tmp_path, "1/a.png", "2/b.png")
    found = scan([tmp_path], recursive=True)
    assert next(found).path.name == "a.png"
    make(tmp_path, "2/late.png")
    assert [picture.path.name for picture in found] == ["b.png", "late.png"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("missing", "no file or folder"),
        ("missing/*.png", "No picture matches"),
        ("*.webp", "No picture matches"),
        ("empty", "no pictures in the folder"),
        ("only text", "no pictures in the folder"),
        ("notes.md", "not a picture"),
    ],
)
def test_path_without_pictures_is_named_at_the_call(tmp_path: Path, given: str, said: str) -> None:
    make(tmp_path, "a.png", "only text/a.txt", "notes.md")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=said) as error:
        scan([tmp_path / "a.png", tmp_path / given])
    assert str(tmp_path / given) in str(error.value)


def test_folder_with_pictures_below_hints_at_recursive(tmp_path: Path) -> None:
    make(tmp_path, "sub/a.png")
    with pytest.raises(DatasetError, match="only searched when that is asked for"):
        scan([tmp_path])
    with pytest.raises(DatasetError, match="no pictures") as error:
        scan([tmp_path / "sub" / ".."], recursive=False)
    assert "sub" in str(error.value)


def test_empty_path_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match="empty path"):
        scan([""])
    assert [picture.name for picture in scan(["."])] == ["a.png"]


def test_unreadable_folders_are_named_after_everything_else(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "locked/b.png", "open/c.png")
    (tmp_path / "locked").chmod(0)
    if os.access(tmp_path / "locked", os.R_OK):
        pytest.skip("this user may read everything, or this system has no such permissions")
    try:
        found = scan([tmp_path], recursive=True)
        assert [next(found).name, next(found).name] == ["a.png", "open/c.png"]
        with pytest.raises(DatasetError, match="locked"):
            next(found)
        with pytest.raises(DatasetError, match="Cannot read the folder"):
            scan([tmp_path / "locked"])
    finally:
        (tmp_path / "locked").chmod(0o700)


def test_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"Cannot look for|no file or folder"):
        scan([tmp_path / ("x" * 5000 + ".png")])
