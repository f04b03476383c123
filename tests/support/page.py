"""ComfyUI's page in a real Chromium, used as a user does: templates, the Run button, what the nodes show."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, ConsoleMessage, FloatRect, Locator, Page, ViewportSize, expect, sync_playwright
from support.comfyui import LAST_EVENTS, Server

__all__ = ["ComfyPage", "Design", "chromium", "opened"]

Design = Literal["classic", "new"]

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
START_SECONDS = 90
VIEW = ViewportSize(width=1600, height=1000)
BARS = {"left": 70, "top": 170, "right": 20, "bottom": 80}  # what the page lays over the edges of the graph

NODE = """
const node = app.graph.nodes.find((node) => node.type === type);
if (!node) throw new Error(`no node ${type} in the graph`);
"""
# The node's title and body on the screen: [left, top, right, bottom].
RECTANGLE = """
const {ds, canvas} = app.canvas, page = canvas.getBoundingClientRect(), [x, y, width, height] = node.getBounding();
const at = (x, y) => [page.left + (x + ds.offset[0]) * ds.scale, page.top + (y + ds.offset[1]) * ds.scale];
const rectangle = [...at(x, y), ...at(x + width, y + height)];
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """The installed browser; the test is skipped where there is none."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium: apt install chromium, or set CHROMIUM to the program of a Chromium or Chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, server: Server, design: Design, node_types: Sequence[str]) -> Iterator[ComfyPage]:
    """A fresh page on an empty graph, when all ``node_types`` can be added."""
    context = browser.new_context(viewport=VIEW)
    try:
        page = context.new_page()
        settings = {
            "Comfy.VueNodes.Enabled": design == "new",
            "Comfy.TutorialCompleted": False,  # else the page begins with a graph whose models are missing
            "Comfy.RightSidePanel.IsOpen": False,
            "Comfy.Minimap.Visible": False,
        }
        page.request.post(f"{server.address}/settings", data=settings)
        yield ComfyPage(page, server.address, node_types)
    finally:
        context.close()


class ComfyPage:
    """``page`` is Playwright's own. Nodes are named by their type; the first of that type in the graph is meant."""

    def __init__(self, page: Page, address: str, node_types: Sequence[str]) -> None:
        self.page = page
        page.goto(address)
        registered = "types => window.app?.graph && types.every(type => type in LiteGraph.registered_node_types)"
        page.wait_for_function(registered, arg=list(node_types), timeout=START_SECONDS * 1000)
        # A first visit ends in the list of templates; after it nothing more happens by itself.
        expect(page.get_by_role("dialog")).to_be_visible(timeout=START_SECONDS * 1000)
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_be_hidden()
        page.evaluate(
            """kinds => {
                window.endedRuns = {};
                for (const kind of kinds)
                    app.api.addEventListener(kind, ({detail}) => { endedRuns[detail.prompt_id] = kind; });
            }""",
            list(LAST_EVENTS),
        )
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._note)

    def _note(self, message: ConsoleMessage) -> None:
        # The page looks for a help page in its language first, and so "fails" where there is one for all languages.
        if message.type == "error" and not message.location["url"].endswith("/en.md"):
            self.errors.append(f"{message.text} ({message.location['url']})")

    def open_template(self, name: str, pack: str = "joycaption") -> None:
        """Open an example workflow from the list of templates, under the pack's own entry."""
        self.page.get_by_role("button", name="Templates").first.click()
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_text(pack, exact=True).click()
        dialog.get_by_test_id(f"template-workflow-{name}").click()
        expect(dialog).to_be_hidden()
        self.page.wait_for_function("() => app.graph.nodes.length > 0")

    def load(self, workflow: dict[str, Any]) -> None:
        """Open a workflow in UI format without the list, as a file dropped on the page would be."""
        self.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)

    def press_run(self) -> str:
        """Press Run; the prompt id. An AssertionError with the server's answer when it refuses the graph."""
        with self.page.expect_response(
            lambda answer: answer.url.endswith("/api/prompt") and answer.request.method == "POST"
        ) as waiting:
            self.page.get_by_test_id("queue-button").click()
        answer = waiting.value
        assert answer.ok, answer.text()
        return str(answer.json()["prompt_id"])

    def wait_for_end(self, prompt_id: str, timeout: float = 120) -> str:
        """The last event of a run: execution_success, execution_error or execution_interrupted."""
        ended = self.page.wait_for_function("id => endedRuns[id]", arg=prompt_id, timeout=timeout * 1000)
        return str(ended.json_value())

    def run(self, timeout: float = 120) -> str:
        return self.wait_for_end(self.press_run(), timeout)

    def widget(self, type: str, name: str) -> Any:
        """A widget's value."""
        found = "node.widgets.find(widget => widget.name === name)?.value"
        return self.page.evaluate(f"([type, name]) => {{ {NODE} return {found} }}", [type, name])

    def set_widget(self, type: str, name: str, value: object) -> None:
        """Change a widget's value as if it had been typed or chosen."""
        self.page.evaluate(
            f"""([type, name, value]) => {{ {NODE}
                const widget = node.widgets.find(widget => widget.name === name);
                widget.value = value;
                widget.callback?.(value, app.canvas, node);
            }}""",
            [type, name, value],
        )

    def shown_text(self, type: str) -> str:
        """What the text area of the last run says on the screen, within the node; "" when there is none in sight."""
        shown: str = self.page.evaluate(
            f"""type => {{ {NODE} {RECTANGLE}
                const [left, top, right, bottom] = rectangle;
                const inside = [...document.querySelectorAll("textarea[aria-label=preview_text]")].filter(area => {{
                    const box = area.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
                    return area.checkVisibility() && left < x && x < right && top < y && y < bottom;
                }});
                return inside[0]?.value ?? "";
            }}""",
            type,
        )
        return shown

    def wait_for_text(self, type: str, text: str, timeout: float = 20) -> None:
        """Wait until a node's text area shows this among other words."""
        deadline = time.monotonic() + timeout
        while text not in (shown := self.shown_text(type)):
            assert time.monotonic() < deadline, f"{type} shows {shown!r}"
            self.page.wait_for_timeout(50)

    def expect_error(self, text: str) -> None:
        """Press "View details" of the page's notice of a failed node, and wait until it says this."""
        self.page.get_by_text("View details").first.click()
        expect(self.page.get_by_text(text).first).to_be_visible()

    def open_help(self, type: str) -> Locator:
        """Select the node by its title and press the info button: the help page beside the graph."""
        left, top, right, _ = self.page.evaluate(f"type => {{ {NODE} {RECTANGLE} return rectangle }}", type)
        self.page.mouse.click((left + right) / 2, top + 12)
        self.page.get_by_test_id("info-button").click()
        panel = self.page.get_by_test_id("properties-panel").locator(".node-help-content")
        expect(panel).not_to_be_empty()
        return panel

    def screenshot(self, path: Path, scale: float = 1) -> None:
        """The whole graph and nothing else, one pixel for one unit of the graph unless scaled."""
        left, top, right, bottom = self.page.evaluate(
            """() => {
                const boxes = app.graph.nodes.map(node => node.getBounding());
                return [Math.min(...boxes.map(b => b[0])), Math.min(...boxes.map(b => b[1])),
                    Math.max(...boxes.map(b => b[0] + b[2])), Math.max(...boxes.map(b => b[1] + b[3]))];
            }"""
        )
        border = 30
        width, height = (round((size + 2 * border) * scale) for size in (right - left, bottom - top))
        view = (width + BARS["left"] + BARS["right"], height + BARS["top"] + BARS["bottom"])
        self.page.set_viewport_size(ViewportSize(width=view[0], height=view[1]))
        self.page.wait_for_function("() => app.graph.nodes.every(node => (node.imgs ?? []).every(img => img.complete))")
        self.page.evaluate(
            """async ([x, y, scale, left, top]) => {
                const {ds, canvas} = app.canvas, page = canvas.getBoundingClientRect();
                app.canvas.deselectAll?.();
                ds.scale = scale;
                ds.offset = [(left - page.left) / scale - x, (top - page.top) / scale - y];
                app.canvas.setDirty(true, true);
                for (let frame = 0; frame < 5; frame++) await new Promise(requestAnimationFrame);
            }""",
            [left - border, top - border, scale, BARS["left"], BARS["top"]],
        )
        clip = FloatRect(x=BARS["left"], y=BARS["top"], width=width, height=height)
        self.page.screenshot(path=path, clip=clip, animations="disabled")
        self.page.set_viewport_size(VIEW)
