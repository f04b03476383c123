"""A model as the memory manager sees it: it is told to load and to go, and calls back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch

from .patcher_extension import CallbacksMP


class ModelPatcher:
    def __init__(self, model: Any, load_device: torch.device, offload_device: torch.device, size: int = 0) -> None:
        self.model, self.size = model, size
        self.load_device, self.offload_device = load_device, offload_device
        self.is_loaded = False
        self._callbacks: defaultdict[str, list[Callable[..., None]]] = defaultdict(list)

    def add_callback(self, call_type: str, callback: Callable[..., None]) -> None:
        self._callbacks[call_type].append(callback)

    def load(self) -> None:
        self.model.device = self.load_device
        self.is_loaded = True
        for callback in self._callbacks[CallbacksMP.ON_LOAD]:
            callback(self, self.load_device, 0, False, True)

    def detach(self, unpatch_all: bool = True) -> None:
        if unpatch_all:
            self.model.to(self.offload_device)
            self.model.device = self.offload_device
            self.is_loaded = False
        for callback in self._callbacks[CallbacksMP.ON_DETACH]:
            callback(self, unpatch_all)
