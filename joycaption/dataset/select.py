"""Which pictures of a dataset still want a caption, and which of two pictures a sidecar belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias
from unicodedata import normalize

from ..types import Caption
from .scan import Picture
from .sidecars import SidecarFormat

__all__ = ["OnResult", "Result", "Status", "select"]

Status: TypeAlias = Literal["captioned", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one picture.

    Attributes:
        picture: the picture's path.
        status: ``captioned``; ``skipped``, it has a caption already; ``failed``, and ``reason`` says why.
        caption: the caption that was written, or what is known of the one that failed.
        sidecar: the file that holds the caption.
        reason: one sentence, for ``failed``.
    """

    picture: Path
    status: Status
    caption: Caption | None = None
    sidecar: Path | None = None
    reason: str = ""


OnResult: TypeAlias = Callable[[Result], None]


def select(
    pictures: Iterable[Picture], sidecars: SidecarFormat | None, *, overwrite: bool, on_result: OnResult
) -> Iterator[Picture]:
    """The pictures that want a caption; what happens to the others goes to ``on_result``.

    A picture whose sidecar holds text is skipped, unless ``overwrite`` is set. Of pictures that would share a sidecar
    (``a.png`` and ``a.jpg``), the first has it; the others fail, in every run alike, until one is renamed: a caption
    must never stand beside a picture that it does not describe. For this, the pictures of one folder must come
    together, as `scan` gives them.

    Args:
        sidecars: None looks at no sidecars at all and yields every picture.
    """
    claims = _Claims()
    for picture in pictures:
        result = _settled(picture.path, sidecars, overwrite, claims) if sidecars else None
        if result is None:
            yield picture
        else:
            on_result(result)


def _settled(picture: Path, sidecars: SidecarFormat, overwrite: bool, claims: _Claims) -> Result | None:
    """What to say of a picture that needs no caption, or can have none."""
    sidecar = sidecars.path(picture)
    owner = claims.claim(picture)
    if owner == picture:  # named twice
        return Result(picture, "skipped", sidecar=sidecar)
    if owner is not None:
        reason = f"its caption file would be {sidecar.name}, which belongs to {owner.name}; rename one of the two"
        return Result(picture, "failed", reason=reason)
    try:
        captioned = bool(sidecars.read(picture)) and not overwrite
    except OSError as error:
        return Result(picture, "failed", reason=f"its caption file {sidecar.name} cannot be read: {error.strerror}")
    return Result(picture, "skipped", sidecar=sidecar) if captioned else None


@dataclass(slots=True)
class _Claims:
    """Which picture has which stem, in the folder at hand only: memory shall not grow with the dataset."""

    folder: Path | None = None
    owners: dict[str, list[Path]] = field(default_factory=dict)

    def claim(self, picture: Path) -> Path | None:
        """The picture that has this stem already, or None: it is now this one's."""
        if picture.parent != self.folder:
            self.folder, self.owners = picture.parent, {}
        alike = self.owners.setdefault(normalize("NFC", picture.stem).casefold(), [])
        for owner in alike:
            if owner.stem == picture.stem or _same_name_here(owner, picture):
                return owner
        alike.append(picture)
        return None


def _same_name_here(owner: Path, picture: Path) -> bool:
    """Whether this file system takes the two stems for one, as Windows and macOS take ``A`` and ``a``."""
    try:
        return owner.samefile(owner.with_name(picture.stem + owner.suffix))
    except OSError:
        return False
