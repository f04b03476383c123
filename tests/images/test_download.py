"""Pictures from a real server on this machine, which may be slow, endless or hostile."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import pytest
from PIL import Image

from joycaption.errors import ImageError
from joycaption.images import MAX_DOWNLOAD_BYTES, MAX_DOWNLOAD_SECONDS, download_image, open_image


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 2), (10, 20, 30)).save(buffer, "PNG")
    return buffer.getvalue()


class Hostile(BaseHTTPRequestHandler):
    """Serves one behaviour per path."""

    def do_GET(self) -> None:
        path = unquote(self.path)
        self.server.agents.append(self.headers["User-Agent"])
        try:
            getattr(self, path.strip("/").replace("-", "_").split(" ")[0], self.missing)()
        except ConnectionError:
            return  # the client has had enough, as it should

    def answer(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def forever(self, piece: bytes, pause: float) -> None:
        while not self.server.closing.wait(pause):
            self.wfile.write(piece)

    def missing(self) -> None:
        self.answer(404, b"nothing here")

    def picture(self) -> None:
        self.answer(body=png(), Content_Length=str(len(png())))

    def unannounced(self) -> None:
        self.answer(body=png())

    def web_page(self) -> None:
        self.answer(body=b"<html>hello</html>", Content_Type="image/png")

    def announced_too_large(self) -> None:
        self.answer(Content_Length=str(10**12))
        self.server.closing.wait()

    def endless(self) -> None:
        self.answer()
        self.forever(bytes(50_000), 0)

    def endless_chunks(self) -> None:
        self.protocol_version = "HTTP/1.1"
        self.answer(Transfer_Encoding="chunked")
        self.forever(b"c350\r\n" + bytes(50_000) + b"\r\n", 0)

    def drip(self) -> None:
        self.answer(Content_Length="1000")
        self.forever(b"x", 0.02)

    def drip_headers(self) -> None:
        self.wfile.write(b"HTTP/1.0 200 OK\r\nX-Slow: ")
        self.forever(b"x", 0.02)

    def drip_chunk_size(self) -> None:
        self.protocol_version = "HTTP/1.1"
        self.answer(Transfer_Encoding="chunked")
        self.forever(b"0", 0.02)

    def silence(self) -> None:
        self.server.closing.wait()

    def cut(self) -> None:
        self.answer(body=png()[:20], Content_Length=str(len(png())))

    def nonsense(self) -> None:
        self.wfile.write(b"SSH-2.0-OpenSSH\r\n")

    def moved(self) -> None:
        self.answer(302, Location="/picture")

    def moved_nowhere(self) -> None:
        self.answer(302)

    def moved_in_circles(self) -> None:
        self.answer(307, Location="/moved-in-circles")

    def moved_to_file(self) -> None:
        self.answer(302, Location="file:///etc/hostname")

    def moved_to_ftp(self) -> None:
        self.answer(302, Location="ftp://127.0.0.1/picture")

    def moved_with_endless_body(self) -> None:
        self.answer(302, Location="/picture")
        self.forever(bytes(50_000), 0)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hostile)
        self.closing = threading.Event()
        self.agents: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["picture", "unannounced", "moved", "moved-with-endless-body", "picture of a café ☕"])
def test_a_picture(server: Server, path: str) -> None:
    assert download_image(f"{server.url}/{path}") == png()
    assert open_image(f"{server.url}/{path}").getpixel((0, 0)) == (10, 20, 30)
    assert set(server.agents) == {"joycaption"}


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no-such-picture", "the server answered 404 Not Found"),
        ("moved-nowhere", "it redirects more than 10 times"),
        ("moved-in-circles", "it redirects more than 10 times"),
        ("moved-to-file", "only http and https addresses are read, not file:///etc/hostname"),
        ("moved-to-ftp", "only http and https addresses are read, not ftp://"),
        ("cut", r"the connection ended after 20 of \d+ bytes"),
        ("nonsense", "."),
        ("announced-too-large", "it is larger than the limit of 0.1 MB"),
        ("endless", "it is larger than the limit of 0.1 MB"),
        ("endless-chunks", "it is larger than the limit of 0.1 MB"),
    ],
)
def test_no_picture(server: Server, path: str, words: str) -> None:
    with pytest.raises(ImageError, match=rf"^Cannot download {server.url}/{path}: .*{words}"):
        download_image(f"{server.url}/{path}", max_bytes=100_000, max_seconds=10)


@pytest.mark.parametrize("path", ["drip", "drip-headers", "drip-chunk-size", "silence"])
def test_a_slow_server_is_left_when_time_is_up(server: Server, path: str) -> None:
    started = time.monotonic()
    with pytest.raises(ImageError, match=rf"{path}: it took longer than 0.3 seconds\.$"):
        download_image(f"{server.url}/{path}", max_seconds=0.3)
    assert 0.25 < time.monotonic() - started < 10  # generous, for a busy machine; the server would go on for ever


def test_the_body_just_fits(server: Server) -> None:
    assert download_image(f"{server.url}/picture", max_bytes=len(png())) == png()
    with pytest.raises(ImageError, match="larger than the limit"):
        download_image(f"{server.url}/picture", max_bytes=len(png()) - 1)
    with pytest.raises(ImageError, match="larger than the limit"):
        download_image(f"{server.url}/unannounced", max_bytes=len(png()) - 1)


def test_a_web_page_is_no_picture(server: Server) -> None:
    url = f"{server.url}/web-page"
    with pytest.raises(ImageError, match=rf"^Cannot read {url}: it is not a JPEG"):
        open_image(url)


def test_nobody_answers() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as closed:
        port = closed.server_port
    with pytest.raises(ImageError, match=rf"^Cannot download http://127\.0\.0\.1:{port}/a\.png: .*refused"):
        open_image(f"http://127.0.0.1:{port}/a.png")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/a.png", "file:///etc/hostname", "FTP://x/y", "s3://bucket/key"])
def test_other_schemes(url: str) -> None:
    with pytest.raises(ImageError, match=rf"Cannot download {url}: only http and https addresses are read"):
        open_image(url)


@pytest.mark.parametrize("url", ["http://", "http://:80/x", "http://[::1", "https://a b/c", "http://" + "a" * 300])
def test_impossible_addresses(url: str) -> None:
    with pytest.raises(ImageError, match="Cannot download http"):
        open_image(url)


def test_the_stated_limits() -> None:
    assert (MAX_DOWNLOAD_BYTES, MAX_DOWNLOAD_SECONDS) == (64_000_000, 30.0)
