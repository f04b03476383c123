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
_LIST_SECONDS = 5.0


class Model:
    """A model and a precision. Cheap to make; `ready` does the work.

    Attributes:
        patcher: the weights under ComfyUI's memory management, once there are any. ComfyUI looks for this name.
    """

    def __init__(self, choice: str, precision: str) -> None:
        self.choice, self.precision = choice, precision
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

        folder = _find(self.choice)
        files = _state(folder)
        if self._captioner is None or files != self._files:  # another file was put in its place
            self._captioner = JoyCaption(folder, precision=self.precision, device=str(host.device()))
            self.patcher, self._files = host.managed(self._captioner), files
        return self._captioner


# Two loaders with the same settings give one model. It lives as long as ComfyUI keeps one of their outputs.
_models: WeakValueDictionary[tuple[str, str], Model] = WeakValueDictionary()


def shared_model(choice: str, precision: str) -> Model:
    return _models.setdefault((choice, precision), Model(choice, precision))


def _find(choice: str) -> Path:
    from ..joycaption.model.download import resolve_model

    name = choice.removesuffix(DOWNLOAD_NOTE)
    progress: host.Progress | None = None

    def on_bytes(done: int, total: int, file: str) -> None:
        nonlocal progress
        progress = progress or host.Progress(total)
        progress.set(done)

    return resolve_model(
        name,
        folders=host.model_folders(),
        allow_download=choice != name,
        progress=on_bytes,
        should_stop=host.interrupted,
    )


def files_state(choice: str) -> object:
    """What changes when a model's files change; None when it is not on this machine.

    Raises:
        CheckpointError: what is there cannot be used.
        ModelNotFound: it is not there, and the choice does not say to download it.
    """
    from ..joycaption.model.locate import find_model

    name = choice.removesuffix(DOWNLOAD_NOTE)
    folder = find_model(name, folders=host.model_folders())
    if folder is None and name == choice:
        hint = f'; choose "{name}{DOWNLOAD_NOTE}" to fetch it' if name == _BETA_ONE else ""
        raise ModelNotFound(f'the model "{name}" is not on this machine{hint}.')
    return folder and _state(folder)


def _state(folder: Path) -> list[tuple[str, int, int]]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]


_listed: tuple[float, list[str]] = (float("-inf"), [])


def choices() -> list[str]:
    """The models to choose from: the demo, what is on this machine, and what can be downloaded.

    ComfyUI asks several times for each run, so the answer holds for a few seconds.
    """
    global _listed
    if time.monotonic() - _listed[0] > _LIST_SECONDS:
        _listed = time.monotonic(), _choices()
    return _listed[1]


def _choices() -> list[str]:
    try:
        from ..joycaption.model.locate import list_models

        found = list_models(host.model_folders())
    except ImportError:  # a library is missing: the node shall appear all the same, and say so when it runs
        return ["demo", _BETA_ONE + DOWNLOAD_NOTE]
    # A broken model is listed too, because choosing it says why; but a begun download is none: it can be completed.
    names = [model.name for model in found if model.name != _BETA_ONE or model.kind == "safetensors"]
    return names if _BETA_ONE in names else [*names, _BETA_ONE + DOWNLOAD_NOTE]
