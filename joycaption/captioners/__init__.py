"""Captioners behind one seam: see `base` for the contract, and one file for each captioner."""

from .base import CAPTIONERS, Captioner, load_captioner

__all__ = ["CAPTIONERS", "Captioner", "load_captioner"]
