"""All that the nodes ask of ComfyUI's internals: device, memory, interrupt, progress, folders.

The only file that imports ``comfy``, ``folder_paths`` or ``comfyui_version``: when ComfyUI changes, this changes.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy.cli_args import args
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import CallbacksMP
from comfyui_version import __version__

from ..joycaption.errors import UsageError

if TYPE_CHECKING:  # it needs libraries, and the nodes shall appear without them too
    from ..joycaption.captioners.joycaption import JoyCaption

__all__ = [
    "CaptionProgress",
    "Progress",
    "capacity",
    "check_dataset_folder",
    "comfyui_version",
    "device",
    "input_folder",
    "interrupted",
    "make_room",
    "managed",
    "model_folders",
    "permission",
    "register_model_folder",
]

MODELS = "joycaption"  # our kind of model folder in extra_model_paths.yaml, and below ``models``
# Where the packs that people have today keep this model; read, never written.
OTHER_MODELS = ("LLavacheckpoints", "LLM", "VLM")


def comfyui_version() -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", __version__)[:3]))


# --- interrupt and progress ---


def interrupted() -> Literal[False]:
    """For every ``should_stop`` of the library: False, or ComfyUI's own exception that ends the graph.

    Raises:
        InterruptProcessingException: the user pressed stop. A BaseException, which the library lets through.
    """
    comfy.model_management.throw_exception_if_processing_interrupted()
    return False


class Progress:
    """The bar on the node that is running."""

    def __init__(self) -> None:
        self._bar = comfy.utils.ProgressBar(1)

    def set(self, done: int, total: int) -> None:
        self._bar.update_absolute(done, total)


class CaptionProgress(Progress):
    """A bar that moves with every decode step and never back: each caption is worth its longest possible length."""

    def __init__(self, captions: int, max_tokens: int) -> None:
        super().__init__()
        self._captions, self._max_tokens = captions, max_tokens
        self._done = self._steps = 0

    def step(self) -> Literal[False]:
        """A decode step: for ``should_stop``."""
        if self._done < self._captions:
            self._steps = min(self._steps + 1, self._max_tokens - 1)
            self._show()
        return interrupted()

    def captioned(self) -> None:
        self._done, self._steps = self._done + 1, 0
        self._show()

    def _show(self) -> None:
        self.set(self._done * self._max_tokens + self._steps, self._captions * self._max_tokens)


# --- memory ---


def device() -> torch.device:
    return comfy.model_management.get_torch_device()


def capacity() -> int:
    """Bytes of the device that models may use. Not what is free at the moment: the same graph shall run alike twice."""
    management = comfy.model_management
    total = management.get_total_memory(device())
    if device().type == "cpu":
        return int(total * 3 / 4)  # the rest is for other programs
    return int(total - management.minimum_inference_memory())


class JoyCaptionWeights(torch.nn.Module):
    """What ComfyUI's memory manager sees of a captioner: one block, on the GPU or gone.

    The weights hang on the captioner, not on this module, so ComfyUI never moves a part of them. Unloading drops them
    instead of moving them to RAM: there the system keeps their file cached as long as nothing else needs the room.
    """

    def __init__(self, captioner: JoyCaption) -> None:
        super().__init__()
        self.captioner = captioner
        self.device = torch.device("cpu")

    def on_load(self, patcher: ModelPatcher, *_: object) -> None:
        """Room has been made: read the weights onto the device, unless they are there."""
        progress = Progress()
        try:
            with torch.inference_mode(False):  # ComfyUI's is on, and would mark the weights for good
                self.captioner.load(lambda _, done, total: progress.set(done, total), interrupted)
        except BaseException:
            patcher.detach()  # after an interrupt, ComfyUI would go on believing that they are loaded
            raise
        self.model_loaded_weight_memory = self.captioner.weight_bytes  # with --novram ComfyUI takes it for 0

    def on_detach(self, patcher: ModelPatcher, unpatch_all: bool) -> None:
        if unpatch_all:  # else the patcher only changes its place in ComfyUI's list
            self.captioner.close()


def managed(captioner: JoyCaption) -> ModelPatcher:
    """A captioner under ComfyUI's memory management, its weights not loaded yet. Whoever uses it must keep it."""
    holder = JoyCaptionWeights(captioner)
    patcher = ModelPatcher(holder, load_device=device(), offload_device=holder.device, size=captioner.weight_bytes)
    patcher.add_callback(CallbacksMP.ON_LOAD, holder.on_load)
    patcher.add_callback(CallbacksMP.ON_DETACH, holder.on_detach)
    return patcher


def make_room(patcher: ModelPatcher, working_bytes: int) -> None:
    """Have the weights on the device and so much memory free beside them; other models give way as ComfyUI decides."""
    comfy.model_management.load_models_gpu([patcher], memory_required=working_bytes, force_full_load=True)


# --- folders ---


def register_model_folder() -> None:
    folder_paths.add_model_folder_path(MODELS, str(Path(folder_paths.models_dir) / MODELS))


def model_folders() -> list[Path]:
    """Where ComfyUI users keep captioning models, those of extra_model_paths.yaml included."""
    known = folder_paths.folder_names_and_paths
    registered = [path for name in (MODELS, *OTHER_MODELS) if name in known for path in known[name][0]]
    usual = [str(Path(folder_paths.models_dir) / name) for name in OTHER_MODELS]
    return [Path(path) for path in dict.fromkeys([*registered, *usual])]


def input_folder() -> Path:
    return Path(folder_paths.get_input_directory())


def check_dataset_folder(text: str) -> Path:
    """The folder that a graph names; a relative one lies below ComfyUI's input folder.

    Raises:
        UsageError: blank, no folder, or outside of what a graph may touch.
    """
    path = text.strip().strip('"').strip()  # Windows copies paths with quotes
    if not path:
        raise UsageError("it is blank; name a folder of pictures, absolute or below ComfyUI's input folder.")
    try:
        folder = input_folder() / Path(path).expanduser()
        allowed = permission()(folder)
        exists = allowed and folder.is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # too long, no such user's home, a null byte
        raise UsageError(f"{path[:80]!r} is no path of a folder ({error}).") from error
    if not allowed:  # and nothing is said of what is there
        line = json.dumps(str(folder), ensure_ascii=False)  # quoted as YAML has it
        raise UsageError(
            f"{folder} is outside ComfyUI's folders, and this server is reachable from other machines, so a graph may"
            " not touch it. To allow it, add this to extra_model_paths.yaml (its second line alone, where there is a"
            f" joycaption section already) and start ComfyUI again:\njoycaption:\n    datasets: {line}"
        )
    if not exists:
        raise UsageError(f"{folder} is a file." if folder.is_file() else f"there is no folder {folder}.")
    return folder


def permission() -> Callable[[Path], bool]:
    """Whether a graph may touch a file or folder, wherever its ``..`` and links lead; to be asked of many files."""
    if _only_this_machine():
        return lambda path: True
    roots = {os.path.realpath(root) for root in _own_folders()}  # once: each takes a look at the disk

    def allowed(path: Path) -> bool:
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(root) for root in roots)

    return allowed


def _own_folders() -> Iterator[str]:
    yield folder_paths.get_input_directory()
    yield folder_paths.get_output_directory()
    yield folder_paths.get_temp_directory()
    for entry in folder_paths.folder_names_and_paths.values():  # (paths, suffixes), and more from some packs
        yield from entry[0]


def _only_this_machine() -> bool:
    return all(_is_loopback(address.strip()) for address in args.listen.split(","))


def _is_loopback(address: str) -> bool:
    try:
        return address == "localhost" or ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
