"""ComfyUI's folders, below one that the test gives."""

from __future__ import annotations

from pathlib import Path

models_dir = ""
folder_names_and_paths: dict[str, tuple[list[str], set[str]]] = {}

_base = Path()


def start_in(base: Path) -> None:
    """Make the folders of a new installation."""
    global models_dir, _base
    _base, models_dir = base, str(base / "models")
    for name in ("models", "input", "output", "temp"):
        (base / name).mkdir(parents=True)
    folder_names_and_paths.clear()
    add_model_folder_path("checkpoints", str(base / "models" / "checkpoints"))


def get_input_directory() -> str:
    return str(_base / "input")


def get_output_directory() -> str:
    return str(_base / "output")


def get_temp_directory() -> str:
    return str(_base / "temp")


def add_model_folder_path(name: str, path: str) -> None:
    """Also what a line of extra_model_paths.yaml comes to."""
    paths, _ = folder_names_and_paths.setdefault(name, ([], set()))
    if path not in paths:
        paths.append(path)
