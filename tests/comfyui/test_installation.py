"""What an installation does to a ComfyUI, and what an old ComfyUI makes of the pack."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from support.comfyui import REPOSITORY, Client, ComfyUI, Server


def test_an_old_comfyui_starts_and_gets_one_sentence(comfyui: ComfyUI, tmp_path: Path) -> None:
    old = Path(os.environ.get("COMFYUI_OLD_PATH") or comfyui.folder.with_name("ComfyUI-0.3.64"))
    if not (old / "main.py").is_file():
        pytest.skip(f"no ComfyUI 0.3.64 in {old}: clone it there, or set COMFYUI_OLD_PATH")
    # Newer template packages lack a folder that 0.3.64 wants to serve.
    templates = tmp_path / "site" / "comfyui_workflow_templates"
    (templates / "templates").mkdir(parents=True)
    (templates / "__init__.py").touch()
    environment = {"PYTHONPATH": str(templates.parent)}
    with Server(replace(comfyui, folder=old), tmp_path / "base", environment=environment) as server:
        with Client(server) as client:
            assert client.object_info("JoyCaptionLoad") is None
        log = server.log()
    assert log.count("JoyCaption needs ComfyUI 0.14.0 or later, and this is 0.3.64: update ComfyUI.") == 1
    assert "Traceback" not in log
    assert "IMPORT FAILED" not in log


@pytest.mark.slow
def test_requirements_change_nothing_that_is_there(comfyui: ComfyUI, tmp_path: Path) -> None:
    """Into an environment that sees ComfyUI's own packages: pip would have to bring another version beside them."""
    overlay = tmp_path / "overlay"
    subprocess.run([comfyui.python, "-m", "venv", overlay], check=True)
    python = overlay / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    theirs = output(comfyui.python, "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    ours = output(python, "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    Path(ours, "comfyui.pth").write_text(theirs, encoding="utf-8")
    before = versions(comfyui.python)
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--requirement", REPOSITORY / "requirements.txt"], check=True)
    after = versions(python)
    assert {name: after.get(name) for name in before} == before
    assert {"bitsandbytes", "accelerate"} <= set(after)
    checked = subprocess.run([*pip, "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    with Server(replace(comfyui, python=python), tmp_path / "base") as server, Client(server) as client:
        assert client.object_info("JoyCaptionCaption") is not None
        assert not re.search(r"^\[WARNING\]|^Traceback|IMPORT FAILED", server.log(), re.MULTILINE)


def output(python: Path, program: str) -> str:
    return subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout


def versions(python: Path) -> dict[str, str]:
    """Every package that this Python sees, the first of a name where there are two, as an import would."""
    program = """
import importlib.metadata, json
found = {}
for package in importlib.metadata.distributions():
    found.setdefault(package.metadata["Name"].lower().replace("_", "-"), package.version)
print(json.dumps(found))
"""
    seen: dict[str, str] = json.loads(output(python, program))
    return {name: version for name, version in seen.items() if name not in ("pip", "setuptools")}
