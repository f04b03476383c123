"""One file over HTTP: resumed where it broke off, watched and stopped by the caller.

The HTTP client, its proxies, its certificates and the user's token are those of huggingface_hub. Its own download
functions are not used, for they cannot keep what we promise: version 2 deletes a broken download instead of resuming
it, versions before 1 report no progress to the caller, and transfers by hf-xet or hf_transfer cannot be stopped from
Python. The hub serves the files of its xet storage over plain HTTP too.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # public, but exported lazily
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

from ..errors import DownloadError

__all__ = ["CHUNK_BYTES", "TransferError", "file_size", "receive", "saving"]

CHUNK_BYTES = 1 << 20
ATTEMPTS = 5
RETRY_SECONDS = 1.0


class TransferError(Exception):
    """The transfer broke off; ``__cause__`` tells why, as the HTTP client put it. For callers to translate."""


def receive(url: str, path: Path, size: int, on_bytes: Callable[[int], None]) -> None:
    """Appends to a file until it has its full size, over as many connections as it takes while each brings something.

    Args:
        on_bytes: called with the size so far, about once per MiB and before each connection. What it raises ends the
            transfer and leaves a file that a later call can go on from.

    Raises:
        TransferError: refused, or ``ATTEMPTS`` connections in a row brought nothing.
        DownloadError: the file cannot be written.
    """
    failures = 0
    while (had := file_size(path)) < size:
        on_bytes(had)
        try:
            _append(url, path, size, on_bytes)
        except TransferError as error:
            failures = 1 if file_size(path) > had else failures + 1
            if failures == ATTEMPTS or _is_final(error.__cause__):
                raise
            time.sleep(RETRY_SECONDS)


def file_size(path: Path) -> int:
    """A file's size in bytes, 0 when there is none."""
    return path.stat().st_size if path.is_file() else 0


@contextmanager
def saving(path: Path) -> Iterator[None]:
    """Around what writes to the disk and nothing else: errors of the network and of callbacks are OSErrors as well."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise DownloadError(f"{path} cannot be written: {reason}. What has arrived is kept.") from error


def _append(url: str, path: Path, size: int, on_bytes: Callable[[int], None]) -> None:
    with ExitStack() as stack:
        with saving(path):
            path.touch()
            output = stack.enter_context(path.open("r+b"))
        for position, piece in stack.enter_context(closing(_stream(url, file_size(path), size))):
            with saving(path):
                output.seek(position)
                output.write(piece)
            on_bytes(position + len(piece))
        with saving(path):
            output.flush()
            os.fsync(output.fileno())


def _stream(url: str, start: int, size: int) -> Generator[tuple[int, bytes], None, None]:
    """The pieces of a file from ``start`` on, each with its position, until ``size`` is reached."""
    position = start
    try:
        with _request(url, start) as response:
            hf_raise_for_status(response)
            if response.status_code != 206:  # this server cannot resume: it sends everything again
                position = 0
            pieces = response.iter_bytes if hasattr(response, "iter_bytes") else response.iter_content
            for piece in pieces(CHUNK_BYTES):
                yield position, piece[: size - position]
                position += len(piece)
                if position >= size:
                    return
    except Exception as error:  # of requests, httpx or httpx2: which of them it is depends on huggingface_hub
        raise TransferError from error
    raise TransferError from EOFError(f"the connection ended after {position} of {size} bytes")


def _request(url: str, start: int) -> Any:
    """A streaming GET by the session of huggingface_hub, which is one of requests before version 1, then of httpx."""
    session: Any = get_session()
    headers = {**build_hf_headers(), "Range": f"bytes={start}-", "Accept-Encoding": "identity"}
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    if hasattr(session, "mount"):
        return session.get(url, headers=headers, timeout=timeout, stream=True)
    return session.stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True)


def _is_final(error: BaseException | None) -> bool:
    """True when asking again would bring the same refusal."""
    if not isinstance(error, HfHubHTTPError):
        return False
    status = error.response.status_code
    return 400 <= status < 500 and status not in (408, 429)
