"""Everything this library raises on purpose.

    JoyCaptionError
    ├── UsageError            a wrong argument or option; also a ValueError
    │   └── PromptError       an unknown caption type, length or option
    ├── ImageError            a picture that cannot be read
    ├── ModelError            a model that cannot be found or used
    │   ├── ModelNotFound     no such model on this machine, and none could be downloaded
    │   ├── DownloadError     a download that failed, or does not match its checksum
    │   ├── CheckpointError   a model folder that is broken, incomplete or not supported
    │   └── OutOfMemory       the device cannot hold the model or its KV cache
    ├── DatasetError          a folder or file that cannot be scanned, read or written
    └── Cancelled             the caller asked to stop (during download or load)

Each message is one or two sentences for the person at the keyboard: what was wrong, and what to do.
"""

from __future__ import annotations

__all__ = [
    "Cancelled",
    "CheckpointError",
    "DatasetError",
    "DownloadError",
    "ImageError",
    "JoyCaptionError",
    "ModelError",
    "ModelNotFound",
    "OutOfMemory",
    "PromptError",
    "UsageError",
]


class JoyCaptionError(Exception):
    """Base of all errors that this library raises on purpose."""


class UsageError(JoyCaptionError, ValueError):
    """A wrong argument or option. The message names what is allowed."""


class PromptError(UsageError):
    """An unknown caption type, length, extra option or tone. The message lists what is allowed."""


class ImageError(JoyCaptionError):
    """A picture that cannot be read: missing, truncated, hostile, too large or of no known format."""


class ModelError(JoyCaptionError):
    """A model that cannot be found, loaded or used."""


class ModelNotFound(ModelError):
    """No such model on this machine and no way to download it. The message lists where it was looked for."""


class DownloadError(ModelError):
    """A download that failed, has no room on the disk, or does not match its checksum."""


class CheckpointError(ModelError):
    """A model folder that is broken, incomplete, or of a kind that is not supported."""


class OutOfMemory(ModelError):
    """The device cannot hold the model or its KV cache. The message says what would fit."""


class DatasetError(JoyCaptionError):
    """A folder or file that cannot be scanned, read or written."""


class Cancelled(JoyCaptionError):
    """The caller asked to stop while something was being downloaded or loaded."""
