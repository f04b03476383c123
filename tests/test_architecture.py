"""The house: which way imports run, what `import joycaption` costs, and that every `__all__` is true."""

from __future__ import annotations

import ast
import importlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import joycaption

PACKAGE = Path(joycaption.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

# From the bottom up: a room imports itself and lower layers, never its neighbours. "joycaption" is the package itself.
LAYERS: tuple[set[str], ...] = (
    {"errors"},
    {"types"},
    {"prompts", "images"},
    {"model"},
    {"engine"},
    {"captioners"},
    {"api", "dataset", "demo", "quality", "verify"},
    {"joycaption"},
    {"cli"},
)
FREE = {"demo/train.py", "demo/evaluate.py"}  # commands of their own, which use everything
INTERNALS = {"comfy", "comfy_execution", "comfyui_version", "execution", "folder_paths", "server"}  # of ComfyUI
HOSTS = {*INTERNALS, "comfy_api", "nodes", "joycaption"}
NODES = sorted((Path(__file__).parents[1] / "nodes").glob("*.py"))


def imports(file: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """(level, dotted name) of every import, those inside functions too; level 0 is absolute."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, tuple(alias.name.split("."))) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = tuple(node.module.split(".")) if node.module else ()
            yield from ((node.level, (*base, alias.name)) for alias in node.names)


def rooms_imported(file: Path) -> set[str]:
    folder = file.relative_to(PACKAGE).parent.parts
    rooms = set()
    for level, name in imports(file):
        if level == 0:
            continue
        target = (*folder[: len(folder) - level + 1], *name)
        exists = (PACKAGE / target[0]).is_dir() or (PACKAGE / f"{target[0]}.py").is_file()
        rooms.add(target[0] if exists else "joycaption")  # `from .. import load` asks the package itself
    return rooms


def allowed_in(home: str) -> set[str]:
    height = next((height for height, layer in enumerate(LAYERS) if home in layer), None)
    assert height is not None, f"{home} is a new room: give it its place in LAYERS"
    return {home}.union(*LAYERS[:height])


def name_of(file: Path) -> str:
    return file.relative_to(PACKAGE).as_posix()


def dotted(file: Path) -> str:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(("joycaption", *parts)).removesuffix(".__init__")


@pytest.mark.parametrize("file", MODULES, ids=name_of)
class TestModules:
    def test_imports_run_one_way(self, file: Path) -> None:
        if name_of(file) in FREE:
            return
        home = file.relative_to(PACKAGE).with_suffix("").parts[0]
        home = "joycaption" if home == "__init__" else home
        assert rooms_imported(file) <= allowed_in(home)

    def test_knows_nothing_of_its_hosts_and_imports_relatively(self, file: Path) -> None:
        absolute = {name[0] for level, name in imports(file) if level == 0}
        assert not absolute & HOSTS

    def test_all_lists_what_is_there(self, file: Path) -> None:
        module = importlib.import_module(dotted(file))
        if not hasattr(module, "__all__"):
            source = file.read_text(encoding="utf-8")
            empty = all(isinstance(node, ast.Expr) for node in ast.parse(source).body)
            assert empty or '__name__ == "__main__"' in source, "only commands go without __all__"
            return
        assert len(set(module.__all__)) == len(module.__all__)
        for name in module.__all__:
            assert hasattr(module, name), f"{dotted(file)} has no {name}"


@pytest.mark.parametrize("file", NODES, ids=lambda file: file.name)
class TestNodes:
    def test_only_one_file_touches_comfyuis_internals(self, file: Path) -> None:
        absolute = {name[0] for level, name in imports(file) if level == 0}
        assert file.name == "host.py" or not absolute & INTERNALS

    def test_nodes_and_library_are_imported_relatively(self, file: Path) -> None:
        rooms = {".": {file.stem for file in NODES}, "..": {"joycaption"}}
        for level, name in imports(file):
            assert name[0] in rooms["." * level] if level else name[0] not in ("nodes", "joycaption")


def test_wrong_arrows_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of imports itself, on a package with each kind of import."""
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    for folder in ("model", "engine", "captioners"):
        (tmp_path / folder).mkdir()
    (tmp_path / "errors.py").touch()
    file = tmp_path / "model" / "llama.py"
    file.write_text(
        "from ..engine.engine import Engine\nfrom .. import load, captioners\nfrom . import siglip\n"
        "def f():\n    from ..errors import UsageError\n    import torch, comfy.ops\n"
    )
    assert rooms_imported(file) == {"engine", "joycaption", "captioners", "model", "errors"}
    assert {name[0] for level, name in imports(file) if level == 0} == {"torch", "comfy"}


def fresh(program: str) -> str:
    """What a program prints in an interpreter of its own."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r})\n{program}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_importing_is_cheap() -> None:
    program = """
import json, time
before = set(sys.modules)
start = time.process_time()  # of this process alone, whatever else the machine does
import joycaption
print(json.dumps([time.process_time() - start, sorted({name.partition(".")[0] for name in set(sys.modules) - before})]))
"""
    measured = [json.loads(fresh(program)) for _ in range(5)]
    assert "joycaption" in measured[0][1]
    assert not set(measured[0][1]) & {"torch", "transformers", "PIL", "numpy", "tokenizers", "huggingface_hub", "typer"}
    assert statistics.median(seconds for seconds, _ in measured) < 0.1


def test_every_public_name_can_be_had_from_a_fresh_import() -> None:
    printed = fresh(
        "import joycaption\nfor name in joycaption.__all__: print(name, getattr(joycaption, name) is not None)"
    )
    assert printed.split() == [word for name in joycaption.__all__ for word in (name, "True")]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'caption_everything'"):
        joycaption.caption_everything  # type: ignore[attr-defined]  # noqa: B018
