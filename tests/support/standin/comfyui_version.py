"""Which ComfyUI this is taken for."""

__version__ = "0.33.0"
