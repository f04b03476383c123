"""A real ComfyUI: where it is, a server of it in a folder of its own, and a client over HTTP and websocket."""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

__all__ = ["REPOSITORY", "Client", "ComfyUI", "Event", "Rejected", "Result", "Server"]

REPOSITORY = Path(__file__).parents[2]
HOW_TO_GET = (
    "git clone https://github.com/comfyanonymous/ComfyUI ~/comfy/ComfyUI and install its requirements into .venv there,"
    " or set COMFYUI_PATH and COMFYUI_PYTHON"
)
START_SECONDS = 180  # 6 on two free cores
LAST_EVENTS = ("execution_success", "execution_error", "execution_interrupted")


@dataclass(frozen=True)
class ComfyUI:
    """A ComfyUI on this machine, and the Python that runs it."""

    folder: Path
    python: Path

    @classmethod
    def found(cls) -> ComfyUI:
        """The one of COMFYUI_PATH, else the one where comfy-cli puts it; the test is skipped where there is none."""
        folder = Path(os.environ.get("COMFYUI_PATH") or "~/comfy/ComfyUI").expanduser().absolute()
        if not (folder / "main.py").is_file():
            pytest.skip(f"no ComfyUI in {folder}: {HOW_TO_GET}")
        own = folder / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        python = Path(os.environ.get("COMFYUI_PYTHON") or own)
        if not python.is_file():
            pytest.skip(f"no Python for ComfyUI at {python}: {HOW_TO_GET}")
        return cls(folder, python)


