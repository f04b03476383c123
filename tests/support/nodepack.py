"""The node pack, loaded as ComfyUI loads it, beside the small stand-in for ComfyUI in the folder ``standin``.

The pack brings its own copy of the library, so what comes out of it is compared by value with what ``joycaption`` says.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

__all__ = ["NAME", "ROOT", "STANDIN", "Host", "Pack", "forget", "image_of"]

ROOT = Path(__file__).parents[2]
STANDIN = Path(__file__).parent / "standin"
NAME = "/custom_nodes/joycaption"  # ComfyUI names a pack's module after its folder


class Host:
    """The stand-in as a user sees it. ``STANDIN`` must be on ``sys.path``."""

    def __init__(self, base: Path) -> None:
        self.management: Any = import_module("comfy.model_management")
        self.utils: Any = import_module("comfy.utils")
        self.folders: Any = import_module("folder_paths")
        self.cli: Any = import_module("comfy.cli_args")
        self.folders.start_in(base)
        self.input, self.models = Path(self.folders.get_input_directory()), Path(self.folders.models_dir)

    @property
    def Interrupted(self) -> type[BaseException]:
        return self.management.InterruptProcessingException

    @property
    def bars(self) -> list[list[int]]:
        """The values that each progress bar went through."""
        return [bar.values for bar in self.utils.bars]

    def at_update(self, number: int, action: Callable[[], object]) -> None:
        """Do something when progress is told for the nth time from now."""
        updates = count(1)
        self.utils.on_update = lambda: action() if next(updates) == number else None

    def press_stop(self) -> None:
        self.management.stop_pressed = True

    def listen(self, address: str) -> None:
        self.cli.args.listen = address


class Pack:
    """The pack and its nodes by id."""

    def __init__(self) -> None:
        spec = spec_from_file_location(NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
        assert spec is not None and spec.loader is not None
        self.root = sys.modules[NAME] = module_from_spec(spec)
        spec.loader.exec_module(self.root)
        self.nodes: dict[str, Any] = {node.define_schema().node_id: node for node in asyncio.run(self._node_list())}

    async def _node_list(self) -> Sequence[Any]:
        extension = await self.root.comfy_entrypoint()
        await extension.on_load()
        return await extension.get_node_list()

    def module(self, name: str) -> ModuleType:
        return import_module(f"{NAME}.{name}")

    @property
    def NodeError(self) -> type[Exception]:
        return self.module("nodes.explain").NodeError

    def inputs(self, node_id: str) -> dict[str, Any]:
        """What the node declares, by id."""
        return {one.id: one for one in self.nodes[node_id].define_schema().inputs}

    def run(self, node_id: str, **given: Any) -> Any:
        """Execute a node as a graph does. Widgets that are not given have their default."""
        node = self.nodes[node_id]
        schema = node.define_schema()
        inputs = _with_defaults(schema.inputs, given)
        if schema.is_input_list:
            inputs = {id: _as_list(value) for id, value in inputs.items()}
        with torch.inference_mode():  # as ComfyUI runs every node
            return node.execute(**inputs)


def image_of(*pictures: Image.Image) -> Tensor:
    """ComfyUI's IMAGE of pictures of one size and mode: float32 [B, H, W, C] from 0 to 1."""
    arrays = np.stack([np.asarray(picture, np.float32) / 255 for picture in pictures])
    return torch.from_numpy(arrays if arrays.ndim == 4 else arrays[..., None])


def _with_defaults(declared: Sequence[Any], given: Mapping[str, Any]) -> dict[str, Any]:
    assert given.keys() <= {one.id for one in declared}
    return {one.id: _value(one, given) for one in declared if one.id in given or not one.optional}


def _value(declared: Any, given: Mapping[str, Any]) -> Any:
    options = getattr(declared, "options", [])
    if declared.id in given:
        return given[declared.id]
    return options[0] if options and declared.default is None else declared.default


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def forget() -> None:
    """Remove the pack and the stand-in, so that the next test has new ones."""
    tops = {NAME, *(path.stem for path in STANDIN.iterdir())}
    for name in [name for name in sys.modules if name.partition(".")[0] in tops]:
        del sys.modules[name]
