"""The ComfyUI node pack. ComfyUI imports this file; the library itself is the folder ``joycaption``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import JoyCaptionExtension

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> JoyCaptionExtension:
    """What ComfyUI calls to get the nodes."""
    from .nodes import JoyCaptionExtension

    return JoyCaptionExtension()
