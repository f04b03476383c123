"""The pack as ComfyUI meets it: what it brings, what it costs, and what it says when something is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.nodepack import NAME, ROOT, STANDIN, Host, Pack, image_of
from support.pictures import draw_picture

NODES = ["JoyCaptionLoad", "JoyCaptionOptions", "JoyCaptionCaption", "JoyCaptionFolder"]
HEAVY = {"transformers", "bitsandbytes", "accelerate", "tokenizers", "safetensors"}
OUR_MODEL = {f"{NAME}.joycaption.{module}" for module in ("engine", "model.llava", "model.checkpoint", "model.chat")}


def test_the_nodes(pack: Pack) -> None:
    assert list(pack.nodes) == NODES
    schemas = [node.define_schema() for node in pack.nodes.values()]
    assert {schema.category for schema in schemas} == {"JoyCaption"}
    assert all(schema.display_name and schema.description and schema.search_aliases for schema in schemas)


def test_versions_are_told_alike_everywhere(pack: Pack) -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert f'version = "{pack.module("joycaption").__version__}"' in project
    oldest = ".".join(map(str, pack.module("nodes").OLDEST_COMFYUI))
    assert f'requires-comfyui = ">={oldest}"' in project


def test_all_lists_what_is_there(pack: Pack) -> None:
    for file in (ROOT / "nodes").glob("*.py"):
        module = pack.module(f"nodes.{file.stem}".removesuffix(".__init__"))
        assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_every_input_says_what_it_is_for(pack: Pack) -> None:
    plain = {"model", "type"}  # their choices say it
    for id in NODES:
        silent = {name for name, one in pack.inputs(id).items() if not one.tooltip}
        assert silent <= plain


def test_captions_come_as_a_list_and_nodes_that_write_end_a_graph(pack: Pack) -> None:
    schemas = {id: node.define_schema() for id, node in pack.nodes.items()}
    assert schemas["JoyCaptionCaption"].is_input_list and schemas["JoyCaptionCaption"].outputs[0].is_output_list
    assert {id for id, schema in schemas.items() if schema.is_output_node} >= {"JoyCaptionCaption", "JoyCaptionFolder"}


@pytest.mark.parametrize("id", NODES)
def test_every_node_has_a_help_page(pack: Pack, id: str) -> None:
    page = Path(str(pack.root.__file__)).parent / pack.root.WEB_DIRECTORY / "docs" / f"{id}.md"
    text = page.read_text("utf-8")
    assert all(name in text for name in pack.inputs(id) if pack.inputs(id)[name].io_type != "BOOLEAN")


class TestVersions:
    @pytest.fixture
    def version(self, host: Host, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
        monkeypatch.setattr("comfyui_version.__version__", request.param)

    @pytest.mark.parametrize("version", ["0.3.64", "0.13.0"], indirect=True)
    def test_a_comfyui_that_is_too_old_gets_one_sentence(
        self, version: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.delattr("comfy_api.latest.io.ControlAfterGenerate")
        assert Pack().nodes == {}
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert "needs ComfyUI 0.14.0 or later" in record.getMessage() and "update ComfyUI" in record.getMessage()

    @pytest.mark.parametrize("version", ["0.14.0", "0.33.0", "1.0.0"], indirect=True)
    def test_others_get_the_nodes_without_a_word(self, version: None, caplog: pytest.LogCaptureFixture) -> None:
        assert list(Pack().nodes) == NODES
        assert caplog.records == []


PROGRAM = """
import json, sys
from pathlib import Path
from support.nodepack import Host, Pack
host = Host(Path(sys.argv[1]))
nodes = list(Pack().nodes)
print(json.dumps([nodes, sorted(sys.modules)]))
"""


def test_start_up_loads_no_captioning_library_and_no_model_code(tmp_path: Path) -> None:
    path = os.pathsep.join((str(STANDIN), str(STANDIN.parents[1])))
    environment = {**os.environ, "PYTHONPATH": path, "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-c", PROGRAM, str(tmp_path / "ComfyUI")]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    nodes, modules = json.loads(run.stdout)
    assert nodes == NODES
    assert f"{NAME}.joycaption" in modules
    assert not HEAVY & {module.partition(".")[0] for module in modules}
    assert not OUR_MODEL & set(modules)
    assert not {"nodes", "joycaption"} & set(modules)  # ComfyUI's own, and an installed library


@pytest.mark.parametrize("library", ["tokenizers", "safetensors", "jinja2", "huggingface_hub"])
class TestALibraryThatIsMissingOrBroken:
    @pytest.fixture(params=["missing", "broken"])
    def pack(
        self, host: Host, library: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Pack:
        if request.param == "missing":
            monkeypatch.setitem(sys.modules, library, None)
            return Pack()
        monkeypatch.delitem(sys.modules, library)
        failing = f"raise ImportError('DLL load failed while importing {library}')"
        (tmp_path / "broken").mkdir()
        (tmp_path / "broken" / f"{library}.py").write_text(failing)
        monkeypatch.syspath_prepend(tmp_path / "broken")
        return Pack()

    def test_the_nodes_are_there_and_a_model_can_be_chosen(self, pack: Pack, library: str) -> None:
        assert list(pack.nodes) == NODES
        choices = pack.inputs("JoyCaptionLoad")["model"].options
        assert choices[0] == "demo"
        assert pack.nodes["JoyCaptionLoad"].validate_inputs(model="demo") is True
        pack.nodes["JoyCaptionLoad"].fingerprint_inputs(model="demo", precision="auto")
        assert pack.run("JoyCaptionOptions").result[1]

    @pytest.mark.parametrize("id", ["JoyCaptionCaption", "JoyCaptionFolder"])
    def test_running_names_the_library_and_what_to_do(self, pack: Pack, host: Host, library: str, id: str) -> None:
        draw_picture(host.input / "set" / "a.png")
        picture: dict[str, Any] = {"image": image_of(Image.new("RGB", (64, 64)))}
        inputs = picture if id == "JoyCaptionCaption" else {"folder": "set"}
        with pytest.raises(
            pack.NodeError, match=f"JoyCaption.*: .*{library}.* -m pip install -r requirements.txt"
        ) as told:
            pack.run(id, model=pack.run("JoyCaptionLoad").result[0], **inputs)
        assert "\n" not in str(told.value)
        assert isinstance(told.value.__cause__, ImportError)
