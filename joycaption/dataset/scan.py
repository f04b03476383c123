"""Which pictures a user means by some paths. Lazy: it holds one folder's listing at a time, however large the tree is.

Order: paths as given; in a folder natural order (img2 before img10), its own pictures before its subfolders.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from os import DirEntry, scandir
from pathlib import Path
from unicodedata import normalize

from ..errors import DatasetError
from ..images import IMAGE_SUFFIXES
from .sidecars import FORMATS

__all__ = ["Picture", "count", "scan"]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture file of a dataset.

    Attributes:
        path: where it is, as the user named it.
        root: the folder that the user gave, the fixed part of a glob, or a single file's folder.
    """

    path: Path
    root: Path

    @property
    def name(self) -> str:
        """What names the picture wherever the dataset lies: its POSIX path below the root, the same on every system."""
        return normalize("NFC", self.path.relative_to(self.root).as_posix())  # macOS may store decomposed letters


def scan(paths: Iterable[str | Path], *, recursive: bool = False) -> Iterator[Picture]:
    """The pictures of files, folders and globs (``**`` too), found as they are asked for.

    Files are recognised by ``IMAGE_SUFFIXES``. What begins with a dot is skipped below a given folder. Links to folders
    are followed, each real folder once per path. Caption files given by name are ignored, so that a shell may expand
    ``photos/*``.

    Args:
        paths: each must exist or be a glob, and yield a picture. A glob that matches a folder means its pictures.
        recursive: subfolders too.

    Raises:
        DatasetError: at the call: a path that is missing, unreadable or holds no picture. At the end of the scan, after
            all other pictures: subfolders that could not be read.
    """
    paths = list(paths)
    for path in paths:
        try:
            _check(path, recursive)
        except OSError as error:  # a folder above may not be entered, or the name is too long
            raise DatasetError(f"Cannot look for {path}: {error.strerror}.") from error
    return _scan(paths, recursive)


def count(pictures: Iterable[Picture]) -> int:
    """How many there are, for a progress bar. Folders that cannot be read are left out; the run itself will tell."""
    number = 0
    with suppress(DatasetError):
        for _ in pictures:
            number += 1
    return number


def _scan(paths: list[str | Path], recursive: bool) -> Iterator[Picture]:
    unreadable: list[OSError] = []
    for path in paths:
        yield from _pictures(Path(path), recursive, unreadable)
    if unreadable:
        folders = "; ".join(f"{error.filename}: {error.strerror}" for error in unreadable)
        raise DatasetError(f"Some folders cannot be read, their pictures are left out: {folders}.")


def _check(path: str | Path, recursive: bool) -> None:
    if not str(path):  # Path("") would mean the current folder
        raise DatasetError("An empty path was given: name a picture, a folder or a glob.")
    path, unreadable = Path(path), list[OSError]()
    if path.is_file() and not _is_picture(path.name) and not _is_sidecar(path):
        raise DatasetError(f"{path} is not a picture: those end in {', '.join(sorted(IMAGE_SUFFIXES))}.")
    if not path.exists() and not _is_glob(path):
        raise DatasetError(f"There is no file or folder {path}.")
    if _is_sidecar(path) or next(_pictures(path, recursive, unreadable), None):
        return
    if unreadable:
        raise DatasetError(f"Cannot read the folder {unreadable[0].filename}: {unreadable[0].strerror}.")
    if path.is_dir():
        hint = "" if recursive else "; its subfolders are only searched when that is asked for (recursive)"
        raise DatasetError(f"There are no pictures in the folder {path}{hint}.")
    raise DatasetError(f"No picture matches {path}.")


def _pictures(path: Path, recursive: bool, unreadable: list[OSError]) -> Iterator[Picture]:
    if path.is_dir():
        for file in _walk(path, None if recursive else 1, unreadable):
            yield Picture(file, path)
    elif path.is_file():
        if not _is_sidecar(path):
            yield Picture(path, path.parent)
    elif _is_glob(path):
        yield from _glob(path, recursive, unreadable)


def _is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def _is_sidecar(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in {form.extension for form in FORMATS.values()}


# --- folders ---


def _walk(root: Path, levels: int | None, unreadable: list[OSError]) -> Iterator[Path]:
    """Picture files in a folder and its subfolders, down to so many levels; None: all of them."""
    pending = [(root, 1)]
    visited: set[Path] = set()  # against links that lead in circles
    while pending:
        folder, level = pending.pop()
        try:
            real = folder.resolve()
            pictures, subfolders = ([], []) if real in visited else _listing(folder)
        except OSError as error:
            unreadable.append(error)
            continue
        visited.add(real)
        yield from (folder / name for name in pictures)
        if levels is None or level < levels:
            pending += [(folder / name, level + 1) for name in reversed(subfolders)]


def _listing(folder: Path) -> tuple[list[str], list[str]]:
    """Names of a folder's pictures and of its subfolders, in natural order."""
    pictures, subfolders = [], []
    with scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                subfolders.append(entry.name)
            elif _is_picture(entry.name) and (entry.is_symlink() or entry.is_file()):
                pictures.append(entry.name)  # a link to nothing too: it will be reported as unreadable, not lost
    return sorted(pictures, key=_natural), sorted(subfolders, key=_natural)


def _is_folder(entry: DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _natural(name: str) -> tuple[list[list[str | int]], str]:
    """Sort key that compares runs of digits by value; the name itself decides between 01 and 1."""
    return [_text_and_numbers(part) for part in name.casefold().split(".")], name


def _text_and_numbers(text: str) -> list[str | int]:
    parts: list[str | int] = list(re.split(r"(\d+)", text))
    parts[1::2] = [int(digits) for digits in parts[1::2]]
    return parts


# --- globs: not every shell expands them ---


def _is_glob(path: Path) -> bool:
    return any(_is_pattern(part) for part in path.parts)


def _is_pattern(part: str) -> bool:
    return any(sign in part for sign in "*?[")


def _glob(path: Path, recursive: bool, unreadable: list[OSError]) -> Iterator[Picture]:
    fixed = next(index for index, part in enumerate(path.parts) if _is_pattern(part))
    root, pattern = Path(*path.parts[:fixed]), path.parts[fixed:]
    if not root.is_dir():
        return
    endless = recursive or "**" in pattern
    for file in _walk(root, None if endless else len(pattern) + 1, unreadable):
        parts = file.relative_to(root).parts
        # The pattern may mean the file, its folder, or, when subfolders count, any folder above.
        ends = range(1, len(parts) + 1) if recursive else (len(parts), len(parts) - 1)
        if any(_matches(parts[:end], pattern) for end in ends):
            yield Picture(file, root)


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (bool(parts) and _matches(parts[1:], pattern))
    return bool(parts) and fnmatch(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
