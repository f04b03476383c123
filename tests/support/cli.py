"""The command line, called in this process or as a program of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from joycaption.cli.app import app

__all__ = ["PROGRAM", "caption_demo", "environment", "joycaption", "program"]

PROGRAM = [sys.executable, "-c", "from joycaption.cli import main; main()"]


def joycaption(*arguments: object) -> Result:
    """Run a command in this process. An exception that no user should see is raised here."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def caption_demo(*arguments: object, tokens: int = 6) -> Result:
    """``joycaption caption`` with the demo model and short captions."""
    return joycaption("caption", "--model", "demo", "--max-tokens", tokens, *arguments)


def environment(**changed: str) -> dict[str, str]:
    """What a program of its own needs to find this package."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, **changed}


def program(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command as a program, with its output as UTF-8 text."""
    return subprocess.run(
        [*PROGRAM, *map(str, arguments)],
        **{"env": environment(PYTHONIOENCODING="utf-8"), "capture_output": True, "encoding": "utf-8", **options},
        check=False,
    )
