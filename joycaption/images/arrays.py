"""Numpy arrays and torch tensors as pictures. torch is not imported: a tensor is known by its methods."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import ImageError
from .files import check_size

__all__ = ["TensorLike", "array_to_image", "scale_to_bytes"]

_CHANNELS = (1, 3, 4)


class TensorLike(Protocol):
    """As much of a torch tensor as is used here."""

    def detach(self) -> Any: ...
    def cpu(self) -> Any: ...


def array_to_image(source: npt.NDArray[Any] | TensorLike, max_pixels: int) -> Image.Image:
    """A grey, RGB or RGBA image of an array or tensor; layouts and dtypes are those of ``open_image``.

    Raises:
        ImageError: a shape, dtype or range of values that is no picture.
    """
    array = _squeeze(source if isinstance(source, np.ndarray) else _to_numpy(source))
    check_size((array.shape[1], array.shape[0]), max_pixels)
    return Image.fromarray(_to_bytes(array))


def scale_to_bytes(values: npt.NDArray[Any], white: float) -> npt.NDArray[np.uint8]:
    """Scale 0..white to 0..255, rounded; what lies outside is clipped."""
    share = np.clip(values.astype(np.float32) / np.float32(white), 0, 1)
    levels: npt.NDArray[np.uint8] = np.rint(share * 255).astype(np.uint8)
    return levels


def _to_numpy(tensor: Any) -> npt.NDArray[Any]:
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()  # numpy has no bfloat16
    array: npt.NDArray[Any] = tensor.numpy()
    return array


def _squeeze(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[H, W], [H, W, 3] or [H, W, 4] from any accepted layout."""
    shape = array.shape
    if array.ndim == 4 and shape[0] == 1:
        array = array[0]
    if array.ndim == 3 and array.shape[2] not in _CHANNELS and array.shape[0] in _CHANNELS:
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _CHANNELS)):
        raise ImageError(f"its shape is {list(shape)}, but one picture is [H, W], or [H, W, C] with 1, 3 or 4 channels")
    return array


def _to_bytes(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.name == "uint16":
        return scale_to_bytes(array, 65535)
    if array.dtype.kind != "f":
        raise ImageError(f"its dtype is {array.dtype}, but must be uint8, uint16, or a float from 0 to 1")
    low, high = float(array.min()), float(array.max())
    if not (low >= -0.5 and high <= 1.5):  # upscalers overshoot a little; NaN fails this too
        raise ImageError(f"its floats run from {low:g} to {high:g}, but must be from 0 to 1; rescale them first")
    return scale_to_bytes(array, 1)
