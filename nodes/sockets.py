"""What travels between our nodes, and what comes in from others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from comfy_api.latest import io

from ..joycaption.errors import UsageError
from ..joycaption.prompts import build_prompt

__all__ = ["ModelSocket", "Options", "OptionsSocket", "along", "check_lists", "pictures_of"]

ModelSocket = io.Custom("JOYCAPTION_MODEL")
OptionsSocket = io.Custom("JOYCAPTION_OPTIONS")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """What the options node says; as for `joycaption.build_prompt`."""

    type: str = "descriptive"
    length: str = "any"
    tone: str | None = None
    name: str | None = None
    extras: tuple[str, ...] = ()

    def prompt(self, custom: str = "") -> str:
        """The exact instruction. A custom one takes the place of type, length and tone; name and extras follow it.

        Raises:
            PromptError: an unknown type, length or extra option.
        """
        return build_prompt(
            self.type,
            self.length,
            extras=self.extras,
            name=self.name,
            tone=self.tone,
            instruction=custom if custom.strip() else None,
        )


def pictures_of(images: Sequence[Any]) -> list[Any]:
    """The pictures [H, W, C] in a list of IMAGE tensors [B, H, W, C], which may differ in size. Nothing is copied.

    Raises:
        UsageError: an empty list, or something that is no IMAGE.
    """
    pictures: list[Any] = []
    for image in images:
        shape = list(getattr(image, "shape", ()))
        if len(shape) == 3 and shape[-1] > 4:
            raise UsageError(f"it holds a mask {shape}; put a Convert Mask to Image node between them.")
        if len(shape) != 4:
            what = f"{type(image).__name__} {shape}" if shape else type(image).__name__
            raise UsageError(f"it holds a {what} instead of pictures [B, H, W, C].")
        pictures += list(image)
    if not pictures:
        raise UsageError("the list is empty, so there is nothing to caption; connect pictures, or mute this node.")
    return pictures


def check_lists(**inputs: Sequence[object]) -> None:
    """Make sure that no input, by its name, is an empty list.

    Raises:
        UsageError: one is.
    """
    for name, values in inputs.items():
        if not values:
            raise UsageError(f"input {name}: the list is empty.")


def along(values: Sequence[T], position: int) -> T:
    """The value that goes with a picture when an input is a list: they run side by side, and the last one repeats."""
    return values[min(position, len(values) - 1)]
