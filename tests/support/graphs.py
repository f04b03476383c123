"""Graphs in ComfyUI's API format, made of our nodes and of core's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from joycaption.prompts import BETA_ONE

__all__ = ["Graph", "caption", "drawn", "folder", "joined", "listed", "load", "node", "options", "picture", "single"]

Graph: TypeAlias = dict[str, dict[str, Any]]
SAMPLED = {
"sampling": "sampled", "temperature": 0.6, "top_p": 0.9, "top_k": 0, "min_p": 0.0
}  # fmt: skip


def node(type: str, /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": type, "inputs": inputs}


def load(model: str = "demo", precision: str = "auto") -> dict[str, Any]:
    return node("JoyCaptionLoad", model=model, precision=precision)


def options(**chosen: Any) -> dict[str, Any]:
    nothing = {"type": "Descriptive", "length": "any", "tone": "", "name": "", **dict.fromkeys(BETA_ONE.extras, False)}
    return node("JoyCaptionOptions", **{**nothing, **chosen})


def _writing(**chosen: Any) -> dict[str, Any]:
    texts = {"custom_prompt": "", "begin_with": "", "system_prompt": ""}
    return {**texts, **SAMPLED, "sampling": "greedy", "seed": 0, "max_tokens": 200, **chosen}


def caption(image: str, model: str = "model", **chosen: Any) -> dict[str, Any]:
    """A caption node whose picture and model come from the nodes of these ids."""
    return node("JoyCaptionCaption", model=[model, 0], image=[image, 0], **_writing(**chosen))


def folder(path: object, model: str = "model", **chosen: Any) -> dict[str, Any]:
    rest = {"recursive": False, "format": "txt", "existing": "skip"}
    return node("JoyCaptionFolder", model=[model, 0], folder=str(path), **{**rest, **_writing(**chosen)})


def picture(name: str) -> dict[str, Any]:
    return node("LoadImage", image=name)


def single(name: str, model: str = "demo", **chosen: Any) -> Graph:
    """One picture of the input folder, captioned by the node "caption"."""
    return {"model": load(model), "picture": picture(name), "caption": caption("picture", **chosen)}


def listed(names: Sequence[str], model: str = "demo", **chosen: Any) -> Graph:
    """Up to a hundred pictures of the input folder as one list, captioned by the node "caption"."""
    graph = {"model": load(model), "caption": caption("list", **chosen)}
    graph |= {f"picture {number}": picture(name) for number, name in enumerate(names)}
    tens = range(0, len(names), 10)
    for start in tens:
        ids = [f"picture {number}" for number in range(start, min(start + 10, len(names)))]
        graph[f"list {start}"] = joined(ids)
    graph["list"] = joined([f"list {start}" for start in tens])
    return graph


def joined(ids: Sequence[str]) -> dict[str, Any]:
    """A list of the pictures of up to ten nodes."""
    return node("CreateList", **{f"inputs.input{number}": [id, 0] for number, id in enumerate(ids)})


def drawn(color: int = 0xFF0000) -> Graph:
    """A square on white, made by core's nodes; the picture is "drawn"."""
    return {
        "white": node("EmptyImage", width=512, height=512, batch_size=1, color=0xFFFFFF),
        "square": node("EmptyImage", width=160, height=160, batch_size=1, color=color),
        "drawn": node(
            "ImageCompositeMasked", destination=["white", 0], source=["square", 0], x=176, y=176, resize_source=False
        ),
    }
