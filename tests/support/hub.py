"""A small Hugging Face hub on 127.0.0.1: real HTTP, and as much of the API as downloading one model needs.

Large files (safetensors and pickles) are stored as on the real hub: the listing gives their SHA-256, and their
address redirects to another host, here "localhost", which plays the content delivery network.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

COMMIT = "5ca1ab1e" * 5
REPO = "painters/small-llava"


class Refusal(NamedTuple):
    """An answer of the hub that denies something, as the real one gives it."""

    status: int
    code: str = ""
    message: str = ""


NO_SUCH_REPO = Refusal(404, "RepoNotFound", "Repository not found")
PRIVATE_OR_MISSING = Refusal(401, "RepoNotFound", "Repository not found")
NO_SUCH_REVISION = Refusal(404, "RevisionNotFound", "Invalid rev id")
GATED = Refusal(403, "GatedRepo", "Access to this model is restricted.")
BAD_TOKEN = Refusal(401, "", "Invalid credentials in Authorization header")
BUSY = Refusal(503)


class Seen(NamedTuple):
    """One request that reached the server."""

    host: str
    path: str
    range: str | None
    token: str | None


@dataclass
class LocalHub:
    """One repository and how its server misbehaves.

    Attributes:
        files: name -> content, in every revision.
        commit: the revision that is served by its name.
        newest: the revision that is served to who names none; by default the same.
        refuse_listing, refuse_files: what is answered instead of the list of files, or of a file.
        cut_after: name -> for each coming answer, after how many bytes of body the connection is cut.
        damaged: names of files that arrive with a wrong byte.
        resumable: False makes the server ignore the Range header.
        states_checksums: False leaves sizes and checksums out of the list, as a poor mirror does.
        seen: all requests about models, oldest first; huggingface_hub asks for other things of its own accord.
        sent: name -> bytes of body sent.
    """

    files: dict[str, bytes]
    commit: str = COMMIT
    newest: str = ""
    refuse_listing: Refusal | None = None
    refuse_files: Refusal | None = None
    busy_answers: int = 0
    cut_after: dict[str, list[int]] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    resumable: bool = True
    states_checksums: bool = True
    seen: list[Seen] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    endpoint: str = ""

    def fetched(self) -> set[str]:
        return {unquote(seen.path.rsplit("/", 1)[1]) for seen in self.seen if "/resolve/" in seen.path}

    def ranges(self, name: str) -> list[str | None]:
        """The Range headers of the requests for a large file, in order."""
        return [seen.range for seen in self.seen if seen.path == f"/cdn/{name}"]

    def listing(self, commit: str) -> dict[str, object]:
        return {
            "id": REPO,
            "sha": commit,
            "private": False,
            "siblings": [self._entry(name) for name in self.files],
        }

    def _entry(self, name: str) -> dict[str, object]:
        content = self.files[name]
        if not self.states_checksums:
            return {"rfilename": name}
        git_sha1 = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        entry: dict[str, object] = {"rfilename": name, "size": len(content), "blobId": git_sha1}
        if is_large(name):
            entry["lfs"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "pointerSize": 135}
        return entry


def is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin", ".pt", ".gguf"))


@contextmanager
def serve(hub: LocalHub) -> Iterator[LocalHub]:
    """Runs the hub on a free port while the block lasts, and sets its ``endpoint``."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement
    hub: LocalHub

    def do_GET(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        if path.startswith(("/api/models/", "/cdn/")) or "/resolve/" in path:
            host = self.headers["Host"].split(":")[0]
            hub.seen.append(Seen(host, path, self.headers["Range"], self.headers["Authorization"]))
        if path.startswith("/api/models/"):
            self._listing(path)
        elif path.startswith("/cdn/"):
            self._file(path.removeprefix("/cdn/"))
        elif path.startswith((f"/{REPO}/resolve/{hub.commit}/", f"/{REPO}/resolve/{hub.newest}/")):
            self._resolve(path.rsplit("/", 1)[1])
        else:
            self._refuse(NO_SUCH_REPO)

    def _listing(self, path: str) -> None:
        hub, repo = self.hub, f"/api/models/{REPO}"
        revisions = {repo: hub.newest or hub.commit, f"{repo}/revision/{hub.commit}": hub.commit}
        if hub.refuse_listing:
            self._refuse(hub.refuse_listing)
        elif path in revisions:
            body = json.dumps(hub.listing(revisions[path])).encode()
            self._answer(200, body, {"Content-Type": "application/json"})
        else:
            self._refuse(NO_SUCH_REVISION if path.startswith(f"/api/models/{REPO}/") else NO_SUCH_REPO)

    def _resolve(self, name: str) -> None:
        if self.hub.busy_answers:
            self.hub.busy_answers -= 1
            self._refuse(BUSY)
        elif self.hub.refuse_files:
            self._refuse(self.hub.refuse_files)
        elif is_large(name):
            cdn = self.hub.endpoint.replace("127.0.0.1", "localhost")
            self._answer(302, b"", {"Location": f"{cdn}/cdn/{name}", "X-Repo-Commit": self.hub.commit})
        else:
            self._file(name)

    def _file(self, name: str) -> None:
        content = self.hub.files[name]
        if name in self.hub.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start = int(re.findall(r"\d+", self.headers["Range"] or "0")[0]) if self.hub.resumable else 0
        headers = {"X-Repo-Commit": self.hub.commit}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        cuts = self.hub.cut_after.get(name)
        until = cuts.pop(0) if cuts else len(body)
        self.hub.sent[name] += len(body[:until])
        self._answer(206 if self.hub.resumable else 200, body, headers, until)

    def _refuse(self, refusal: Refusal) -> None:
        headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message}
        self._answer(refusal.status, b"{}", {name: value for name, value in headers.items() if value})

    def _answer(self, status: int, body: bytes, headers: dict[str, str], until: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body[:until])
        except ConnectionError:  # the client stopped reading
            self.close_connection = True
        if until is not None and until < len(body):
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: pytest shows what matters."""