class Server:
    """A running ComfyUI whose models, input, output, settings and custom nodes are in ``folder`` alone.

    ``packs`` are linked into its custom nodes under their names; this repository is "joycaption". ``model_paths`` are
    the lines of an extra_model_paths.yaml. It stays off the network: no API nodes, an empty and offline hub cache.
    """

    def __init__(
        self,
        comfyui: ComfyUI,
        folder: Path,
        *arguments: str,
        gpu: bool = False,
        packs: Mapping[str, Path] | None = None,
        model_paths: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        for name in ("custom_nodes", "input", "models", "output", "user"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for name, pack in ({"joycaption": REPOSITORY} if packs is None else packs).items():
            _link(folder / "custom_nodes" / name, pack)
        (folder / "model_paths.yaml").write_text(model_paths or "{}", encoding="utf-8")

        self.port = _free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        command = [
            str(comfyui.python), str(comfyui.folder / "main.py"), *(() if gpu else ("--cpu",)), "--disable-api-nodes",
            "--listen", "127.0.0.1", "--port", str(self.port),
            "--base-directory", str(folder), "--database-url", f"sqlite:///{folder.as_posix()}/user/comfyui.db",
            "--extra-model-paths-config", str(folder / "model_paths.yaml"), *arguments,
        ]  # fmt: skip
        asked = environment or {}
        paths = (str(Path(__file__).parent / "cpu_torchvision"), asked.get("PYTHONPATH"))
        variables = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(folder / "huggingface"),
            **asked,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        with (folder / "server.log").open("wb") as log:
            self.process = subprocess.Popen(command, env=variables, cwd=folder, stdout=log, stderr=log)
        try:
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                httpx.get(f"{self.address}/system_stats", timeout=5).raise_for_status()
                return
            except httpx.HTTPError:
                time.sleep(0.1)
        raise RuntimeError(f"ComfyUI did not start (exit code {self.process.poll()}):\n{self.log()}")

    def log(self) -> str:
        """What it has printed so far, without colours."""
        text = (self.folder / "server.log").read_text(encoding="utf-8", errors="replace")
        return re.sub(r"\x1b\[[0-9;]*m", "", text)

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _link(link: Path, target: Path) -> None:
    try:
        link.symlink_to(target, target_is_directory=True)
    except OSError as error:  # Windows without the right to make links
        pytest.skip(f"this system makes no symbolic links, by which ComfyUI would find the nodes: {error}")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@dataclass(frozen=True)
class Event:
    """A message of the server, with its arrival by ``time.monotonic()``."""

    type: str
    data: dict[str, Any]
    time: float


class Rejected(Exception):
    """The server refused a graph. ``node_errors``: node id -> list of {type, message, details, extra_info}."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.error: dict[str, Any] = dict(answer["error"])
        self.node_errors = {node: found["errors"] for node, found in (answer.get("node_errors") or {}).items()}
        super().__init__(json.dumps(answer, indent=1))


@dataclass(frozen=True)
class Result:
    """A run that has ended. Nodes are named by their ids in the graph."""

    prompt_id: str
    events: Sequence[Event]

    def of(self, type: str) -> list[dict[str, Any]]:
        return [event.data for event in self.events if event.type == type]

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        """node -> what it shows ("ui" in Python), of cached nodes too where the server sends it."""
        return {data["node"]: data["output"] for data in self.of("executed") if data["output"]}

    @property
    def executed(self) -> list[str]:
        return [data["node"] for data in self.of("executing") if data["node"] is not None]

    @property
    def cached(self) -> set[str]:
        return {node for data in self.of("execution_cached") for node in data["nodes"]}

    @property
    def error(self) -> dict[str, Any] | None:
        """node_id, node_type, exception_message, exception_type, traceback ... of the node that failed."""
        return next(iter(self.of("execution_error")), None)

    @property
    def interrupted(self) -> bool:
        return bool(self.of("execution_interrupted"))


class Client:
    """One user of a server. Events are collected from the start, so none is missed between queueing and reading."""

    def __init__(self, server: Server) -> None:
        self.id = uuid.uuid4().hex
        self._events: list[Event] = []
        self._closed = False
        self._changed = threading.Condition()
        with ExitStack() as opened:
            self.http = opened.enter_context(httpx.Client(base_url=server.address, timeout=60))
            address = f"ws://127.0.0.1:{server.port}/ws?clientId={self.id}"
            self._socket = opened.enter_context(connect(address, max_size=None))
            self._opened = opened.pop_all()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def queue(self, graph: Mapping[str, Any]) -> str:
        """Queue a graph in API format; its prompt id. Raises Rejected when the server does not accept it."""
        answer = self.http.post("/prompt", json={"prompt": graph, "client_id": self.id})
        if answer.status_code == 400:
            raise Rejected(answer.json())
        return str(answer.raise_for_status().json()["prompt_id"])

    def events(self, prompt_id: str, timeout: float = 120) -> Iterator[Event]:
        """The messages about a run from its start to its end, as they come; the streamed texts of any run."""
        deadline = time.monotonic() + timeout
        for position in itertools.count():
            event = self._event_at(position, deadline)
            if event.type == "progress_text" or event.data.get("prompt_id") == prompt_id:
                yield event
                if event.type in LAST_EVENTS:
                    return

    def _event_at(self, position: int, deadline: float) -> Event:
        with self._changed:
            left = max(0, deadline - time.monotonic())
            if not self._changed.wait_for(lambda: len(self._events) > position or self._closed, left):
                raise TimeoutError("the run has not ended in time")
            if len(self._events) <= position:
                raise ConnectionError("the server has closed the connection")
            return self._events[position]

    def wait(self, prompt_id: str, timeout: float = 120) -> Result:
        return Result(prompt_id, list(self.events(prompt_id, timeout)))

    def run(self, graph: Mapping[str, Any], timeout: float = 120) -> Result:
        return self.wait(self.queue(graph), timeout)

    def interrupt(self) -> None:
        self.http.post("/interrupt", json={}).raise_for_status()

    def free(self, *, unload_models: bool = True, free_memory: bool = True) -> None:
        """Asks for it; the server does it soon after, between runs."""
        wishes = {"unload_models": unload_models, "free_memory": free_memory}
        self.http.post("/free", json=wishes).raise_for_status()

    def object_info(self, node: str) -> dict[str, Any] | None:
        """A node type as the page sees it; None when there is no such type."""
        info: dict[str, dict[str, Any]] = self.http.get(f"/object_info/{node}").raise_for_status().json()
        return info.get(node)

    def upload_image(self, path: Path) -> str:
        """Put a picture into the server's input folder; the name to give to LoadImage."""
        with path.open("rb") as file:
            answer = self.http.post("/upload/image", files={"image": (path.name, file)})
        return str(answer.raise_for_status().json()["name"])

    def close(self) -> None:
        self._opened.close()
        self._reader.join()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> None:
        try:
            for message in self._socket:
                event = _event(message)
                with self._changed:
                    self._events.append(event)
                    self._changed.notify_all()
        except ConnectionClosed:
            pass  # the server has ended; whoever waits is told below
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()


def _event(message: str | bytes) -> Event:
    now = time.monotonic()
    if isinstance(message, str):
        content = json.loads(message)
        return Event(content["type"], content["data"], now)
    kind, length = int.from_bytes(message[:4], "big"), int.from_bytes(message[4:8], "big")
    if kind != 3:
        return Event("picture", {"bytes": message[4:]}, now)  # a preview
    node, text = message[8 : 8 + length].decode(), message[8 + length :].decode()
    return Event("progress_text", {"node": node, "text": text}, now)
