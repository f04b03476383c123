"""What a pack of nodes is, and what it declares itself with."""

from __future__ import annotations

from . import io, ui

__all__ = ["ComfyExtension", "io", "ui"]


class ComfyExtension:
    async def on_load(self) -> None:
        """Called once, before the nodes are asked for."""
