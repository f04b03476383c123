"""How commands speak to the person at the keyboard. What a command is asked for goes to stdout, the rest to stderr."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["console", "file_size", "print_table", "say", "say_error"]

console = Console(stderr=True, highlight=False)


def say(text: str, style: str = "") -> None:
    """One line on stderr, unbroken; file names in it are not taken for markup."""
    console.print(Text(text, style), soft_wrap=True)


def say_error(text: str) -> None:
    say(text, "red")


def print_table(table: Table) -> None:
    """A table on stdout; whole lines where no person's terminal sets the width."""
    width = None if sys.stdout.isatty() else 10_000
    Console(highlight=False, width=width).print(table)


def file_size(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
