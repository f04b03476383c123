"""``joycaption caption`` with the real demo model."""

from __future__ import annotations

import io
import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.cli import caption_demo, joycaption
from support.pictures import BROKEN, draw_picture, draw_pictures

from joycaption.cli import progress
from joycaption.cli.progress import Bars
from joycaption.dataset import FORMATS, Result
from joycaption.model.locate import DEMO_FOLDER
from joycaption.prompts import DEFAULT_SYSTEM_PROMPT, build_prompt
from joycaption.types import Caption


def captions_in(folder: Path, extension: str = ".txt") -> dict[str, str]:
    return {path.name: path.read_text("utf-8") for path in sorted(folder.rglob(f"*{extension}"))}


def no_leftovers(folder: Path) -> bool:
    return not list(folder.rglob("*.tmp")) and not list(folder.rglob(".*"))


class TestRun:
    def test_captions_are_printed_and_saved(self, tmp_path: Path) -> None:
        draw_pictures(tmp_path, 2)
        result = caption_demo(tmp_path)
        assert result.exit_code == 0
        captions = captions_in(tmp_path)
        assert sorted(captions) == ["scene 0.txt", "scene 1.txt"]
        for number in (0, 1):
            assert f"{tmp_path / f'scene {number}.png'}: {captions[f'scene {number}.txt']}\n" in result.stdout
        assert "2  captioned" in result.stderr
        assert "pictures/s" in result.stderr
        assert "\x1b" not in result.output  # no bars and no colours where nobody watches

    def test_finished_dataset_needs_no_model(self, tmp_path: Path) -> None:
        draw_pictures(tmp_path, 2)
        assert caption_demo(tmp_path).exit_code == 0
        result = joycaption("caption", "--model", tmp_path / "no such model", tmp_path)
        assert result.exit_code == 0
        assert "2  skipped" in result.stderr

    def test_overwrite(self, tmp_path: Path) -> None:
        picture = draw_picture(tmp_path / "a.png")
        picture.with_suffix(".txt").write_text("old")
        assert caption_demo(picture).exit_code == 0
        assert captions_in(tmp_path) == {"a.txt": "old"}
        assert caption_demo("--existing", "overwrite", picture).exit_code == 0
        assert captions_in(tmp_path)["a.txt"] not in ("old", "")

    def test_greedy_does_not_care_for_the_seed(self, tmp_path: Path) -> None:
        picture = draw_picture(tmp_path / "a.png")
        outputs = {caption_demo("--greedy", "--no-save", "--seed", seed, picture, tokens=20).stdout for seed in (1, 2)}
        assert len(outputs) == 1

    def test_seed_repeats_a_sampled_caption(self, tmp_path: Path) -> None:
        picture = draw_picture(tmp_path / "a.png")
        sampled = ("--temperature", 3, "--top-p", 1, "--no-save", picture)
        first, other, again = (caption_demo("--seed", seed, *sampled, tokens=12).stdout for seed in (1, 2, 1))
        assert first == again
        assert first != other

    def test_max_tokens_and_begin_with(self, tmp_path: Path) -> None:
        picture = draw_picture(tmp_path / "a.png")
        result = caption_demo("--json", "--begin-with", "In this drawing", picture, tokens=3)
        record = json.loads(result.stdout)
        assert record["caption"].startswith("In this drawing")
        assert record["tokens"] == 3

    def test_recursive_folders_and_globs(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        draw_picture(tmp_path / "a.png")
        draw_picture(tmp_path / "sub" / "b.png")
        monkeypatch.chdir(tmp_path)
        assert caption_demo("*.png").exit_code == 0
        assert sorted(captions_in(tmp_path)) == ["a.txt"]
        assert caption_demo("-r", ".").exit_code == 0
        assert sorted(captions_in(tmp_path)) == ["a.txt", "b.txt"]

    @pytest.mark.parametrize("form", FORMATS)
    def test_every_format(self, tmp_path: Path, form: str) -> None:
        draw_pictures(tmp_path, 1)
        assert caption_demo("--format", form, tmp_path).exit_code == 0
        assert list(captions_in(tmp_path, FORMATS[form].extension)) == [f"scene 0{FORMATS[form].extension}"]

    @pytest.mark.parametrize(
        "name",
        [
            "with space",
            "emoji \U0001f431\u200d\U0001f4bb",
            "\u732b\u306e\u7d75",
            "\u043a\u043e\u0442",
            "\u05d7\u05ea\u05d5\u05dc",
            "[red]not markup",
        ],
    )
    def test_any_name(self, tmp_path: Path, name: str) -> None:
        folder = tmp_path / f"{name} folder"
        picture = draw_picture(folder / f"{name}.png")
        (folder / "broken [blue].png").touch()
        result = caption_demo(folder)
        assert result.exit_code == 1
        assert list(captions_in(folder)) == [f"{picture.stem}.txt"]
        assert picture.name in result.stdout
        assert "broken [blue].png" in result.stderr


class TestBrokenPictures:
    def test_200_pictures_of_which_20_are_broken(self, tmp_path: Path) -> None:
        draw_pictures(tmp_path, 180)
        broken = {f"{copy} {name}" for name in BROKEN for copy in "ab"}
        for name in broken:
            (tmp_path / name).write_bytes(BROKEN[name[2:]])

        first = caption_demo("--json", "--batch-size", 16, tmp_path, tokens=4)
        assert first.exit_code == 1
        records = [json.loads(line) for line in first.stdout.splitlines()]
        assert len(records) == 200
        failed = {Path(record["picture"]).name: record["error"] for record in records if record["status"] == "failed"}
        assert failed.keys() == broken
        for name, error in failed.items():
            assert error
            assert any(name in line and error in line for line in first.stderr.splitlines())
        captions = captions_in(tmp_path)
        assert captions.keys() == {f"scene {number}.txt" for number in range(180)}
        assert all(text.strip() and "\n" not in text for text in captions.values())
        assert not set(captions.values()) & set(failed.values())
        assert no_leftovers(tmp_path)

        before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()}
        second = caption_demo("--json", tmp_path, tokens=4)
        assert second.exit_code == 1
        statuses = {
            Path(record["picture"]).name: record["status"] for record in map(json.loads, second.stdout.splitlines())
        }
        assert {name for name, status in statuses.items() if status == "failed"} == broken
        assert list(statuses.values()).count("skipped") == 180
        assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()} == before

    def test_one_stem_for_two_pictures(self, tmp_path: Path) -> None:
        for name in ("a.png", "a.jpg"):
            draw_picture(tmp_path / name)
        for _ in range(2):
            result = caption_demo(tmp_path)
            assert result.exit_code == 1
            assert f"{tmp_path / 'a.png'}: its caption file would be a.txt, which belongs to a.jpg" in result.stderr
        assert list(captions_in(tmp_path)) == ["a.txt"]


