"""Caption files beside pictures, as trainers read them: UTF-8 without BOM, one line, never empty or half written."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import UsageError

__all__ = [
    "FORMATS",
    "SidecarFormat",
    "TextSidecar",
    "atomic_write_text",
    "check_writable",
    "one_line",
    "sidecar_format",
]

_RENAME_WAITS = (0.05, 0.1, 0.2, 0.4, 0.8)  # seconds


class SidecarFormat(Protocol):
    """How the caption of a picture is kept in a file of its own."""

    @property
    def extension(self) -> str:
        """The file's ending, with the dot."""
        ...

    def path(self, picture: Path) -> Path:
        """Where the caption of this picture lies."""
        ...

    def read(self, picture: Path) -> str:
        """The caption, or an empty string where there is none. Raises OSError."""
        ...

    def write(self, picture: Path, caption: str) -> Path:
        """Replace the caption, and return where it is. Raises OSError, and UsageError for an empty caption."""
        ...


@dataclass(frozen=True, slots=True)
class TextSidecar:
    """A text file of the picture's name with another extension: ``cat.png`` and ``cat.txt``."""

    extension: str

    def path(self, picture: Path) -> Path:
        return picture.with_suffix(self.extension)

    def read(self, picture: Path) -> str:
        try:
            # Other programs may have written it: with a BOM, or in another encoding.
            return one_line(self.path(picture).read_text("utf-8-sig", errors="replace"))
        except FileNotFoundError:
            return ""

    def write(self, picture: Path, caption: str) -> Path:
        path = self.path(picture)
        atomic_write_text(path, one_line(caption))
        return path


FORMATS: Mapping[str, SidecarFormat] = {
    "txt": TextSidecar(".txt"),
    "caption": TextSidecar(".caption"),
}


def sidecar_format(name: str) -> SidecarFormat:
    """The format of that name in ``FORMATS``.

    Raises:
        UsageError: there is none.
    """
    if name not in FORMATS:
        raise UsageError(f"The caption format is {name!r}, but must be one of {', '.join(FORMATS)}.")
    return FORMATS[name]


def one_line(text: str) -> str:
    """The text with every run of white space and line breaks as one space: many trainers read one line only."""
    return " ".join(text.split())


def atomic_write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file so that at any moment there is the old file or the new one, whole.

    Raises:
        OSError: it cannot be written; what was there is untouched, and no temporary file is left.
        UsageError: the text is empty.
    """
    if not text.strip():
        raise UsageError(f"Refused to write an empty text to {path}.")
    temporary = _temporary(path.parent)
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def check_writable(folder: Path) -> None:
    """Make sure that files can be made in a folder: permissions alone do not tell, on network drives least of all.

    Raises:
        OSError: they cannot.
    """
    temporary = _temporary(folder)
    temporary.touch(exist_ok=False)
    temporary.unlink()


def _temporary(folder: Path) -> Path:
    """A free name on the target's own disk; short, because the target's name may be as long as names can be."""
    return folder / f".joycaption-{secrets.token_hex(6)}.tmp"


def _replace(temporary: Path, path: Path) -> None:
    """Rename over the target. On Windows that is denied while a virus scanner or an editor has it open for a moment."""
    for wait in _RENAME_WAITS:
        try:
            temporary.replace(path)
            return
        except PermissionError:
            time.sleep(wait)
    temporary.replace(path)
