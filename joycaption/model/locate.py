"""Where models are on this machine, and whether what lies there can be used. Never touches the network.

A model's name is one of
    "beta-one"      JoyCaption Beta One, at a pinned revision
    "demo"          the small model that comes with this package
    "org/name"      a repository on the Hugging Face hub
    a folder        a path, or the bare name of a folder inside one of the searched folders

Searched, in this order: the folders that the caller gives, those of the environment variable JOYCAPTION_MODELS,
the Hugging Face cache. In a plain folder the model "org/name" may lie as ``org/name`` or ``org--name``, and Beta One
also as ``beta-one`` or under its bare repository name.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeAlias

from huggingface_hub import constants, scan_cache_dir
from huggingface_hub.errors import CacheNotFound

from ..errors import CheckpointError

__all__ = [
    "BETA_ONE",
    "KNOWN_MODELS",
    "FoundModel",
    "HubModel",
    "check_folder",
    "find_model",
    "hub_model",
    "list_models",
    "searched_folders",
    "what_is_wrong",
]

Kind: TypeAlias = Literal["safetensors", "gguf", "pickle", "incomplete"]

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
SHARD_INDEX = "model.safetensors.index.json"
PICKLED = frozenset({".bin", ".pt", ".pth", ".ckpt"})
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*", re.ASCII)
DEMO_FOLDER = Path(__file__).resolve().parents[1] / "demo" / "model"


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model repository on the hub.

    Attributes:
        repo: the hub id, ``org/name``.
        revision: the commit to use; None takes the newest one.
        bytes: about how much is downloaded; 0 when not known before asking the hub.
    """

    repo: str
    revision: str | None = None
    bytes: int = 0


BETA_ONE = HubModel(
    repo="fancyfeast/llama-joycaption-beta-one-hf-llava",
    revision="ebf414ea497a020da0f82df3913e5b6cb8e9663a",
    bytes=17_000_000_000,
)
KNOWN_MODELS = {"beta-one": BETA_ONE}


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model on this machine, usable or not.

    Attributes:
        name: what to ask for to get it: a name as above, else its path.
        path: its folder.
        bytes: what its files take on the disk.
        kind: ``safetensors`` is ready for use; the others cannot be loaded, and ``note`` says why.
        note: what is wrong with it, or empty.
    """

    name: str
    path: Path
    bytes: int
    kind: Kind
    note: str = ""


def find_model(name: str, *, folders: Iterable[Path | str] = ()) -> Path | None:
    """The folder that holds the named model, or None when there is none on this machine.

    In the Hugging Face cache any complete revision will do, the pinned or newest one first: nobody wants to fetch
    17 GB again because a README was edited.

    Raises:
        CheckpointError: a folder of that name is there, but its model is broken or of an unsupported kind;
            or the name is the path of a file.
    """
    if name not in ("demo", *KNOWN_MODELS) and (folder := _local_folder(name)):
        check_folder(folder)
        return folder
    places = [DEMO_FOLDER] if name == "demo" else list(_places(name, searched_folders(folders)))
    usable = (place for place in chain(places, _cached(name)) if _is_usable(place))
    if found := next(usable, None):
        return found
    for place in filter(_examine, places):
        check_folder(place)
    return None


def list_models(folders: Iterable[Path | str] = ()) -> list[FoundModel]:
    """Every LLaVA model on this machine, with those that cannot be used and why. Other models are left out."""
    found = [_describe("demo", DEMO_FOLDER)]
    for root in searched_folders(folders):
        found += [_describe(_name_in(root, folder), folder) for folder in _folders_below(root)]
    for repo, snapshot in _cache_snapshots():
        found.append(_describe(next(iter(_short_names(repo)), repo), snapshot, alias=repo))
    return list({model.path: model for model in found if model}.values())  # searched folders may lie in each other


def check_folder(folder: Path) -> None:
    """Makes sure that a folder holds a model that can be loaded.

    Raises:
        CheckpointError: it does not; the message says what is missing or why that kind is refused.
    """
    kind, note = _examine(folder) or ("incomplete", f"it holds neither {CONFIG} nor weights")
    if kind != "safetensors":
        raise CheckpointError(f"There is no usable model in {folder}: {note}.")


def what_is_wrong(files: Collection[str]) -> tuple[Kind, str]:
    """The kind of a model with these file names, and why it cannot be used, or an empty string."""
    if WEIGHTS in files or SHARD_INDEX in files:
        return ("safetensors", "") if CONFIG in files else ("incomplete", f"{CONFIG} is missing")
    if ".gguf" in _suffixes(files):
        return "gguf", (
            "GGUF files are made for llama.cpp and are not read here; use the safetensors model"
            f' "{BETA_ONE.repo}", in 4 bits if memory is short'
        )
    if _suffixes(files) & PICKLED:
        return "pickle", (
            "its weights are pickled (.bin, .pt, .pth, .ckpt), and loading a pickle can run any code that is hidden"
            " in it; use a safetensors version of the model"
        )
    return "incomplete", f"neither {WEIGHTS} nor {SHARD_INDEX} is there"


def hub_model(name: str) -> HubModel | None:
    """The hub repository that a name stands for, or None when it is not the name of one."""
    for short, model in KNOWN_MODELS.items():
        if name in (short, model.repo):
            return model
    return HubModel(name) if HUB_ID.fullmatch(name) else None


def searched_folders(folders: Iterable[Path | str] = ()) -> list[Path]:
    """The plain folders that are searched: the given ones, then those of JOYCAPTION_MODELS."""
    named = os.environ.get("JOYCAPTION_MODELS", "").split(os.pathsep)
    return [Path(folder).expanduser() for folder in [*folders, *named] if str(folder).strip()]


def _local_folder(name: str) -> Path | None:
    """The folder whose path is ``name`` (``~`` is the home folder), or None when there is no such folder.

    Raises:
        CheckpointError: it is the path of a file.
    """
    try:
        path = Path(name).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError):  # not allowed to look; no such user's home
        return None
    if is_file:
        kind, problem = what_is_wrong([path.name])
        reason = problem if kind in ("gguf", "pickle") else "give the folder that it lies in"
        raise CheckpointError(f"{path} is a file, not a model's folder: {reason}.")
    return path if name and is_folder else None


def _places(name: str, roots: Iterable[Path]) -> Iterator[Path]:
    """Where in plain folders the named model may lie."""
    names = [name] if Path(name).name == name else []
    if model := hub_model(name):
        names = [*_short_names(model.repo), model.repo, model.repo.replace("/", "--")]
    for root in roots:
        yield from (root / name for name in names)
        if root.name in names:
            yield root


def _cached(name: str) -> Iterator[Path]:
    """The snapshots of a model in the Hugging Face cache, best first."""
    if model := hub_model(name):
        snapshots = [snapshot for repo, snapshot in _cache_snapshots() if repo == model.repo]
        yield from sorted(snapshots, key=lambda snapshot: snapshot.name != model.revision)


def _cache_snapshots() -> Iterator[tuple[str, Path]]:
    """Every model of the Hugging Face cache as (hub id, folder of one revision), a repository's newest first."""
    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except (CacheNotFound, ValueError, OSError):  # there is no cache yet, or it cannot be read
        return
    for repo in sorted(repos, key=lambda repo: repo.repo_id):
        if repo.repo_type == "model":
            for revision in sorted(repo.revisions, key=lambda revision: -revision.last_modified):
                yield repo.repo_id, revision.snapshot_path


