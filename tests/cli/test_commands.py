"""The small commands: prompt, models, demo; and what belongs to all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.cli import joycaption
from support.pictures import draw_picture

import joycaption as library
from joycaption.cli.console import file_size
from joycaption.dataset import FORMATS
from joycaption.model.locate import DEMO_FOLDER
from joycaption.prompts import BETA_ONE, build_prompt


def test_prompt_is_printed_to_the_byte() -> None:
    options = (
        "--type",
        "straightforward",
        "--length",
        "long",
        "--extra",
        "lighting",
        "--extra",
        "no_mood",
        "--name",
        "Kim",
    )
    result = joycaption("prompt", *options)
    expected = build_prompt("straightforward", "long", extras=["lighting", "no_mood"], name="Kim")
    assert result.stdout_bytes == expected.encode() + b"\n"


@pytest.mark.parametrize("type_", BETA_ONE.types)
def test_prompt_of_every_type(type_: str) -> None:
    assert joycaption("prompt", "--type", type_).stdout == build_prompt(type_) + "\n"


def test_unknown_type_is_refused_with_those_that_exist() -> None:
    result = joycaption("prompt", "--type", "haiku")
    assert (result.exit_code, result.stdout) == (2, "")
    assert all(type_ in result.stderr for type_ in BETA_ONE.types)


def test_help_names_every_choice() -> None:
    text = " ".join(joycaption("caption", "--help").stdout.replace("\u2502", "").split())
    for choice in (*BETA_ONE.types, *BETA_ONE.extras, *BETA_ONE.length_words, *BETA_ONE.system_prompts, *FORMATS):
        assert choice in text


def test_version() -> None:
    assert joycaption("--version").stdout.strip() == library.__version__


def test_no_command_shows_the_commands() -> None:
    result = joycaption()
    assert all(command in result.output for command in ("caption", "prompt", "models", "verify", "demo"))


@pytest.mark.parametrize(("size", "shown"), [(9_100_000, "9.1 MB"), (17_000_000_000, "17.0 GB"), (0, "0.0 MB")])
def test_file_size(size: int, shown: str) -> None:
    assert file_size(size) == shown


def test_models_lists_what_is_there_and_what_is_wrong_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(DEMO_FOLDER, tmp_path / "my model")
    shutil.copytree(DEMO_FOLDER, tmp_path / "half a model")
    (tmp_path / "half a model" / "model.safetensors").unlink()
    monkeypatch.setenv("JOYCAPTION_MODELS", str(tmp_path))
    result = joycaption("models")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert any(line.startswith("demo ") and str(DEMO_FOLDER) in line for line in lines)
    assert any(line.startswith("my model ") and str(tmp_path / "my model") in line for line in lines)
    assert any(line.startswith("half a model ") and "model.safetensors" in line for line in lines)
    assert str(tmp_path) in result.stderr


def test_download_of_a_model_that_is_here_gives_its_folder() -> None:
    assert joycaption("models", "download", "demo").stdout.strip() == str(DEMO_FOLDER)


def test_download_of_an_unknown_model() -> None:
    result = joycaption("models", "download", "nobody-knows-this")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "nobody-knows-this" in result.stderr


def test_demo_tells_picture_time_and_caption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, name in enumerate(("one.png", "two.webp")):
        draw_picture(tmp_path / name, number)
    monkeypatch.setattr("joycaption.demo.SAMPLES", tmp_path)
    result = joycaption("demo")
    assert result.exit_code == 0
    assert "only knows drawn shapes" in result.stdout
    for name in ("one.png", "two.webp"):
        block = next(block for block in result.stdout.split("\n\n") if block.startswith(name))
        head, caption = block.splitlines()
        assert head.endswith(" s)")
        assert caption.strip()


@pytest.mark.oracle
def test_verify_prints_what_can_be_sent_in(tmp_path: Path) -> None:
    result = joycaption("verify", "demo", "--image", draw_picture(tmp_path / "a.png"), "--tokens", "5")
    assert result.exit_code == 0
    report = dict(line.split(None, 1) for line in result.stdout.splitlines() if line.startswith(("picture", "verdict")))
    assert report == {"picture": "a.png", "verdict": "EQUAL"}


def test_verify_of_a_picture_that_is_none(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "bad.png").touch()
    result = joycaption("verify", "demo", "--image", tmp_path / "bad.png")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "bad.png" in result.stderr
