"""Captioning many pictures takes no more memory than captioning few."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import environment
from support.pictures import draw_pictures

pytest.importorskip("resource", reason="peak memory is asked of Linux or macOS")

# Runs a command and reports the peak of its resident memory.
MEASURED = """
import resource, sys
from joycaption.cli import main
try:
    main()
finally:
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def peak_memory(folder: Path, pictures: int) -> int:
    """Peak resident memory of a run over so many new pictures, in the system's unit."""
    draw_pictures(folder, pictures)
    command = [sys.executable, "-c", MEASURED, "caption", "--model", "demo", "--max-tokens", "8", str(folder)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert len(list(folder.glob("*.txt"))) == pictures
    return int(done.stderr.rsplit("peak ", 1)[1])


@pytest.mark.slow
def test_2000_pictures_take_no_more_memory_than_200(tmp_path: Path) -> None:
    few = peak_memory(tmp_path / "few", 200)
    many = peak_memory(tmp_path / "many", 2000)
    assert many <= 1.05 * few, f"{many / few:.3f} times"