def _examine(folder: Path) -> tuple[Kind, str] | None:
    """The kind of a folder's model and what is wrong with it, or None when nothing there looks like a model."""
    files = _files(folder)
    if CONFIG not in files and not _suffixes(files) & {".safetensors", ".gguf", *PICKLED}:
        return None
    kind, problem = what_is_wrong(files)
    if kind == "safetensors" and WEIGHTS not in files and (problem := _shard_problem(folder)):
        return "incomplete", problem
    return kind, problem


def _is_usable(folder: Path) -> bool:
    return _examine(folder) == ("safetensors", "")


def _shard_problem(folder: Path) -> str:
    try:
        index = json.loads((folder / SHARD_INDEX).read_text("utf-8"))
        shards = sorted(set(index["weight_map"].values()))
        missing = [shard for shard in shards if not (folder / shard).is_file()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"{SHARD_INDEX} cannot be read"
    if not missing:
        return ""
    return f"of the {len(shards)} files named in {SHARD_INDEX}, {len(missing)} are missing: {', '.join(missing)}"


def _describe(name: str, folder: Path, alias: str = "") -> FoundModel | None:
    """One line of the list, or None for what is no model or no business of ours."""
    state = _examine(folder)
    if state is None or not (_is_llava(folder) or _mentions_joycaption(name, alias, *_files(folder))):
        return None
    kind, note = state
    return FoundModel(name=name, path=folder, bytes=_bytes_in(folder), kind=kind, note=note)


def _is_llava(folder: Path) -> bool:
    try:
        config: Any = json.loads((folder / CONFIG).read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") == "llava"


def _mentions_joycaption(*names: str) -> bool:
    return any("joycaption" in re.sub(r"[-_ ]", "", name).lower() for name in names)


def _folders_below(root: Path) -> Iterator[Path]:
    """A folder, its subfolders and theirs, where models may lie; nothing inside of one that holds a usable model."""
    yield root
    for folder in () if _is_usable(root) else _subfolders(root):
        yield folder
        yield from () if _is_usable(folder) else _subfolders(folder)


def _name_in(root: Path, folder: Path) -> str:
    """The name by which ``find_model`` gets a folder, when ``root`` is searched."""
    parts = folder.relative_to(root).parts or (root.name,)
    name = "/".join(parts).replace("--", "/", 1)
    known = (short for short, model in KNOWN_MODELS.items() if name in (model.repo, *_short_names(model.repo)))
    return next(known, name if "/" not in name or hub_model(name) else str(folder))


def _short_names(repo: str) -> list[str]:
    """Of known models only: "name" of an unknown "org/name" may as well be the model of another org."""
    known = (short for short, model in KNOWN_MODELS.items() if model.repo == repo)
    return [name for short in known for name in (short, repo.split("/")[1])]


def _files(folder: Path) -> frozenset[str]:
    """Names of the files in a folder; none when it is missing or may not be read."""
    return frozenset(entry.name for entry in _entries(folder) if _is_file(entry))


def _suffixes(files: Iterable[str]) -> set[str]:
    return {Path(file).suffix.lower() for file in files}


def _subfolders(folder: Path) -> list[Path]:
    return [entry for entry in _entries(folder) if _is_folder(entry) and not entry.name.startswith(".")]


def _bytes_in(folder: Path) -> int:
    return sum(entry.stat().st_size for entry in _entries(folder) if _is_file(entry))


# Not pathlib's tests: they raise where a file may not be looked at, and one such file would hide all models.
def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # missing, or not allowed to look
        return []
