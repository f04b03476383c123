"""Models from the Hugging Face hub: found on this machine, or else fetched into the hub's standard cache.

huggingface_hub says what to fetch (revision, sizes, checksums), from where (HF_ENDPOINT), as whom (HF_TOKEN), whether
at all (HF_HUB_OFFLINE), and where the cache is (HF_HOME, HF_HUB_CACHE). ``transfer`` brings the bytes.

Finished files get the names that huggingface_hub gives them, so every program that uses the cache finds them. A file
appears under its final name only after its checksum was verified.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, TypeAlias

from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]  # public, but exported lazily

from ..errors import Cancelled, CheckpointError, DownloadError, ModelNotFound
from .locate import KNOWN_MODELS, HubModel, check_folder, find_model, hub_model, searched_folders, what_is_wrong
from .transfer import CHUNK_BYTES, TransferError, file_size, receive, saving

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

__all__ = ["Progress", "ShouldStop", "download_model", "resolve_model"]

Progress: TypeAlias = Callable[[int, int, str], object]
"""Called with the bytes that are done, the bytes of all files, and the name of the file at hand."""

ShouldStop: TypeAlias = Callable[[], bool]
"""Asked whether to stop."""

WANTED = frozenset({".json", ".jinja", ".txt", ".safetensors"})
RESERVE_BYTES = 10**9


def resolve_model(
    name: str,
    *,
    folders: Iterable[Path | str] = (),
    allow_download: bool = True,
    progress: Progress | None = None,
    should_stop: ShouldStop | None = None,
) -> Path:
    """The folder of the named model (see ``locate``), which is downloaded unless this machine has it already.

    Raises:
        ModelNotFound: unknown name, or not here and not to be had; the message lists where it was looked for.
        CheckpointError: a folder of that name holds a broken or unsupported model.
        DownloadError, Cancelled: as in ``download_model``.
    """
    folders = list(folders)
    if found := find_model(name, folders=folders):
        return found
    if name == "demo":
        raise ModelNotFound("The demo model is missing from this installation of joycaption: install it again.")
    model = hub_model(name)
    if model is None:
        known = ", ".join(f'"{short}"' for short in (*KNOWN_MODELS, "demo"))
        raise ModelNotFound(
            f'There is no model or folder "{name}" ({_searched(folders)}). A model is one of {known}, the id of a hub'
            ' repository such as "org/name", or a folder that holds config.json and safetensors weights.'
        )
    if not allow_download:
        raise _out_of_reach(name, "Downloading was not allowed.", folders)
    try:
        return download_model(model, progress=progress, should_stop=should_stop)
    except ModelNotFound as error:
        raise _out_of_reach(name, str(error), folders) from error


def download_model(model: HubModel, *, progress: Progress | None = None, should_stop: ShouldStop | None = None) -> Path:
    """Fetches what is still missing of a model into the Hugging Face cache, and returns its folder there.

    Only JSON, Jinja, text and safetensors files are fetched. What arrived before a break, a crash or a stop is kept,
    and the next call goes on from there. ``should_stop`` is asked before each call of ``progress``, about once per
    MiB.

    Raises:
        ModelNotFound: the hub cannot be reached, or has no such model for this user.
        CheckpointError: the repository holds no weights that can be used.
        DownloadError: no room on the disk, the connection broke for good, or a file does not match its checksum.
        Cancelled: ``should_stop`` returned True.
    """
    commit, files = _ask_hub(model)
    cache = _RepoCache(model.repo, commit)
    lacking = [file for file in files if not cache.holds(file)]
    cache.check_room(lacking)
    total = sum(file.size for file in files)
    watch = _Watch(total, total - sum(file.size for file in lacking), progress, should_stop)
    for file in lacking:
        with cache.locked(file):
            if not cache.holds_blob(file):
                _fetch(file, cache, watch)
                _verify(file, cache, watch)
            cache.publish(file)
        watch.finished += file.size
    check_folder(cache.snapshot)
    return cache.snapshot


@dataclass(frozen=True, slots=True)
class _HubFile:
    """A file of a repository. ``digest``, in hex, is a SHA-256 (large files) or git's SHA-1 of the blob."""

    name: str
    size: int
    digest: str
    is_large: bool

    @classmethod
    def from_listing(cls, entry: RepoSibling) -> _HubFile:
        if entry.lfs:
            return cls(entry.rfilename, entry.lfs.size, entry.lfs.sha256, is_large=True)
        if entry.size is None or entry.blob_id is None:
            raise DownloadError(f"{constants.ENDPOINT} states no checksum of {entry.rfilename}: try another hub.")
        return cls(entry.rfilename, entry.size, entry.blob_id, is_large=False)


