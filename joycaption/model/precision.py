"""Devices and number formats: what is asked for, what fits, and what it takes."""

from __future__ import annotations

import torch

from ..errors import UsageError

__all__ = ["PRECISIONS", "choose_device", "choose_precision"]

PRECISIONS: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}

# A processor has no fast bf16 before AVX512-BF16, but 8 billion weights in fp32 would take 34 GB of RAM.
_FP32_ON_CPU_UP_TO = 1_000_000_000


def choose_device(name: str = "auto") -> torch.device:
    """The device that was asked for; ``auto`` takes CUDA (ROCm too), Intel XPU, Apple MPS, then the CPU.

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        return torch.device(next((kind for kind in ("cuda", "xpu", "mps") if _available(kind)), "cpu"))
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device is {name!r}, but must be auto, cpu, cuda, cuda:1, xpu or mps.") from None
    if device.type != "cpu" and not _available(device.type):
        raise UsageError(f"This torch ({torch.__version__}) sees no {device.type} device here. Use device cpu or auto.")
    return device


def _available(kind: str) -> bool:
    backend = getattr(torch.backends, kind, None) if kind == "mps" else getattr(torch, kind, None)
    return backend is not None and bool(backend.is_available())


def choose_precision(name: str, device: torch.device, parameters: int) -> torch.dtype:
    """The number format that was asked for.

    ``auto`` takes bf16, the published format, where the hardware has it; fp16 on older GPUs and on MPS; on a CPU fp32
    for models under a billion parameters.

    Raises:
        UsageError: no such precision.
    """
    if name in PRECISIONS:
        return PRECISIONS[name]
    if name != "auto":
        raise UsageError(f"precision is {name!r}, but must be auto, {', '.join(PRECISIONS)}.")
    if device.type == "cpu":
        return torch.float32 if parameters < _FP32_ON_CPU_UP_TO else torch.bfloat16
    if device.type == "mps" or (device.type == "cuda" and not _has_bf16(device)):
        return torch.float16
    return torch.bfloat16


def _has_bf16(device: torch.device) -> bool:
    """Ampere and later; torch itself would also say yes where bf16 is only emulated."""
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)
