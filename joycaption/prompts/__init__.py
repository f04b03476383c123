"""The instructions that a captioning model was trained on, and what builds one from a caption type and its options."""

from __future__ import annotations

from .builder import build_prompt, is_trained_tone
from .catalog import BETA_ONE, DEFAULT_SYSTEM_PROMPT, CaptionType, Catalog

__all__ = ["BETA_ONE", "DEFAULT_SYSTEM_PROMPT", "CaptionType", "Catalog", "build_prompt", "is_trained_tone"]