class TestOutput:
    def test_json_has_one_object_per_picture_and_nothing_else_on_stdout(self, tmp_path: Path) -> None:
        draw_pictures(tmp_path, 2)
        (tmp_path / "bad.png").touch()
        result = caption_demo("--json", tmp_path)
        records = {Path(record["picture"]).name: record for record in map(json.loads, result.stdout.splitlines())}
        assert {name: record["status"] for name, record in records.items()} == {
            "bad.png": "failed",
            "scene 0.png": "captioned",
            "scene 1.png": "captioned",
        }
        record = records["scene 0.png"]
        assert " ".join(record["caption"].split()) == Path(record["sidecar"]).read_text("utf-8")
        assert record["finish_reason"] in ("stop", "length")
        assert record["tokens"] > 0
        assert "empty" in records["bad.png"]["error"]

    def test_no_save_neither_reads_nor_writes_caption_files(self, tmp_path: Path) -> None:
        picture = draw_picture(tmp_path / "a.png")
        picture.with_suffix(".txt").write_text("old")
        result = caption_demo("--no-save", tmp_path)
        assert result.stdout.startswith(f"{picture}: ")
        assert captions_in(tmp_path) == {"a.txt": "old"}

    def test_bars_on_a_terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        screen = io.StringIO()
        monkeypatch.setattr(progress, "console", Console(file=screen, force_terminal=True, width=100))
        with Bars() as bars:
            bars.begin_loading()
            bars.on_bytes("load", 3_000_000, 17_000_000_000)
            bars.begin_captions(3)
            bars.on_result(Result(Path("a.png"), "skipped"))
            bars.on_result(Result(Path("b.png"), "captioned", Caption("a cat", "stop", tokens=50)))
        shown = screen.getvalue()
        assert "Starting" in shown
        assert "3.0 MB of 17.0 GB" in shown
        assert "1/2 " in shown
        assert "pictures/s" in shown
        assert "tokens/s" in shown

    def test_bars_leave_a_stdout_that_is_not_the_terminal_alone(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(progress, "console", Console(file=io.StringIO(), force_terminal=True))
        with Bars():
            print("result")
        assert capsys.readouterr().out == "result\n"


class TestDryRun:
    def test_shows_prompt_and_plan_without_a_model_and_writes_nothing(self, tmp_path: Path) -> None:
        for name in ("a.png", "b.png", "b.webp"):
            draw_picture(tmp_path / name)
        (tmp_path / "a.txt").write_text("a cat")
        before = sorted(tmp_path.iterdir())
        plan = ("--dry-run", "--type", "straightforward", "--length", "40", "--begin-with", "Well,")
        result = joycaption("caption", "--model", tmp_path / "no such model", *plan, tmp_path)
        assert result.exit_code == 1  # b.webp cannot have a caption file
        assert result.stdout.splitlines() == [
            f"System prompt: {DEFAULT_SYSTEM_PROMPT}",
            f"Prompt: {build_prompt('straightforward', 40)}",
            "Captions begin with: Well,",
            f"skip     {tmp_path / 'a.png'}",
            f"caption  {tmp_path / 'b.png'}",
        ]
        assert "b.webp" in result.stderr
        assert "1 would be captioned, 1 skipped, 1 cannot be captioned" in result.stderr
        assert sorted(tmp_path.iterdir()) == before

    def test_as_json(self, tmp_path: Path) -> None:
        draw_pictures(tmp_path, 2)
        (tmp_path / "scene 0.txt").write_text("a cat")
        result = joycaption("caption", "--dry-run", "--json", tmp_path)
        assert result.exit_code == 0
        assert [json.loads(line)["status"] for line in result.stdout.splitlines()] == ["skipped", "would caption"]
        assert build_prompt() in result.stderr

    @pytest.mark.parametrize(
        ("given", "system"),
        [
            ("assistant", "You are a helpful assistant and help users with any queries"),
            ("You are a cat.", "You are a cat."),
        ],
    )
    def test_system_prompt_by_id_or_free(self, tmp_path: Path, given: str, system: str) -> None:
        draw_pictures(tmp_path, 1)
        result = joycaption("caption", "--dry-run", "--system-prompt", given, "--prompt", "What {is} it?", tmp_path)
        assert f"System prompt: {system}" in result.stdout
        assert "Prompt: What {is} it?\n" in result.stdout

    def test_your_own_prompt_with_extras_and_a_name(self, tmp_path: Path) -> None:
        draw_pictures(tmp_path, 1)
        options = ("--prompt", "What {is} it?", "--extra", "lighting", "--name", "Kim")
        result = joycaption("caption", "--dry-run", *options, tmp_path)
        expected = build_prompt(instruction="What {is} it?", extras=["lighting"], name="Kim")
        assert f"Prompt: {expected}\n" in result.stdout

    def test_tone_without_training_is_noted(self, tmp_path: Path) -> None:
        draw_pictures(tmp_path, 1)
        trained, untrained = (
            joycaption("caption", "--dry-run", "--tone", tone, tmp_path).stderr for tone in ("formal", "sarcastic")
        )
        assert "not trained" not in trained
        assert "not trained on the tone 'sarcastic'" in untrained


WRONG: dict[str, tuple[list[str], str]] = {
    "type": (["--type", "descriptiv"], "Did you mean 'descriptive'?"),
    "length": (["--length", "0"], "number of words, 1 or more"),
    "extra": (["--extra", "lightning"], "lighting"),
    "name option without a name": (["--extra", "name"], "needs a name"),
    "prompt and type": (["--prompt", "Hello", "--type", "booru"], "--prompt replaces --type"),
    "prompt and tone": (["--prompt", "Hello", "--tone", "formal"], "--prompt replaces --type, --length and --tone"),
    "blank prompt": (["--prompt", " "], "instruction is ' '"),
    "greedy and temperature": (["--greedy", "--temperature", "1"], "--temperature"),
    "top-p": (["--top-p", "1.5"], "top_p is 1.5"),
    "max-tokens": (["--max-tokens", "0"], "--max-tokens"),
    "existing": (["--existing", "keep"], "--existing"),
    "format": (["--format", "doc"], "txt, caption"),
    "precision": (["--precision", "int3"], "int3"),
    "device": (["--device", "abacus"], "abacus"),
    "unknown option": (["--colour"], "--colour"),
    "unknown model": (["--model", "nobody-knows-this"], "nobody-knows-this"),
    "missing folder": (["missing folder"], "no file or folder missing folder"),
}


class TestWrongUse:
    @pytest.mark.parametrize(("arguments", "said"), WRONG.values(), ids=WRONG)
    def test_says_what_is_wrong(self, tmp_path: Path, arguments: list[str], said: str) -> None:
        picture = draw_picture(tmp_path / "a.png")
        result = joycaption("caption", "--model", "demo", picture, *arguments)
        assert result.exit_code == 2
        assert said in " ".join(result.stderr.replace("\u2502", "").split())
        assert not result.stdout
        assert "Traceback" not in result.stderr
        assert not captions_in(tmp_path)

    def test_no_paths(self) -> None:
        assert joycaption("caption").exit_code == 2

    def test_empty_folder(self, tmp_path: Path) -> None:
        result = caption_demo(tmp_path)
        assert result.exit_code == 2
        assert f"no pictures in the folder {tmp_path}" in result.stderr

    def test_model_that_is_nowhere_names_the_ways_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("JOYCAPTION_MODELS", raising=False)
        result = joycaption("caption", draw_picture(tmp_path / "a.png"))
        assert result.exit_code == 2
        assert "beta-one" in result.stderr
        assert "demo" in result.stderr

    @pytest.mark.parametrize("damage", ["truncated", "not json"])
    def test_broken_checkpoint(self, tmp_path: Path, damage: str) -> None:
        model = Path(shutil.copytree(DEMO_FOLDER, tmp_path / "model"))
        file = model / ("model.safetensors" if damage == "truncated" else "config.json")
        file.write_bytes(file.read_bytes()[:1000] if damage == "truncated" else b"{")
        result = joycaption("caption", "--model", model, draw_picture(tmp_path / "pictures" / "a.png"))
        assert result.exit_code == 2
        assert file.name in result.stderr
        assert not captions_in(tmp_path)


class TestInterrupt:
    """Ctrl-C, as a real signal to this process. In the middle of captions: see test_process.py."""

    @pytest.fixture
    def press_when_loading(self, monkeypatch: pytest.MonkeyPatch) -> None:
        on_bytes: Callable[..., Any] = Bars.on_bytes

        def on_bytes_and_press(bars: Bars, *progress: Any) -> None:
            on_bytes(bars, *progress)
            if signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(Bars, "on_bytes", on_bytes_and_press)

    @pytest.mark.usefixtures("press_when_loading")
    def test_while_the_model_loads(self, tmp_path: Path) -> None:
        draw_pictures(tmp_path, 2)
        (tmp_path / "scene 0.txt").write_text("a cat")
        handler = signal.getsignal(signal.SIGINT)
        result = caption_demo(tmp_path)
        assert result.exit_code == 130
        assert "Stopped." in result.stderr
        assert captions_in(tmp_path) == {"scene 0.txt": "a cat"}
        assert signal.getsignal(signal.SIGINT) is handler
