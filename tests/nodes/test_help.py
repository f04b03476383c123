"""The help page of every node names all that the node shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from joycaption.dataset import FORMATS
from joycaption.model.precision import PRECISIONS
from joycaption.prompts import BETA_ONE

PACK = Path(__file__).parents[2]
SHARED = (PACK / "nodes/writing.py").read_text(encoding="utf-8")
SOURCES = {  # read as text, because importing them takes ComfyUI
    found[1]: source
    for source in (file.read_text(encoding="utf-8") for file in sorted((PACK / "nodes").glob("*.py")))
    if (found := re.search(r'node_id="(\w+)"', source))
}


def page(node: str) -> str:
    return (PACK / f"web/docs/{node}.md").read_text(encoding="utf-8")


def test_every_page_belongs_to_a_node() -> None:
    assert {file.stem for file in (PACK / "web/docs").iterdir()} == set(SOURCES)


@pytest.mark.parametrize("node", SOURCES)
def test_inputs_and_outputs(node: str) -> None:
    source = SOURCES[node] + (SHARED if "*writing_inputs()" in SOURCES[node] else "")
    shown = re.findall(r'\.(?:In|Out)put\(\s*"(\w+)"', source)
    assert len(shown) >= 3
    assert [name for name in shown if f"\n| {name} |" not in page(node)] == []


def test_choices() -> None:
    options = page("JoyCaptionOptions")
    rows = [kind.label for kind in BETA_ONE.types.values()] + ["any", *BETA_ONE.length_words]
    rows += [f"{BETA_ONE.extra_labels[id]} | {sentence}" for id, sentence in BETA_ONE.extras.items()]
    assert [row for row in rows if f"\n| {row} |" not in options] == []
    assert [name for name in PRECISIONS if f"\n| {name} |" not in page("JoyCaptionLoad")] == []
    assert [name for name in FORMATS if f"**{name}**" not in page("JoyCaptionFolder")] == []
