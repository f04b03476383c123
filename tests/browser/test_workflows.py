"""The example workflows as a user meets them: opened from the list of templates, run by the button, read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect
from support.comfyui import Server
from support.page import ComfyPage, Design

WORKFLOWS = {
    "Caption an image": ("JoyCaptionCaption", "red square"),
    "Caption a folder for LoRA training": ("JoyCaptionFolder", "12 captioned, 0 skipped, 0 failed."),
    "Caption to prompt": ("JoyCaptionCaption", "red square"),
}


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    """Where to look at what the page showed: the folder SCREENSHOTS, or one that pytest keeps for a while."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize("name", WORKFLOWS)
def test_runs_as_it_is(page: ComfyPage, comfy: Server, design: Design, name: str, screenshots: Path) -> None:
    for sidecar in (comfy.folder / "input").rglob("*.txt"):
        sidecar.unlink()  # of the other design's turn
    node, expected = WORKFLOWS[name]
    page.open_template(name)
    prompt = "Output a stable" if name == "Caption to prompt" else "Write a "
    assert page.run() == "execution_success"
    page.wait_for_text(node, expected)
    page.wait_for_text("JoyCaptionOptions", prompt)
    page.screenshot(screenshots / f"{name} ({design}).png")
    assert page.errors == []


def test_other_options_and_the_text_follows(page: ComfyPage) -> None:
    page.open_template("Caption an image")
    page.set_widget("JoyCaptionOptions", "type", "Booru-like tag list")
    page.set_widget("JoyCaptionCaption", "seed", 12)
    page.run()
    page.wait_for_text("JoyCaptionCaption", "white background, 1 shape, large red square")
    page.set_widget("JoyCaptionCaption", "begin_with", "Look here,")
    page.run()
    page.wait_for_text("JoyCaptionCaption", "Look here,")


def test_a_failure_is_a_sentence_on_the_page(page: ComfyPage) -> None:
    page.open_template("Caption a folder for LoRA training")
    page.set_widget("JoyCaptionFolder", "folder", "no such folder")
    assert page.run() == "execution_error"
    page.wait_for_text("JoyCaptionFolder", "JoyCaption Folder: input folder: there is no folder")
    page.expect_error("NodeError: JoyCaption Folder: input folder: there is no folder")


@pytest.mark.parametrize("node", ["JoyCaptionLoad", "JoyCaptionOptions", "JoyCaptionCaption"])
def test_help_opens(page: ComfyPage, node: str) -> None:
    page.open_template("Caption an image")
    expect(page.open_help(node)).to_contain_text("Inputs")
