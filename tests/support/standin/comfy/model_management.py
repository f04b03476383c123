"""The stop button, the device, and which models are on it."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch

from .model_patcher import ModelPatcher

stop_pressed = False
total_memory = 8 * 2**30


def get_total_memory(device: torch.device) -> int:
    return total_memory


def minimum_inference_memory() -> float:
    return 2.0**30


rooms: list[int] = []  # bytes that each load was asked to leave free
_loaded: list[weakref.ref[ModelPatcher]] = []  # weak: whoever uses a model keeps it


class InterruptProcessingException(BaseException):
    """The user pressed stop. No error, so nothing that catches errors may catch it."""


def throw_exception_if_processing_interrupted() -> None:
    """Raises once for each press."""
    global stop_pressed
    if stop_pressed:
        stop_pressed = False
        raise InterruptProcessingException


def get_torch_device() -> torch.device:
    return torch.device("cpu")


def loaded_models() -> list[ModelPatcher]:
    return [patcher for reference in _loaded if (patcher := reference()) is not None]


def load_models_gpu(models: Sequence[ModelPatcher], memory_required: int = 0, force_full_load: bool = False) -> None:
    if not force_full_load:
        raise NotImplementedError("modules that are not made of comfy.ops cannot be loaded in part")
    rooms.append(memory_required)
    for patcher in models:
        if patcher in loaded_models():  # it only moves to the front
            patcher.detach(unpatch_all=False)
        patcher.load()
        _loaded[:] = [weakref.ref(patcher), *(weakref.ref(other) for other in loaded_models() if other is not patcher)]


def unload_all_models() -> None:
    """The button "Unload models"."""
    for patcher in loaded_models():
        patcher.detach()
    _loaded.clear()
