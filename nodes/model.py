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

__all__ = ["DOWNLOAD_NOTE", "Model", "check_choice", "choices", "files_state", "shared_model"]

DOWNLOAD_NOTE = " (17 GB download)"
_BETA_ONE = "beta-one"
_DOWNLOAD = _BETA_ONE + DOWNLOAD_NOTE


class Model:
    """A model, by its label in the list, and a precision. Cheap to make; `ready` does the work.

    Attributes:
        patcher: the weights under ComfyUI's memory management, once there are any. ComfyUI looks for this name.
    """

    def __init__(self, label: str, precision: str) -> None:
        self.label, self.precision = label, precision
        self.patcher: Any = None
        self._captioner: JoyCaption | None = None
        self._files: object = None

    def ready(self, max_tokens: int, captions: int | None = None) -> JoyCaption:
        """The captioner, its weights on the device, and room for the captions.

        Args:
            max_tokens: the longest caption.
            captions: how many there will be, where that is known.

        Raises:
            ModelError, UsageError: it cannot be found, downloaded or loaded.
        """
        captioner = self._opened()
        captioner.batch_size = captioner.slots_within(host.capacity(), max_tokens)
        host.make_room(self.patcher, captioner.working_bytes(max_tokens, captions))
        return captioner

    def _opened(self) -> JoyCaption:
        from ..joycaption.captioners.joycaption import JoyCaption
        from ..joycaption.model.locate import check_folder

        folder = _folder_of(self.label) or _downloaded()
        check_folder(folder)
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
    _folder_of(choice)
    key = choice.removesuffix(DOWNLOAD_NOTE), precision
    return _models.setdefault(key, Model(choice, precision))


def check_choice(choice: str) -> None:
    """Make sure that a choice can be used.

    Raises:
        ModelNotFound: it is not in the list.
        CheckpointError: what is there is broken or of a kind that is not supported.
    """
    from ..joycaption.model.locate import check_folder

    if folder := _folder_of(choice):
        check_folder(folder)


def files_state(choice: str) -> object:
    """What changes when a model's files change.

    The choice that downloads has nothing to compare: were it another before and after, ComfyUI would drop the model
    that the download brought, and load it again.

    Raises:
        ModelNotFound: it is not in the list.
    """
    folder = None if choice == _DOWNLOAD else _folder_of(choice)
    return folder and _state(folder)


def choices() -> list[str]:
    """The models to choose from: the demo, what is on this machine, and what can be downloaded."""
    try:
        labels = list(_on_this_machine())
    except ImportError:  # a library is missing: the node shall appear all the same, and say so when it runs
        labels = ["demo"]
    return labels if _BETA_ONE in labels else [*labels, _DOWNLOAD]


def _folder_of(choice: str) -> Path | None:
    """Where a listed model lies; None: it is to be downloaded.

    A graph may ask for no other: neither for any folder of this machine nor for any download.

    Raises:
        ModelNotFound: it is not in the list.
    """
    label = choice.removesuffix(DOWNLOAD_NOTE)
    folder = _on_this_machine().get(label) or _on_this_machine(seconds=0).get(label)  # it may have just come
    if folder is None and choice != _DOWNLOAD:
        hint = f'; choose "{_DOWNLOAD}" to fetch it' if choice == _BETA_ONE else ""
        raise ModelNotFound(f'the model "{choice}" is not on this machine{hint}.')
    return folder


def _downloaded() -> Path:
    from ..joycaption.model.download import download_model
    from ..joycaption.model.locate import KNOWN_MODELS

    progress = host.Progress()
    return download_model(
        KNOWN_MODELS[_BETA_ONE],
        progress=lambda done, total, _: progress.set(done, total),
        should_stop=host.interrupted,
    )


def _state(folder: Path) -> list[tuple[str, int, int]]:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]


_listed: tuple[float, dict[str, Path]] = (float("-inf"), {})


def _on_this_machine(seconds: float = 5.0) -> dict[str, Path]:
    """Where each listed model lies. Broken ones are listed too, because choosing one says why.

    Args:
        seconds: how long an answer holds; ComfyUI asks several times for each run.
    """
    from ..joycaption.model.locate import list_models

    global _listed
    if time.monotonic() - _listed[0] >= seconds:
        labels: dict[str, Path] = {}
        for model in list_models(host.model_folders()):
            # A Beta One that is not complete is no model yet: it can be downloaded.
            if model.name != _BETA_ONE or model.kind == "safetensors":
                labels[str(model.path) if model.name in labels else model.name] = model.path
        _listed = time.monotonic(), labels
    return _listed[1]
