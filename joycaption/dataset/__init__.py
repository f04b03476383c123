"""Datasets: folders of pictures with their captions in sidecar files. Knows captioners, but no model and no torch."""

from __future__ import annotations

from .run import RunSettings, RunSummary, caption_dataset
from .scan import Picture, count, scan
from .select import OnResult, Result, Status, select
from .sidecars import FORMATS, SidecarFormat, sidecar_format

__all__ = [
    "FORMATS",
    "OnResult",
    "Picture",
    "Result",
    "RunSettings",
    "RunSummary",
    "SidecarFormat",
    "Status",
    "caption_dataset",
    "count",
    "scan",
    "select",
    "sidecar_format",
]
