"""One picture from the web, with limits on bytes and time that a server cannot get around."""

from __future__ import annotations

import http.client
import io
import re
import socket
import time
import urllib.request
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.parse import quote, urljoin

from ..errors import ImageError
from .files import reason

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["MAX_DOWNLOAD_BYTES", "MAX_DOWNLOAD_SECONDS", "download_image", "is_url"]

MAX_DOWNLOAD_BYTES = 64_000_000
MAX_DOWNLOAD_SECONDS = 30.0

_MAX_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = {"User-Agent": "joycaption"}  # many hosts of pictures turn urllib's own name away


def is_url(source: str) -> bool:
    """Whether this is an address, of whatever scheme, and not a path. One letter is a Windows drive, no scheme."""
    return re.match(r"[a-z][a-z0-9+.-]+://", source, re.IGNORECASE) is not None


def download_image(
    url: str, *, max_bytes: int = MAX_DOWNLOAD_BYTES, max_seconds: float = MAX_DOWNLOAD_SECONDS
) -> bytes:
    """Fetch the bytes of a picture over http or https, through redirects and the system's proxy, if one is set.

    The time limit runs from the start to the last byte, redirects and slowly dripping headers included. Only looking up
    a host's name, and connecting to a host that has several dead addresses, can add to it.

    Raises:
        ImageError: another scheme, no answer, an error status, too many bytes, or too many seconds.
    """
    try:
        return _follow(url, time.monotonic() + max_seconds, max_bytes)
    except ImageError as error:
        raise ImageError(f"Cannot download {url}: {error}.") from error
    except TimeoutError as error:
        raise ImageError(f"Cannot download {url}: it took longer than {max_seconds:g} seconds.") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ImageError(f"Cannot download {url}: {reason(error)}.") from error


def _follow(url: str, deadline: float, max_bytes: int) -> bytes:
    opener = urllib.request.OpenerDirector()  # without urllib's own handlers of ftp, file and data addresses
    for handler in (urllib.request.ProxyHandler(), _HTTPHandler(deadline), _HTTPSHandler(deadline)):
        opener.add_handler(handler)
    for _ in range(_MAX_REDIRECTS + 1):
        if not url.lower().startswith(("http://", "https://")):
            raise ImageError(f"only http and https addresses are read, not {url}")
        with _open(opener, url) as response:
            if response.status not in _REDIRECTS:
                return _body(response, max_bytes)
            url = urljoin(url, response.headers.get("Location", ""))
    raise ImageError(f"it redirects more than {_MAX_REDIRECTS} times")


def _open(opener: urllib.request.OpenerDirector, url: str) -> http.client.HTTPResponse:
    # Spaces and letters beyond ASCII are quoted as a browser does; what is quoted already stays.
    request = urllib.request.Request(quote(url, safe="%/:=&?~#+!$,;'@()*[]"), headers=_HEADERS)
    try:
        response: http.client.HTTPResponse = opener.open(request)
    except URLError as error:  # urllib's wrapper around the real reason
        raise error.reason if isinstance(error.reason, OSError) else error from error
    return response


def _body(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    if response.status != 200:
        raise ImageError(f"the server answered {response.status} {response.reason}".rstrip())
    announced = response.length or 0
    body = response.read(max_bytes + 1) if announced <= max_bytes else b""
    if max(announced, len(body)) > max_bytes:
        raise ImageError(f"it is larger than the limit of {max_bytes / 1e6:g} MB")
    if len(body) < announced:
        raise ImageError(f"the connection ended after {len(body)} of {announced} bytes")
    return body


def _seconds_left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


class _DeadlineReader(io.RawIOBase):
    """Reads a socket up to a fixed moment. A plain socket timeout starts anew with every byte that arrives."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._socket, self._deadline = sock, deadline
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._socket.settimeout(_seconds_left(self._deadline))
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _DeadlineResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, deadline: float, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self.fp = io.BufferedReader(_DeadlineReader(sock, deadline))


def _connection(kind: type[http.client.HTTPConnection], deadline: float, host: str, **_: Any) -> Any:
    connection: Any = kind(host, timeout=_seconds_left(deadline))
    connection.response_class = partial(_DeadlineResponse, deadline=deadline)
    return connection


class _HTTPHandler(urllib.request.HTTPHandler):
    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._connection = partial(_connection, http.client.HTTPConnection, deadline)

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, req)


class _HTTPSHandler(urllib.request.HTTPSHandler):
    def __init__(self, deadline: float) -> None:
        super().__init__()
        self._connection = partial(_connection, http.client.HTTPSConnection, deadline)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._connection, req)
