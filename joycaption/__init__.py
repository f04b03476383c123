"""Caption pictures with JoyCaption.

>>> import joycaption
>>> model = joycaption.load("demo")
>>> print(model.caption("picture.png").text)

Importing this package is cheap: torch and the model code come with `load`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import (
    Cancelled,
    CheckpointError,
    DatasetError,
    DownloadError,
    ImageError,
    JoyCaptionError,
    ModelError,
    ModelNotFound,
    OutOfMemory,
    PromptError,
    UsageError,
)
from .types import Candidate, Caption, FinishReason, ImageInput, Request, Sampling, derive_seed

if TYPE_CHECKING:
    from .api import CaptionModel, load
    from .prompts import build_prompt

__version__ = "0.1.0"

__all__ = [
    "Cancelled",
    "Candidate",
    "Caption",
    "CaptionModel",
    "CheckpointError",
    "DatasetError",
    "DownloadError",
    "FinishReason",
    "ImageError",
    "ImageInput",
    "JoyCaptionError",
    "ModelError",
    "ModelNotFound",
    "OutOfMemory",
    "PromptError",
    "Request",
    "Sampling",
    "UsageError",
    "__version__",
    "build_prompt",
    "derive_seed",
    "load",
]

_LAZY = {"CaptionModel": ".api", "load": ".api", "build_prompt": ".prompts"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
