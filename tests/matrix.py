"""Runs the oracle tests with every transformers that users have: `python tests/matrix.py`.

Each version gets an environment in .cache/matrix, whose own packages come first and those of the environment that runs
this script behind them; so torch is shared, and only transformers with what it pins is fetched.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache" / "matrix"

# The oldest that ComfyUI allows, the last of 4.x, and the newest.
VERSIONS = {"4.50.3": "transformers==4.50.3", "4.57": "transformers>=4.57,<4.58", "5": "transformers>=5,<6"}


def main() -> int:
    """Prints one line for each version, and the tests' output where they fail. Returns the exit status."""
    failed = [name for name, requirement in VERSIONS.items() if not check(name, requirement)]
    return 1 if failed else 0


def check(name: str, requirement: str) -> bool:
    started = time.monotonic()
    python = environment(CACHE / name)
    install = run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade", requirement)
    if install.returncode:
        print(f"transformers {name}: could not be installed\n{install.stdout}", flush=True)
        return False
    version = run(python, "-c", "import transformers; print(transformers.__version__)").stdout.split()[-1]
    # Warnings are errors in the project's own environment; old libraries on a new torch may warn.
    tests = run(python, "-m", "pytest", "-m", "oracle", "-W", "default", "-p", "no:cacheprovider")
    summary = tests.stdout.strip().splitlines()[-1].strip("= ")
    print(f"transformers {version}: {summary}, {time.monotonic() - started:.0f} s in all", flush=True)
    if tests.returncode:
        print(tests.stdout, flush=True)
    return tests.returncode == 0


def environment(folder: Path) -> Path:
    """The interpreter of an environment that falls back on this one's packages; made when it is not there."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not (folder / "complete").is_file():
        venv.create(folder, clear=True, symlinks=os.name != "nt")
        site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip())
        (site / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        (folder / "complete").touch()
    return python


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    return subprocess.run(
        command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )


if __name__ == "__main__":
    sys.exit(main())
