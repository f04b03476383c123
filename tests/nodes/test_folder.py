"""JoyCaption Folder: captions beside the pictures of a folder, and only of folders that a graph may touch."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from support.nodepack import Host, Pack
from support.pictures import BROKEN, draw_picture, draw_pictures

from joycaption import Request, Sampling, build_prompt, derive_seed
from joycaption.captioners import Captioner
from joycaption.demo import SAMPLES

Run: TypeAlias = Callable[..., Any]

WILD = Sampling(temperature=2.0, top_p=1.0, max_new_tokens=12)  # every picture, prompt and seed has a text of its own
WILDLY: dict[str, Any] = {"temperature": 2.0, "top_p": 1.0, "max_tokens": 12}


@pytest.fixture
def run(pack: Pack) -> Run:
    """Run the node on the demo model; gives its outputs: captioned, skipped, failed, summary, failures."""
    model = pack.run("JoyCaptionLoad").result[0]
    return lambda folder, **inputs: (
        pack.run("JoyCaptionFolder", **{"model": model, "folder": str(folder), **WILDLY, **inputs}).result
    )


@pytest.fixture
def fingerprint(pack: Pack) -> Callable[..., Any]:
    constants = {"recursive": False, "format": "txt", "existing": "skip", "seed": 0}
    node = pack.nodes["JoyCaptionFolder"]
    return lambda folder, **changed: node.fingerprint_inputs(folder=str(folder), **{**constants, **changed})


@pytest.fixture
def pictures(host: Host) -> Path:
    """A folder of four pictures below the input folder."""
    draw_pictures(host.input / "set", 4)
    return host.input / "set"


def captions_in(folder: Path, extension: str = ".txt") -> dict[str, str]:
    found = sorted(folder.rglob(f"*{extension}"))
    return {path.relative_to(folder).as_posix(): path.read_text("utf-8") for path in found}


def state(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_room_is_made_for_all_that_run_at_once(host: Host, run: Run, pictures: Path) -> None:
    """A lazy run has all its slots, however few pictures come."""
    run(pictures)
    draw_pictures(pictures, 12)
    run(pictures, existing="overwrite")
    few, many = host.management.rooms
    assert few == many


def test_when_every_picture_fails_the_node_does(host: Host, pack: Pack, run: Run) -> None:
    for name in ("a.png", "b.png"):
        (host.input / name).write_bytes(BROKEN["empty.png"])
    with pytest.raises(pack.NodeError, match="0 captioned, 0 skipped, 2 failed") as told:
        run(host.input)
    assert all(f"\n{name}: " in str(told.value) for name in ("a.png", "b.png"))


def test_a_disk_that_refuses_is_a_sentence(host: Host, pack: Pack, run: Run) -> None:
    (host.input / "joycaption samples").touch()
    with pytest.raises(pack.NodeError, match=r"^JoyCaption Folder: .*joycaption samples cannot be used: "):
        run("joycaption samples")


@pytest.mark.parametrize("unknown", ["folder", "recursive", "format", "existing"])
def test_what_another_node_gives_is_not_known_yet(
    pack: Pack, pictures: Path, fingerprint: Callable[..., Any], unknown: str
) -> None:
    inputs = {"folder": str(pictures), "recursive": False, "format": "txt", "existing": "skip", unknown: None}
    assert math.isnan(pack.nodes["JoyCaptionFolder"].fingerprint_inputs(**inputs))


class TestCaptions:
    def test_they_are_the_librarys(self, pack: Pack, run: Run, pictures: Path, library: Captioner) -> None:
        options, prompt = pack.run("JoyCaptionOptions", type="Art Critic", lighting=True).result
        said: dict[str, Any] = {"begin_with": "In this", "seed": 5}
        assert run(pictures, options=options, system_prompt="Be {brief}.", **said)[:3] == (4, 0, 0)
        found = captions_in(pictures)
        for path in pictures.glob("*.png"):
            one = Request(path, prompt, "Be {brief}.", "In this", WILD, derive_seed(5, path.name, 0, 0))
            _, caption = next(iter(library.caption([one])))
            assert found.pop(f"{path.stem}.txt") == " ".join(caption.text.split())
        assert found == {}

    def test_a_custom_prompt_keeps_extras_and_braces(self, pack: Pack, run: Run, pictures: Path) -> None:
        options = pack.run("JoyCaptionOptions", type="MidJourney", lighting=True).result[0]
        run(pictures, custom_prompt="Name {it}.", options=options)
        run(pictures, custom_prompt=build_prompt(instruction="Name {it}.", extras=["lighting"]), format="caption")
        assert list(captions_in(pictures).values()) == list(captions_in(pictures, ".caption").values())

    def test_summary_and_outputs(self, pack: Pack, run: Run, pictures: Path) -> None:
        (pictures / "scene 0.txt").write_text("a cat")
        (pictures / "broken.png").touch()
        captioned, skipped, failed, summary, failures = run(pictures)
        assert (captioned, skipped, failed) == (3, 1, 1)
        assert summary.startswith("3 captioned, 1 skipped, 1 failed.")
        assert failures.startswith("broken.png: ") and "\n" not in failures

    def test_progress_counts_pictures(self, host: Host, run: Run, pictures: Path) -> None:
        run(pictures)
        assert [1, 2, 3, 4] in host.bars


class TestWhichPictures:
    @pytest.mark.parametrize("name", ["{}", ' "{}" ', "{}/", "{}/../set"])
    @pytest.mark.parametrize("root", ["", "{input}/"])
    def test_absolute_or_below_the_input_folder(
        self, host: Host, run: Run, pictures: Path, root: str, name: str
    ) -> None:
        assert run(name.format(root.format(input=host.input) + "set"))[0] == 4
        assert len(captions_in(pictures)) == 4

    def test_subfolders_only_when_asked_for(self, run: Run, pictures: Path) -> None:
        draw_picture(pictures / "sub" / "deep" / "a.png")
        assert run(pictures)[0] == 4
        assert run(pictures, recursive=True)[:2] == (1, 4)
        assert captions_in(pictures)["sub/deep/a.txt"]

    def test_skip_or_overwrite(self, run: Run, pictures: Path) -> None:
        (pictures / "scene 0.txt").write_text("a cat")
        assert run(pictures)[:2] == (3, 1)
        assert captions_in(pictures)["scene 0.txt"] == "a cat"
        assert run(pictures, existing="overwrite")[:2] == (4, 0)
        assert captions_in(pictures)["scene 0.txt"] not in ("a cat", "")

    def test_the_other_format(self, run: Run, pictures: Path) -> None:
        (pictures / "scene 0.txt").write_text("a cat")
        assert run(pictures, format="caption")[0] == 4
        assert len(captions_in(pictures, ".caption")) == 4
        assert captions_in(pictures) == {"scene 0.txt": "a cat"}

    @pytest.mark.parametrize(
        ("folder", "said"),
        [
            ("", "it is blank"),
            (" \n", "it is blank"),
            ('""', "it is blank"),
            ("no such folder", "there is no folder .*no such folder"),
            ("set/scene 0.png", "scene 0.png is a file"),
            ("empty", "no pictures in the folder .*empty"),
            ("~no-such-user/set", "~no-such-user"),
            ("A long description that was meant for another input. " * 20, "A long description"),
            ("set\0", "set"),
        ],
        ids=lambda text: text[:20],
    )
    def test_what_is_no_folder_of_pictures(
        self, host: Host, pack: Pack, run: Run, pictures: Path, folder: str, said: str
    ) -> None:
        (host.input / "empty").mkdir()
        with pytest.raises(pack.NodeError, match=f"^JoyCaption Folder: input folder: .*{said}"):
            run(folder)
        assert captions_in(host.input) == {}


class TestBrokenPictures:
    def test_they_are_named_and_get_no_caption(self, run: Run, pictures: Path) -> None:
        for name, content in BROKEN.items():
            (pictures / "sub").mkdir(exist_ok=True)
            (pictures / "sub" / name).write_bytes(content)
        captioned, skipped, failed, _, failures = run(pictures, recursive=True)
        assert (captioned, skipped, failed) == (4, 0, len(BROKEN))
        lines = dict(line.split(": ", 1) for line in failures.splitlines())
        assert lines.keys() == {str(Path("sub", name)) for name in BROKEN}
        assert all(lines.values())
        assert captions_in(pictures).keys() == {f"scene {number}.txt" for number in range(4)}

    def test_a_second_run_changes_no_file_and_loads_nothing(
        self, host: Host, pack: Pack, run: Run, pictures: Path
    ) -> None:
        (pictures / "broken.png").touch()
        run(pictures)
        before, loads = state(pictures), len(host.management.rooms)
        assert run(pictures)[:3] == (0, 4, 1)
        assert state(pictures) == before
        (pictures / "broken.png").unlink()
        assert run(pictures)[:3] == (0, 4, 0)
        assert len(host.management.rooms) == loads + 1  # for the broken one, which was tried again


class TestInterrupt:
    @pytest.mark.parametrize("update", [1, 5])
    def test_what_is_saved_stays_and_the_next_run_does_the_rest(
        self, host: Host, run: Run, pictures: Path, update: int
    ) -> None:
        host.management.total_memory = 0  # one picture at a time
        run(pictures)  # so that the model is loaded
        draw_pictures(pictures, 20)
        host.at_update(4 + update, host.press_stop)  # four are skipped
        with pytest.raises(host.Interrupted):
            run(pictures)
        saved = captions_in(pictures)
        assert 4 + update <= len(saved) < 20
        assert not list(pictures.glob(".*"))
        assert run(pictures)[:3] == (20 - len(saved), len(saved), 0)
        assert saved.items() <= captions_in(pictures).items()
        run(pictures, format="caption")  # without an interrupt
        assert list(captions_in(pictures).values()) == list(captions_in(pictures, ".caption").values())

    def test_while_the_model_loads(self, host: Host, run: Run, pictures: Path) -> None:
        host.at_update(7, host.press_stop)
        with pytest.raises(host.Interrupted):
            run(pictures)
        assert captions_in(pictures) == {}
        assert run(pictures)[0] == 4


class TestFingerprint:
    @pytest.mark.parametrize("existing", ["skip", "overwrite"])
    def test_it_is_steady_and_sees_pictures_come_change_and_go(
        self, fingerprint: Callable[..., Any], pictures: Path, existing: str
    ) -> None:
        seen = [fingerprint(pictures, existing=existing)]
        assert fingerprint(pictures, existing=existing) == seen[0]
        for change in (
            lambda: draw_picture(pictures / "new.png"),
            lambda: draw_picture(pictures / "new.png", 7),
            lambda: (pictures / "new.png").rename(pictures / "newer.png"),
            lambda: (pictures / "scene 0.png").unlink(),
        ):
            change()
            seen.append(fingerprint(pictures, existing=existing))
        assert len(set(seen)) == 5

    def test_overwriting_captions_is_no_change(self, run: Run, fingerprint: Callable[..., Any], pictures: Path) -> None:
        run(pictures)
        before = fingerprint(pictures, existing="overwrite")
        run(pictures, existing="overwrite", seed=5)
        assert fingerprint(pictures, existing="overwrite") == before
        (pictures / "scene 0.txt").unlink()
        assert fingerprint(pictures, existing="overwrite") != before

    def test_a_caption_that_was_deleted_is_written_again(
        self, run: Run, fingerprint: Callable[..., Any], pictures: Path
    ) -> None:
        run(pictures)
        done = fingerprint(pictures)
        assert run(pictures)[0] == 0
        assert fingerprint(pictures) == done
        (pictures / "scene 0.txt").unlink()
        assert fingerprint(pictures) != done

    def test_subfolders_count_where_they_are_captioned(self, fingerprint: Callable[..., Any], pictures: Path) -> None:
        before = [fingerprint(pictures, recursive=recursive) for recursive in (False, True)]
        draw_picture(pictures / "sub" / "a.png")
        assert fingerprint(pictures) == before[0]
        assert fingerprint(pictures, recursive=True) != before[1]

    @pytest.mark.parametrize("folder", ["", "no such folder", "~no-such-user/set", "a" * 5000])
    def test_what_cannot_be_read_runs_and_says_so(self, fingerprint: Callable[..., Any], folder: str) -> None:
        assert math.isnan(fingerprint(folder))

    def test_what_is_linked_is_not_known_before_the_run(self, pack: Pack) -> None:
        unknown = dict.fromkeys(pack.inputs("JoyCaptionFolder"))
        assert math.isnan(pack.nodes["JoyCaptionFolder"].fingerprint_inputs(**unknown))


class TestSamples:
    def test_they_are_there_when_they_are_asked_for(self, host: Host, run: Run) -> None:
        names = {path.name for path in SAMPLES.iterdir()}
        assert run("joycaption samples")[:3] == (len(names), 0, 0)
        folder = host.input / "joycaption samples"
        assert {path.name for path in folder.iterdir()} == names | {f"{Path(name).stem}.txt" for name in names}
        assert run("joycaption samples")[:3] == (0, len(names), 0)

    def test_nothing_is_made_before_and_what_is_there_stays(self, host: Host, run: Run) -> None:
        assert list(host.input.iterdir()) == []
        first = sorted(SAMPLES.iterdir())[0]
        draw_picture(host.input / "joycaption samples" / first.name, 5)
        before = state(host.input)
        run("joycaption samples")
        assert before.items() <= state(host.input).items()


class TestWhereOthersCanAsk:
    """A server that other machines reach: graphs are untrusted, and stay in ComfyUI's folders."""

    @pytest.fixture(autouse=True)
    def reachable(self, host: Host) -> None:
        host.listen("0.0.0.0")

    @pytest.fixture
    def outside(self, tmp_path: Path) -> Path:
        draw_pictures(tmp_path / "private", 2)
        return tmp_path / "private"

    @pytest.mark.parametrize("way", ["{outside}", "../../private", "set/../../../private", "link", "link/../private"])
    def test_a_folder_outside_is_refused_with_the_lines_that_allow_it(
        self, host: Host, pack: Pack, run: Run, fingerprint: Callable[..., Any], outside: Path, way: str
    ) -> None:
        (host.input / "link").symlink_to(outside)
        (host.input / "set").mkdir()
        folder = way.format(outside=outside)
        with pytest.raises(
            pack.NodeError, match=r"^JoyCaption Folder: input folder: .*extra_model_paths\.yaml"
        ) as told:
            run(folder)
        assert str(told.value).endswith(f"\njoycaption:\n    datasets: {json.dumps(str(host.input / folder))}")
        assert captions_in(outside) == {}
        assert math.isnan(fingerprint(folder))

    def test_whether_it_is_there_is_not_told(self, pack: Pack, run: Run, outside: Path) -> None:
        told = []
        for folder in (outside, outside / "no such folder", outside / "scene 0.png"):
            with pytest.raises(pack.NodeError) as error:
                run(folder)
            told.append(str(error.value).replace(str(folder), "it"))
        assert len(set(told)) == 1

    def test_a_folder_of_the_yaml_file_is_allowed(self, host: Host, run: Run, outside: Path) -> None:
        host.folders.add_model_folder_path("datasets", str(outside))
        assert run(outside)[0] == 2

    def test_comfyuis_own_folders_are_allowed(self, host: Host, run: Run, pictures: Path) -> None:
        (host.input / "link within").symlink_to(pictures)
        assert run("set")[0] == 4
        assert run("link within")[1] == 4

    def test_a_picture_that_is_a_link_out(
        self, pack: Pack, run: Run, fingerprint: Callable[..., Any], pictures: Path, outside: Path
    ) -> None:
        before = fingerprint(pictures)
        (pictures / "scene 9.png").symlink_to(outside / "scene 0.png")
        assert fingerprint(pictures) == before, "nothing of it is looked at"
        draw_picture(pictures / "scene 99.png")
        captioned, skipped, failed, _, failures = run(pictures)
        assert (captioned, skipped, failed) == (5, 0, 1)
        assert failures == "scene 9.png: it is a link to a place that a graph may not touch"
        assert "scene 9.txt" not in captions_in(pictures)

    def test_a_caption_never_goes_out_either(self, run: Run, pictures: Path, outside: Path) -> None:
        (outside / "loop.png").symlink_to(pictures / "scene 0.png")  # a picture that lies inside
        (pictures / "sub").symlink_to(outside)
        run(pictures, recursive=True)
        assert captions_in(outside) == {}

    def test_a_subfolder_that_is_a_link_out(self, pack: Pack, run: Run, pictures: Path, outside: Path) -> None:
        (pictures / "sub").symlink_to(outside)
        assert run(pictures)[0] == 4
        assert "it is a link" in run(pictures, recursive=True, existing="overwrite")[4]
        assert captions_in(outside) == {}