@dataclass(slots=True)
class _Watch:
    """Tells the caller how far the download is, and asks whether to go on."""

    total: int
    finished: int
    progress: Progress | None
    should_stop: ShouldStop | None

    def __call__(self, file: _HubFile, received: int) -> None:
        if self.should_stop and self.should_stop():
            raise Cancelled("The download was stopped. What has arrived is kept, and the next one goes on from there.")
        if self.progress:
            self.progress(self.finished + received, self.total, file.name)


@dataclass(frozen=True, slots=True)
class _RepoCache:
    """One revision of one repository in the Hugging Face cache, laid out as huggingface_hub documents it:
    ``blobs/DIGEST`` are the files, ``snapshots/COMMIT/NAME`` are links to them."""

    repo: str
    commit: str

    @property
    def root(self) -> Path:
        return Path(constants.HF_HUB_CACHE)

    @property
    def folder(self) -> Path:
        return self.root / f"models--{self.repo.replace('/', '--')}"

    @property
    def snapshot(self) -> Path:
        return self.folder / "snapshots" / self.commit

    def blob(self, file: _HubFile) -> Path:
        return self.folder / "blobs" / file.digest

    def partial(self, file: _HubFile) -> Path:
        # Not DIGEST.incomplete: other programs leave such files with holes in them, from which nothing can go on.
        return self.folder / "blobs" / f"{file.digest}.joycaption.incomplete"

    def holds(self, file: _HubFile) -> bool:
        return file_size(self.snapshot / file.name) == file.size

    def holds_blob(self, file: _HubFile) -> bool:
        """True when the content is there, be it from another revision."""
        return file_size(self.blob(file)) == file.size

    def check_room(self, lacking: list[_HubFile]) -> None:
        needed = sum(file.size - file_size(self.partial(file)) for file in lacking if not self.holds_blob(file))
        disk = next(folder for folder in (self.root, *self.root.parents) if folder.exists())
        free = shutil.disk_usage(disk).free
        if needed and needed + RESERVE_BYTES > free:
            raise DownloadError(
                f"The download of {self.repo} needs {needed / 1e9:.1f} GB and 1 GB in reserve, but only"
                f" {free / 1e9:.1f} GB are free on the disk of {self.root}. Make room there, or set HF_HOME to a folder"
                " on another disk."
            )

    @contextmanager
    def locked(self, file: _HubFile) -> Iterator[None]:
        """Keeps other programs from writing the same partial file."""
        path = self.root / ".locks" / self.folder.name / f"{file.digest}.lock"
        with ExitStack() as stack:
            with saving(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                self.blob(file).parent.mkdir(parents=True, exist_ok=True)
                try:
                    stack.enter_context(WeakFileLock(path, timeout=1))
                except TimeoutError as error:
                    raise DownloadError(
                        f"Another program is downloading {file.name} of {self.repo}. Wait for it, then try again."
                    ) from error
            yield

    def publish(self, file: _HubFile) -> None:
        """Makes a file whose content is complete and verified visible in the snapshot."""
        name, blob = self.snapshot / file.name, self.blob(file)
        with saving(name):
            if not self.holds_blob(file):
                self.partial(file).replace(blob)
            name.parent.mkdir(parents=True, exist_ok=True)
            name.unlink(missing_ok=True)
            try:
                name.symlink_to(Path("..", "..", "blobs", file.digest))
            except OSError:  # Windows without developer mode: as huggingface_hub does, the file itself goes there
                blob.replace(name)


def _ask_hub(model: HubModel) -> tuple[str, list[_HubFile]]:
    """The commit, and the files to fetch from it, small ones first."""
    try:
        info = HfApi().model_info(
            model.repo, revision=model.revision, files_metadata=True, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT
        )
    except Exception as error:  # whatever requests, httpx or httpx2 raise: which of them it is depends on the version
        raise ModelNotFound(f"{model.repo} could not be downloaded: {_why(error, model.repo)}.") from error
    # Names with a folder in them are left out: nothing of ours lies there, and they could lead out of the cache.
    entries = [entry for entry in info.siblings or () if PureWindowsPath(entry.rfilename).name == entry.rfilename]
    _, problem = what_is_wrong([entry.rfilename for entry in entries])
    if problem:
        raise CheckpointError(f"There is no usable model in {constants.ENDPOINT}/{model.repo}: {problem}.")
    wanted = [entry for entry in entries if Path(entry.rfilename).suffix.lower() in WANTED]
    return str(info.sha), sorted(map(_HubFile.from_listing, wanted), key=lambda file: file.size)


def _fetch(file: _HubFile, cache: _RepoCache, watch: _Watch) -> None:
    url = hf_hub_url(cache.repo, file.name, revision=cache.commit)
    try:
        receive(url, cache.partial(file), file.size, lambda received: watch(file, received))
    except TransferError as error:
        raise _broken_off(file, cache, error.__cause__) from error


def _verify(file: _HubFile, cache: _RepoCache, watch: _Watch) -> None:
    """Compares size and checksum, and deletes what does not match: resuming from it would never come right."""
    partial = cache.partial(file)
    git_header = b"blob %d\0" % file_size(partial)
    digest = hashlib.sha256() if file.is_large else hashlib.sha1(git_header, usedforsecurity=False)
    with partial.open("rb") as content:
        while piece := content.read(CHUNK_BYTES):
            digest.update(piece)
            watch(file, file.size)
    if digest.hexdigest() != file.digest:
        partial.unlink()
        raise DownloadError(
            f"{file.name} of {cache.repo} arrived damaged: its checksum is not the one that the hub states. It was"
            " deleted; download it again."
        )


def _broken_off(file: _HubFile, cache: _RepoCache, error: BaseException | None) -> DownloadError | ModelNotFound:
    if isinstance(error, RepositoryNotFoundError):  # lists are public, but the files of a gated repository are not
        return ModelNotFound(f"{cache.repo} could not be downloaded: {_why(error, cache.repo)}.")
    return DownloadError(
        f"The download of {file.name} of {cache.repo} broke off: {_why(error, cache.repo)}. What has arrived is kept;"
        " try again to go on from there."
    )


def _why(error: BaseException | None, repo: str) -> str:
    """What an error of huggingface_hub or its HTTP client means to the user."""
    hub = constants.ENDPOINT
    if isinstance(error, OfflineModeIsEnabled):
        return "the environment variable HF_HUB_OFFLINE forbids it"
    if isinstance(error, GatedRepoError):
        return f"accept its terms at {hub}/{repo} first, then log in with `hf auth login` or set HF_TOKEN"
    if isinstance(error, RevisionNotFoundError):
        return f"{hub} does not have this revision of it"
    if isinstance(error, RepositoryNotFoundError):
        return f"{hub} has no such model, or it is private (then log in with `hf auth login` or set HF_TOKEN)"
    if isinstance(error, HfHubHTTPError) and error.response.status_code == 401:
        return f"{hub} does not accept your access token (HF_TOKEN, or the one saved by `hf auth login`)"
    if isinstance(error, HfHubHTTPError):
        return f"{hub} answered with HTTP status {error.response.status_code}"
    return f"{hub} cannot be reached ({type(error).__name__})"


def _out_of_reach(name: str, reason: str, folders: Iterable[Path | str]) -> ModelNotFound:
    return ModelNotFound(
        f'The model "{name}" is not on this machine ({_searched(folders)}). {reason} Give the path of a folder that'
        ' holds the model, or use the built-in "demo" model.'
    )


def _searched(folders: Iterable[Path | str]) -> str:
    places = [*map(str, searched_folders(folders)), f"the Hugging Face cache {constants.HF_HUB_CACHE}"]
    return f"searched: {', '.join(places)}"
