"""One ComfyUI server with our nodes for all tests here, and a client of its own for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.comfyui import Client, ComfyUI, Server


@pytest.fixture(scope="session")
def comfyui() -> ComfyUI:
    return ComfyUI.found()


@pytest.fixture(scope="session")
def comfy(comfyui: ComfyUI, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # With glibc, weights that are freed go back to the system at once, so that a test can see it.
    memory = {"MALLOC_MMAP_THRESHOLD_": "65536"}
    with Server(comfyui, tmp_path_factory.mktemp("comfyui"), environment=memory) as server:
        yield server


@pytest.fixture
def client(comfy: Server) -> Iterator[Client]:
    with Client(comfy) as client:
        yield client
