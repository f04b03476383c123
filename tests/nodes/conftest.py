"""A new stand-in, a new pack and an empty machine for every test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from support.nodepack import STANDIN, Host, Pack, forget

import joycaption
from joycaption.captioners import Captioner


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "no cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.delenv("JOYCAPTION_MODELS", raising=False)
    monkeypatch.syspath_prepend(STANDIN)
    yield Host(tmp_path / "ComfyUI")
    forget()


@pytest.fixture
def pack(host: Host) -> Pack:
    return Pack()


@pytest.fixture(scope="session")
def library() -> Captioner:
    """What a caption should be."""
    return joycaption.load("demo", device="cpu", precision="fp32").captioner
