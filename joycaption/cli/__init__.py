"""The command line. What it needs beyond the library (typer, rich) is imported only when a command runs."""

from __future__ import annotations

import sys
import warnings

__all__ = ["main"]


def main() -> None:
    """Entry point of the ``joycaption`` command."""
    for stream in (sys.stdout, sys.stderr):
        # A console may know few characters, and a caption or a file's name must not end the run for it.
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")
    warnings.filterwarnings("ignore", module="PIL")  # about broken pictures, which are reported in our own words
    try:
        from .app import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        print(f'The command line needs {error.name}: pip install "joycaption[cli]"', file=sys.stderr)
        raise SystemExit(2) from None
    app(prog_name="joycaption")
