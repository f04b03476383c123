"""A dataset run with the real demo model: what is saved, when, and what is not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.pictures import draw_picture, draw_pictures

import joycaption
from joycaption import Sampling
from joycaption.captioners import Captioner
from joycaption.dataset import FORMATS, Picture, Result, RunSettings, RunSummary, caption_dataset, scan
from joycaption.errors import DatasetError

PROMPT = joycaption.build_prompt()


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    return joycaption.load("demo", batch_size=2).captioner


def settings(tokens: int = 6, **changed: Any) -> RunSettings:
    values = {"prompt": PROMPT, "sampling": Sampling(max_new_tokens=tokens), "sidecars": FORMATS["txt"], **changed}
    return RunSettings(**values)


def captions_in(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in sorted(folder.rglob("*.txt"))}


def test_every_picture_gets_its_caption(captioner: Captioner, tmp_path: Path) -> None:
    draw_pictures(tmp_path, 3)
    results: list[Result] = []
    summary = caption_dataset(captioner, scan([tmp_path]), settings(), on_result=results.append)
    assert (summary.captioned, summary.skipped, summary.failed, summary.unfinished) == (3, 0, 0, 0)
    assert not summary.stopped
    assert not summary.problem
    captions = captions_in(tmp_path)
    assert sorted(captions) == ["scene 0.txt", "scene 1.txt", "scene 2.txt"]
    for result in results:
        assert result.sidecar == result.picture.with_suffix(".txt")
        assert captions[result.sidecar.name] == " ".join(result.caption.text.split())
    assert summary.tokens == sum(result.caption.tokens for result in results)


def test_second_run_asks_nothing_of_the_captioner(captioner: Captioner, tmp_path: Path) -> None:
    draw_pictures(tmp_path, 3)
    caption_dataset(captioner, scan([tmp_path]), settings())
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()}
    summary = caption_dataset(captioner, scan([tmp_path]), settings())
    assert (summary.captioned, summary.skipped, summary.tokens) == (0, 3, 0)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()} == before


def test_overwrite_with_another_seed_gives_other_captions(captioner: Captioner, tmp_path: Path) -> None:
    draw_pictures(tmp_path, 2)
    hot = Sampling(temperature=3.0, top_p=1.0, max_new_tokens=12)
    seen = []
    for seed in (1, 2, 1):
        caption_dataset(captioner, scan([tmp_path]), settings(sampling=hot, seed=seed, overwrite=True))
        seen.append(captions_in(tmp_path))
    assert seen[0] == seen[2]
    assert seen[0] != seen[1]


def test_caption_does_not_depend_on_company_order_or_place(captioner: Captioner, tmp_path: Path) -> None:
    hot = Sampling(temperature=3.0, top_p=1.0, max_new_tokens=12)
    for folder in ("here", "there"):
        draw_picture(tmp_path / folder / "b.png", seed=7)
    draw_picture(tmp_path / "here" / "a.png", seed=1)
    for folder in ("here", "there"):
        caption_dataset(captioner, scan([tmp_path / folder]), settings(sampling=hot))
    assert captions_in(tmp_path / "here")["b.txt"] == captions_in(tmp_path / "there")["b.txt"]


def test_caption_begins_as_asked(captioner: Captioner, tmp_path: Path) -> None:
    draw_pictures(tmp_path, 1)
    caption_dataset(captioner, scan([tmp_path]), settings(begin_with="In this drawing"))
    assert captions_in(tmp_path)["scene 0.txt"].startswith("In this drawing")


def test_without_sidecars_nothing_is_written(captioner: Captioner, tmp_path: Path) -> None:
    draw_pictures(tmp_path, 2)
    results: list[Result] = []
    summary = caption_dataset(captioner, scan([tmp_path]), settings(sidecars=None), on_result=results.append)
    assert summary.captioned == 2
    assert all(result.caption.text for result in results)
    assert len(list(tmp_path.iterdir())) == 2


def test_broken_picture_fails_alone_with_its_reason(captioner: Captioner, tmp_path: Path) -> None:
    draw_pictures(tmp_path, 3)
    (tmp_path / "scene 1.png").write_bytes(b"")
    results: list[Result] = []
    summary = caption_dataset(captioner, scan([tmp_path]), settings(), on_result=results.append)
    assert (summary.captioned, summary.failed) == (2, 1)
    (failure,) = (result for result in results if result.status == "failed")
    assert failure.picture.name == "scene 1.png"
    assert "empty" in failure.reason
    assert sorted(captions_in(tmp_path)) == ["scene 0.txt", "scene 2.txt"]


def test_caption_is_on_the_disk_before_later_pictures_are_asked_for(captioner: Captioner, tmp_path: Path) -> None:
    draw_pictures(tmp_path, 8)
    saved = []

    def pictures() -> Iterator[Picture]:
        for picture in scan([tmp_path]):
            saved.append(len(captions_in(tmp_path)))
            yield picture

    caption_dataset(captioner, pictures(), settings())
    # Two slots: when the picture of place n is asked for, all but the one still in the making are saved.
    assert all(count >= place - 2 for place, count in enumerate(saved))
    assert saved[-1] >= 5


def test_stop_saves_what_is_done_and_nothing_else(captioner: Captioner, tmp_path: Path) -> None:
    draw_pictures(tmp_path, 8)
    results: list[Result] = []
    summary = caption_dataset(
        captioner, scan([tmp_path]), settings(), on_result=results.append, should_stop=lambda: len(results) >= 3
    )
    assert summary.stopped
    assert 3 <= summary.captioned < 8
    assert len(captions_in(tmp_path)) == summary.captioned
    assert all(captions_in(tmp_path).values())
    rest = caption_dataset(captioner, scan([tmp_path]), settings())
    assert (rest.captioned, rest.skipped, rest.stopped) == (8 - summary.captioned, summary.captioned, False)


def test_stop_in_the_middle_of_a_caption_does_not_save_it(captioner: Captioner, tmp_path: Path) -> None:
    draw_pictures(tmp_path, 1)
    asked = iter(range(100))
    summary = caption_dataset(captioner, scan([tmp_path]), settings(60), should_stop=lambda: next(asked) > 5)
    assert (summary.captioned, summary.unfinished, summary.stopped) == (0, 1, True)
    assert not captions_in(tmp_path)


def test_stop_while_pictures_are_skipped(captioner: Captioner, tmp_path: Path) -> None:
    draw_pictures(tmp_path, 5)
    caption_dataset(captioner, scan([tmp_path]), settings())
    results: list[Result] = []
    summary = caption_dataset(
        captioner, scan([tmp_path]), settings(), on_result=results.append, should_stop=lambda: len(results) >= 2
    )
    assert (summary.skipped, summary.stopped) == (2, True)


def test_caption_that_cannot_be_saved_fails_alone(captioner: Captioner, tmp_path: Path) -> None:
    draw_pictures(tmp_path, 2)
    results: list[Result] = []

    class BlockedMeanwhile:
        """Text sidecars, but somebody makes a folder where one is to be written."""

        extension = ".txt"
        path = staticmethod(FORMATS["txt"].path)
        read = staticmethod(FORMATS["txt"].read)

        def write(self, picture: Path, caption: str) -> Path:
            if picture.name == "scene 0.png":
                self.path(picture).mkdir()
            return FORMATS["txt"].write(picture, caption)

    summary = caption_dataset(
        captioner, scan([tmp_path]), settings(sidecars=BlockedMeanwhile()), on_result=results.append
    )
    assert (summary.captioned, summary.failed, summary.problem) == (1, 1, "")
    assert "cannot be saved" in next(result.reason for result in results if result.status == "failed")


def test_pictures_that_raise_a_dataset_error_end_the_run_after_those_before(
    captioner: Captioner, tmp_path: Path
) -> None:
    draw_pictures(tmp_path, 3)

    def pictures() -> Iterator[Picture]:
        yield from scan([tmp_path])
        raise DatasetError("Some folders cannot be read.")

    summary = caption_dataset(captioner, pictures(), settings())
    assert (summary.captioned, summary.problem) == (3, "Some folders cannot be read.")


class TestFolderWithoutWritePermission:
    @pytest.fixture
    def locked(self, tmp_path: Path) -> Iterator[Path]:
        draw_pictures(tmp_path / "b locked", 2)
        (tmp_path / "b locked").chmod(0o500)
        if os.access(tmp_path / "b locked", os.W_OK):
            pytest.skip("this user may write everywhere, or this system has no such permissions")
        yield tmp_path / "b locked"
        (tmp_path / "b locked").chmod(0o700)

    def run(self, captioner: Captioner, folder: Path) -> RunSummary:
        return caption_dataset(captioner, scan([folder], recursive=True), settings())

    def test_ends_the_run_before_any_work_when_it_is_the_first(self, captioner: Captioner, locked: Path) -> None:
        summary = self.run(captioner, locked)
        assert (summary.captioned, summary.failed) == (0, 0)
        assert str(locked) in summary.problem

    def test_fails_alone_among_others(self, captioner: Captioner, locked: Path) -> None:
        for other in ("a", "c"):
            draw_pictures(locked.parent / other, 1)
        summary = self.run(captioner, locked.parent)
        assert (summary.captioned, summary.failed, summary.problem) == (2, 2, "")
