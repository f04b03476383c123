"""Which pictures want a caption, and which of two gets the caption file."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from joycaption.dataset import FORMATS, Picture, Result, scan, select


def selected(folder: Path, *, overwrite: bool = False, recursive: bool = False) -> tuple[list[str], dict[str, Result]]:
    """Names of the pictures that want a caption, and the results of the others by name."""
    others: list[Result] = []
    pictures = scan([folder], recursive=recursive)
    wanted = [
        picture.name for picture in select(pictures, FORMATS["txt"], overwrite=overwrite, on_result=others.append)
    ]
    return wanted, {result.picture.name: result for result in others}


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()


def test_caption_that_exists_is_kept_and_an_empty_one_is_not_a_caption(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png", "c.png", "d.png", "b.txt")
    (tmp_path / "a.txt").write_text("a cat")
    (tmp_path / "c.txt").write_text(" \n")
    (tmp_path / "d.caption").write_text("of another format")
    wanted, others = selected(tmp_path)
    assert wanted == ["b.png", "c.png", "d.png"]
    assert (others["a.png"].status, others["a.png"].sidecar) == ("skipped", tmp_path / "a.txt")


def test_overwrite_wants_all(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    (tmp_path / "a.txt").write_text("a cat")
    assert selected(tmp_path, overwrite=True) == (["a.png", "b.png"], {})


def test_without_sidecars_all_are_wanted(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.png")
    (tmp_path / "a.txt").write_text("a cat")
    results: list[Result] = []
    wanted = select(scan([tmp_path]), None, overwrite=False, on_result=results.append)
    assert [picture.name for picture in wanted] == ["a.jpg", "a.png"]
    assert not results


def test_two_pictures_with_one_stem(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "a.jpg", "b.png")
    wanted, others = selected(tmp_path)
    assert wanted == ["a.jpg", "b.png"]
    assert others["a.png"].status == "failed"
    assert "a.txt" in others["a.png"].reason
    assert "a.jpg" in others["a.png"].reason


def test_second_run_says_the_same_of_two_pictures_with_one_stem(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "a.jpg")
    _, first = selected(tmp_path)
    (tmp_path / "a.txt").write_text("what a.jpg shows")
    for overwrite in (False, True):
        _, second = selected(tmp_path, overwrite=overwrite)
        assert second["a.png"] == first["a.png"]
    assert "a.jpg" not in second


def test_one_stem_in_two_folders_is_no_conflict(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.png", "y/a.jpg")
    assert selected(tmp_path, recursive=True) == (["x/a.png", "y/a.jpg"], {})


def test_stems_that_differ_in_case(tmp_path: Path) -> None:
    """A conflict just where the file system takes the two names for one."""
    touch(tmp_path, "A.png", "a.jpg")
    one_name = (tmp_path / "a.png").exists()
    wanted, others = selected(tmp_path)
    assert len(wanted) == (1 if one_name else 2)
    assert len(others) == (1 if one_name else 0)


def test_stems_that_a_file_system_takes_for_one(tmp_path: Path) -> None:
    """As on Windows and macOS: there ``a.png`` is the file ``A.png``; here a second link makes it so."""
    touch(tmp_path, "A.png", "a.jpg")
    with suppress(FileExistsError):
        (tmp_path / "a.png").hardlink_to(tmp_path / "A.png")
    results: list[Result] = []
    pictures = [Picture(tmp_path / name, tmp_path) for name in ("A.png", "a.jpg")]
    wanted = list(select(pictures, FORMATS["txt"], overwrite=False, on_result=results.append))
    assert [picture.name for picture in wanted] == ["A.png"]
    assert [(result.picture.name, result.status) for result in results] == [("a.jpg", "failed")]
    assert "A.png" in results[0].reason


def test_picture_named_twice_is_captioned_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    results: list[Result] = []
    twice = scan([tmp_path, tmp_path / "a.png"])
    assert len(list(select(twice, FORMATS["txt"], overwrite=True, on_result=results.append))) == 1
    assert [result.status for result in results] == ["skipped"]


def test_caption_file_that_cannot_be_read_fails_before_any_work(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    (tmp_path / "a.txt").mkdir()
    wanted, others = selected(tmp_path)
    assert wanted == ["b.png"]
    assert (others["a.png"].status, "a.txt" in others["a.png"].reason) == ("failed", True)
