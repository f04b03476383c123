"""The model behind JOYCAPTION_MODEL: found, downloaded and loaded when the first caption needs it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from ..joycaption.errors import ModelNotFound
from . import host

if TYPE_CHECKING:
    from ..joycaption.captioners.joycaption import JoyCaption

__all__ = ["DOWNLOAD_NOTE", "Model", "choices", "files_state", "shared_model"]

DOWNLOAD_NOTE = " (17 GB download)"
_BETA_ONE = "beta-one"
_DOWNLOAD = _BETA_ONE + DOWNLOAD_NOTE


class Model:
    """A model, by name, and a precision. Cheap to make; `ready` does the work.

    Attributes:
        patcher: the weights under ComfyUI's memory management, once there are any. ComfyUI looks for this name.
    """

    def __init__(self, name: str, precision: str) -> None:
        self.name, self.precision = name, precision
        self.patcher: Any = None
        self._captioner: JoyCaption | None = None
        self._files: object = None

    def ready(self, captions: int, max_tokens: int) -> JoyCaption:
        """The captioner, its weights on the device, and room for that many captions (as far as it runs them at once).

        Raises:
            ModelError, UsageError: it cannot be found, downloaded or loaded.
        """
        captioner = self._opened()
        host.make_room(self.patcher, captioner.working_bytes(captions, max_tokens))
        return captioner

    def _opened(self) -> JoyCaption:
        from ..joycaption.captioners.joycaption import JoyCaption

        folder = _found_or_downloaded(self.name)
        files = _state(folder)
        if self._captioner is None or files != self._files:  # another file was put in its place
            self._captioner = JoyCaption(folder, precision=self.precision, device=str(host.device()))
            self.patcher, self._files = host.managed(self._captioner), files
        return self._captioner


# Two loaders with the same settings give one model. It lives as long as ComfyUI keeps one of their outputs.
_models: WeakValueDictionary[tuple[str, str], Model] = WeakValueDictionary()


def shared_model(choice: str, precision: str) -> Model:
    """The model for a choice of the list.

    Raises:
        ModelNotFound: it is not in the list.
    """
    name = _name_of(choice)
    return _models.setdefault((name, precision), Model(name, precision))


def _name_of(choice: str) -> str:
    """The name of a listed model. A graph may ask for no other: neither for any folder of this machine nor for any
    download."""
    if choice in (_DOWNLOAD, *_on_this_machine()) or choice in _on_this_machine(seconds=0):  # it may have just come
        return choice.removesuffix(DOWNLOAD_NOTE)
    hint = f'; choose "{_DOWNLOAD}" to fetch it' if choice == _BETA_ONE else ""
    raise ModelNotFound(f'the model "{choice}" is not on this machine{hint}.')


def _found_or_downloaded(name: str) -> Path:
    from ..joycaption.model.download import resolve_model

    progress = host.Progress()
    return resolve_model(
        name,
        folders=host.model_folders(),
        allow_download=name == _BETA_ONE,  # who chose it knew
        progress=lambda done, total, _: progress.set(done, total),
        should_stop=host.interrupted,
    )


def files_state(choice: str) -> object:
    """What changes when a model's files change; None when it is not on this machine.

    Raises:
        CheckpointError: what is there cannot be used.
        ModelNotFound: it is not in the list.
    """
    from ..joycaption.model.locate import find_model

    folder = find_model(_name_of(choice), folders=host.model_folders())
    return folder and _state(folder)


def _state(folder: Path) -> list[tuple[str, int, int]]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def choices() -> list[str]:
    """The models to choose from: the demo, what is on this machine, and what can be downloaded."""
    try:
        names = _on_this_machine()
    except ImportError:  # a library is missing: the node shall appear all the same, and say so when it runs
        names = ["demo"]
    return names if _BETA_ONE in names else [*names, _DOWNLOAD]


_listed: tuple[float, list[str]] = (float("-inf"), [])


def _on_this_machine(seconds: float = 5.0) -> list[str]:
    """Names of models, broken ones too, because choosing one says why. But a begun download is none: it can go on.

    Args:
        seconds: how long an answer holds; ComfyUI asks several times for each run.
    """
    from ..joycaption.model.locate import list_models

    global _listed
    if time.monotonic() - _listed[0] >= seconds:
        found = list_models(host.model_folders())
        names = [model.name for model in found if model.name != _BETA_ONE or model.kind == "safetensors"]
        _listed = time.monotonic(), names
    return _listed[1]
