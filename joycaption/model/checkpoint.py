"""Weights, straight from safetensors files into a model on its device.

Three key layouts are in use, after the version of transformers that wrote the file. All are brought to this project's
own names first; then every name must be expected and every expected name must be there, with its shape, before the
first weight is read. Weights go one tensor at a time from the mapped file to the device, so no second copy is held.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..errors import Cancelled, CheckpointError, OutOfMemory
from .config import ModelConfig
from .llava import Llava

__all__ = ["expected_tensors", "load_weights", "parameter_count", "published_tensors", "weight_files"]

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"

# From the names of any layout to this project's own, applied in order.
_RENAMES = (
    (r"^model\.", ""),
    (r"^language_model\.model\.", "language_model."),
    (r"^language_model\.lm_head\.", "lm_head."),
    (r"^vision_tower\.vision_model\.", "vision_tower."),
    (r"^vision_tower\.(embeddings|encoder)\.", "vision_tower."),
)
# Parts of the published vision tower that never influence a caption, and buffers that old versions saved.
_UNUSED = re.compile(
    r"^vision_tower\.(post_layernorm|head)\.|^vision_tower\.layers\.(?P<layer>\d+)\.|\.rotary_emb\.inv_freq$|position_ids$"
)
_FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}
_DTYPES = ("F32", "F16", "BF16")
_NAMES_SHOWN = 6


@dataclass(frozen=True, slots=True)
class Place:
    """Where one tensor of the file goes: the whole of a parameter, or these rows of a fused one."""

    parameter: str
    start: int
    shape: tuple[int, ...]

    def within(self, parameter: Tensor) -> Tensor:
        """The view of ``parameter`` that this tensor fills."""
        return parameter[self.start : self.start + self.shape[0]]


def expected_tensors(config: ModelConfig) -> dict[str, Place]:
    """Every tensor that a checkpoint must hold, by its name with q, k, v, gate and up apart, and where it goes."""
    with torch.device("meta"):
        parameters = dict(Llava(config).named_parameters())
    places: dict[str, Place] = {}
    for name, parameter in parameters.items():
        start = 0
        for part, rows in _parts(name, parameter.shape[0], config):
            places[part] = Place(name, start, (rows, *parameter.shape[1:]))
            start += rows
    return places


def _parts(name: str, rows: int, config: ModelConfig) -> list[tuple[str, int]]:
    """A parameter's tensors in the file and how many rows each has."""
    fused = next((module for module in _FUSED if f".{module}." in name), None)
    if fused is None:
        return [(name, rows)]
    names = [name.replace(fused, part) for part in _FUSED[fused]]
    if fused == "qkv_proj" and name.startswith("language_model."):
        text = config.text
        heads = (text.num_attention_heads, text.num_key_value_heads, text.num_key_value_heads)
        return [(part, count * text.head_dim) for part, count in zip(names, heads, strict=True)]
    return [(part, rows // len(names)) for part in names]


def own_name(key: str) -> str:
    """A key of any layout under this project's name for it."""
    for pattern, replacement in _RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def published_name(name: str) -> str:
    """The inverse of `own_name` for the published layout."""
    if name.startswith("lm_head."):
        return f"language_model.{name}"
    part, _, rest = name.partition(".")
    if part == "language_model":
        return f"language_model.model.{rest}"
    if part == "vision_tower":
        inner = "encoder" if rest.startswith("layers.") else "embeddings"
        return f"vision_tower.vision_model.{inner}.{rest}"
    return name


def published_tensors(model: Llava) -> dict[str, Tensor]:
    """The model's weights under the published names, fused ones taken apart again."""
    parameters = dict(model.named_parameters())
    places = expected_tensors(model.config)
    return {
        published_name(name): place.within(parameters[place.parameter]).detach().clone()
        for name, place in places.items()
    }


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a model folder, one or sharded.

    Raises:
        CheckpointError: there are none, or the index names files that are not there.
    """
    if (folder / SINGLE_FILE).is_file():  # first, as in transformers
        return [folder / SINGLE_FILE]
    index = folder / INDEX_FILE
    if not index.is_file():
        raise CheckpointError(
            f"{folder} holds neither {SINGLE_FILE} nor {INDEX_FILE}. Only safetensors weights are read."
        )
    files = [folder / name for name in _shard_names(index)]
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        raise CheckpointError(f"{folder} lacks {_listed(absent)}, named in {INDEX_FILE}. Download the model again.")
    return files


def _shard_names(index: Path) -> list[str]:
    try:
        names = {Path(name).name for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{index} cannot be read ({error!r}). Download the model again.") from error
    if not names:
        raise CheckpointError(f"{index} names no files. Download the model again.")
    return sorted(names)


def load_weights(
    folder: Path,
    config: ModelConfig,
    *,
    device: torch.device,
    dtype: torch.dtype,
    ops: Any = nn,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Llava:
    """Build the model and fill it from the folder's safetensors.

    Args:
        progress: called with (bytes loaded, bytes in all), in the files' own precision.
        should_stop: asked before each tensor.

    Returns:
        The model in evaluation mode, without gradients, every weight in ``dtype`` on ``device``.

    Raises:
        CheckpointError: a damaged file; missing, unexpected or duplicate keys; wrong shapes or number formats.
        OutOfMemory: the device cannot hold the weights.
        Cancelled: ``should_stop`` said so.
    """
    places = expected_tensors(config)
    files = weight_files(folder)
    total = _check(files, places, config)
    with torch.device("meta"):
        model = Llava(config, ops)
    state = _allocate(model, device, dtype)
    done = 0
    for name, tensor in _tensors(files, places):
        if should_stop is not None and should_stop():
            raise Cancelled("Loading the model was cancelled.")
        place = places[name]
        place.within(state[place.parameter]).copy_(tensor)
        done += tensor.nbytes
        if progress is not None:
            progress(done, total)
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(False).eval()


def _allocate(model: nn.Module, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Memory for every parameter, before anything is read, so that a device that is too small says so at once."""
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    try:
        return {name: torch.empty(shape, dtype=dtype, device=device) for name, shape in shapes.items()}
    except RuntimeError as error:  # torch.OutOfMemoryError on a GPU, a bare RuntimeError on a CPU
        needed = sum(shape.numel() for shape in shapes.values()) * dtype.itemsize
        raise OutOfMemory(
            f"The model's weights take {needed / 1e9:.1f} GB in {str(dtype).removeprefix('torch.')}, more than "
            f"{device} has free. Free some, or take a precision of 16 bits or another device."
        ) from error


def _tensors(files: list[Path], places: dict[str, Place]) -> Iterator[tuple[str, Tensor]]:
    for file in files:
        try:
            with safe_open(file, framework="pt") as handle:
                for key in handle.keys():  # noqa: SIM118 (the handle is no mapping)
                    if own_name(key) in places:
                        yield own_name(key), handle.get_tensor(key)
        except (SafetensorError, OSError) as error:  # a drive that went away
            raise CheckpointError(f"{file} could not be read to its end ({error}). Try again.") from error


def _check(files: list[Path], places: dict[str, Place], config: ModelConfig) -> int:
    """Compare the files' headers with what is expected; how many bytes of weights will be read."""
    found: dict[str, str] = {}
    unexpected, wrong, total = [], [], 0
    for file in files:
        for key, shape, form in _header(file):
            name = own_name(key)
            if name not in places:
                unexpected += [] if _unused(name, config) else [key]
                continue
            if name in found:
                raise CheckpointError(f"{file} gives {key} again, after {found[name]}. Download the model again.")
            found[name] = key
            if shape != places[name].shape:
                wrong.append(f"{key} is {list(shape)} instead of {list(places[name].shape)}")
            if form not in _DTYPES:
                raise CheckpointError(f"{file} keeps {key} as {form}; only {', '.join(_DTYPES)} weights can be read.")
            total += torch.Size(shape).numel() * (4 if form == "F32" else 2)
    missing = [published_name(name) for name in places if name not in found]
    problems = [
        f"{title}: {_listed(names)}"
        for title, names in (("missing", missing), ("unexpected", unexpected), ("wrong shape", wrong))
        if names
    ]
    if problems:
        raise CheckpointError(f"The weights in {files[0].parent} do not fit their config.json. {'. '.join(problems)}.")
    return total


def _header(file: Path) -> list[tuple[str, tuple[int, ...], str]]:
    """Name, shape and number format of each tensor, without reading weights."""
    try:
        with safe_open(file, framework="pt") as handle:
            slices = ((key, handle.get_slice(key)) for key in handle.keys())  # noqa: SIM118
            return [(key, tuple(part.get_shape()), part.get_dtype()) for key, part in slices]
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is damaged or cut short ({error}). Download the model again.") from error


def _unused(name: str, config: ModelConfig) -> bool:
    match = _UNUSED.search(name)
    layers_not_run = range(config.vision_layers, config.vision.num_hidden_layers)
    return match is not None and (match["layer"] is None or int(match["layer"]) in layers_not_run)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def parameter_count(config: ModelConfig) -> int:
    """How many weights run: 8.4 billion for Beta One."""
    return sum(torch.Size(place.shape).numel() for place in expected_tensors(config).values())
