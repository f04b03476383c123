"""A page of a ComfyUI server with our nodes, in both node designs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser
from support.comfyui import ComfyUI, Server
from support.page import ComfyPage, Design, chromium, opened

NODES = ("JoyCaptionLoad", "JoyCaptionOptions", "JoyCaptionCaption", "JoyCaptionFolder")


@pytest.fixture(scope="module")
def comfy(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(ComfyUI.found(), tmp_path_factory.mktemp("comfyui")) as server:
        yield server


# Not for the session: while Playwright runs, no other test could use asyncio.run.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(params=["classic", "new"])
def design(request: pytest.FixtureRequest) -> Design:
    chosen: Design = request.param
    return chosen


@pytest.fixture
def page(browser: Browser, comfy: Server, design: Design) -> Iterator[ComfyPage]:
    with opened(browser, comfy, design, NODES) as page:
        yield page
