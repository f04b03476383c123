"""Captions a dataset: picture by picture from the scan to the sidecar, each saved the moment it is done.

Nothing here grows with the dataset: pictures are taken as the captioner asks for them, and a result is handed on and
forgotten. What is done is known from the disk, so the same call goes on where another one ended.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..captioners.base import Captioner
from ..errors import DatasetError
from ..types import Caption, Request, Sampling, derive_seed
from .scan import Picture
from .select import OnResult, Result, select
from .sidecars import SidecarFormat, check_writable

__all__ = ["RunSettings", "RunSummary", "caption_dataset"]

# Nothing more can be saved after one of these, whatever the picture.
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EROFS, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class RunSettings:
    """What is the same for every picture of a run.

    Attributes:
        prompt, system, begin_with, sampling: as in `Request`.
        seed: the run's seed. A picture's own is derived from it and from `Picture.name`, so a picture gets the same
            caption whatever else is in the run.
        sidecars: how captions are saved; None: sidecars are neither read nor written.
        overwrite: caption pictures that have a caption, too.
    """

    prompt: str
    system: str | None = None
    begin_with: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    sidecars: SidecarFormat | None = None
    overwrite: bool = False

    def request(self, picture: Picture) -> Request:
        caption_number, attempt = 0, 0
        seed = derive_seed(self.seed, picture.name, caption_number, attempt)
        return Request(picture.path, self.prompt, self.system, self.begin_with, self.sampling, seed)


@dataclass(slots=True)
class RunSummary:
    """How a run went.

    Attributes:
        captioned, skipped, failed: number of pictures.
        unfinished: pictures whose caption was begun, but not saved, because the run was ended.
        tokens: tokens generated for the captions that were completed.
        stopped: whether the caller's ``should_stop`` ended it.
        problem: one sentence when the run could not go on or could not see all pictures; else empty.
    """

    captioned: int = 0
    skipped: int = 0
    failed: int = 0
    unfinished: int = 0
    tokens: int = 0
    stopped: bool = False
    problem: str = ""

    def add(self, result: Result) -> None:
        if result.status == "captioned":
            self.captioned += 1
            self.tokens += result.caption.tokens if result.caption else 0
        elif result.status == "skipped":
            self.skipped += 1
        else:
            self.failed += 1


def caption_dataset(
    captioner: Captioner,
    pictures: Iterable[Picture],
    settings: RunSettings,
    *,
    on_result: OnResult | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> RunSummary:
    """Caption pictures and save each caption as soon as it is done.

    A picture that cannot be read, captioned or saved fails alone. The run ends early, keeping what is saved, when the
    disk is full or read-only, when the first folder cannot be written, or when ``should_stop`` says so; captions that
    are unfinished then are not saved. When ``pictures`` raises `DatasetError`, what it gave before is finished first.

    Args:
        pictures: taken lazily, a few ahead of need.
        on_result: called once for each picture, as it is settled.
        should_stop: asked before each picture and at every decode step.

    Raises:
        UsageError: a wrong argument.
        ModelError: the captioner cannot load its model.
    """
    run = _Run(settings, on_result or (lambda result: None), should_stop or (lambda: False))
    for position, caption in captioner.caption(run.requests(pictures), should_stop=run.should_end):
        run.take(position, caption)
    return run.summary


class _Run:
    """The state of one call of `caption_dataset`."""

    def __init__(self, settings: RunSettings, on_result: OnResult, should_stop: Callable[[], bool]) -> None:
        self.settings, self.on_result, self.should_stop = settings, on_result, should_stop
        self.summary = RunSummary()
        self.begun: dict[int, Path] = {}  # pictures with the captioner, by position
        self.disk_failed = False
        self.folder: Path | None = None
        self.folder_problem = ""

    def should_end(self) -> bool:
        self.summary.stopped = self.summary.stopped or self.should_stop()
        return self.summary.stopped or self.disk_failed

    def requests(self, pictures: Iterable[Picture]) -> Iterator[Request]:
        wanted = select(
            self._until_end(pictures), self.settings.sidecars, overwrite=self.settings.overwrite, on_result=self.report
        )
        position = 0
        try:
            for picture in wanted:
                if problem := self._problem_of(picture.path.parent):
                    self.report(Result(picture.path, "failed", reason=problem))
                    continue
                self.begun[position] = picture.path
                yield self.settings.request(picture)
                position += 1
        except DatasetError as error:
            self.summary.problem = str(error)

    def _until_end(self, pictures: Iterable[Picture]) -> Iterator[Picture]:
        # Asked here too, because thousands of pictures may be skipped before the captioner gets to ask.
        for picture in pictures:
            if self.should_end():
                return
            yield picture

    def _problem_of(self, folder: Path) -> str:
        """Why a folder cannot be written, or an empty string: known before any caption is spent on it.

        Raises:
            DatasetError: so early that it looks like a mistake rather than one odd folder among many.
        """
        if self.settings.sidecars is None or folder == self.folder:
            return self.folder_problem
        self.folder, self.folder_problem = folder, ""
        try:
            check_writable(folder)
        except OSError as error:
            self.folder_problem = f"its folder cannot be written: {error.strerror}"
            if error.errno in _DISK_ERRORS or not (self.begun or self.summary.captioned):
                raise DatasetError(f"Cannot write caption files to {folder}: {error.strerror}.") from error
        return self.folder_problem

    def take(self, position: int, caption: Caption) -> None:
        """Save a caption, if it is one."""
        picture = self.begun.pop(position)
        if caption.finish_reason == "interrupted":
            self.summary.unfinished += 1
            self.summary.stopped = self.summary.stopped or not self.disk_failed
        elif caption.complete:
            self.report(self._saved(picture, caption))
        else:
            self.report(Result(picture, "failed", caption, reason=caption.error or "the model wrote nothing"))

    def _saved(self, picture: Path, caption: Caption) -> Result:
        if self.settings.sidecars is None:
            return Result(picture, "captioned", caption)
        try:
            return Result(picture, "captioned", caption, self.settings.sidecars.write(picture, caption.text))
        except OSError as error:
            if error.errno in _DISK_ERRORS:
                self.disk_failed = True
                self.summary.problem = f"Nothing more can be saved in {picture.parent}: {error.strerror}."
            return Result(picture, "failed", caption, reason=f"its caption cannot be saved: {error.strerror}")

    def report(self, result: Result) -> None:
        self.summary.add(result)
        self.on_result(result)
