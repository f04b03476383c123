"""The nodes. Thin: they read sockets, call the library, and return sockets."""

from __future__ import annotations

import logging

from comfy_api.latest import ComfyExtension, io

from . import host
from .caption import JoyCaptionCaption
from .folder import JoyCaptionFolder
from .load import JoyCaptionLoad
from .options import JoyCaptionOptions

__all__ = ["NODES", "OLDEST_COMFYUI", "JoyCaptionExtension"]

NODES: list[type[io.ComfyNode]] = [JoyCaptionLoad, JoyCaptionOptions, JoyCaptionCaption, JoyCaptionFolder]

OLDEST_COMFYUI = (0, 14, 0)  # the first whose schemas let a seed be fixed by default; the other features are older


class JoyCaptionExtension(ComfyExtension):
    async def on_load(self) -> None:
        host.register_model_folder()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        version = host.comfyui_version()
        if version >= OLDEST_COMFYUI:
            return NODES
        needed, found = (".".join(map(str, numbers)) for numbers in (OLDEST_COMFYUI, version))
        logging.warning("JoyCaption needs ComfyUI %s or later, and this is %s: update ComfyUI.", needed, found)
        return []
