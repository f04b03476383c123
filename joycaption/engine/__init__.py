"""Continuous batching on the model's own modules. Knows nothing of text, files or prompts."""

from .engine import Engine, Prompt, Step

__all__ = ["Engine", "Prompt", "Step"]
