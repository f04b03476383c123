"""What the nodes ask of ComfyUI: memory, progress, interrupts, folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import ref

import pytest
import torch
from support.nodepack import Host, Pack

GRAPHS_ANYWHERE = ["127.0.0.1", "localhost", "::1", "127.2.2.2,127.3.3.3", "127.0.0.1, ::1"]
GRAPHS_AT_HOME = ["0.0.0.0", "0.0.0.0,::", "::", "192.168.1.5", "127.0.0.1,192.168.1.5", "my-machine", ""]


@pytest.fixture
def inside(pack: Pack) -> Any:
    return pack.module("nodes.host")


@pytest.mark.parametrize(
    ("version", "numbers"),
    [("0.33.0", (0, 33, 0)), ("0.3.64", (0, 3, 64)), ("1.2.3rc4", (1, 2, 3)), ("0.11.0+local.7", (0, 11, 0))],
)
def test_version(inside: Any, monkeypatch: pytest.MonkeyPatch, version: str, numbers: tuple[int, ...]) -> None:
    monkeypatch.setattr(inside, "__version__", version)
    assert inside.comfyui_version() == numbers


def test_a_stop_is_the_hosts_own_exception_and_raised_once(host: Host, inside: Any) -> None:
    assert inside.interrupted() is False
    host.press_stop()
    with pytest.raises(host.Interrupted):
        inside.interrupted()
    assert inside.interrupted() is False


class TestProgress:
    def test_a_caption_is_worth_its_longest_length(self, host: Host, inside: Any) -> None:
        progress = inside.CaptionProgress(captions=2, max_tokens=4)
        for step in (progress.step, progress.step, progress.captioned, *[progress.step] * 9, progress.captioned):
            step()
        progress.step()  # the engine asks once more at its end
        (values,) = host.bars
        assert values == [1, 2, 4, 5, 6, *[7] * 7, 8]

    def test_a_step_lets_a_stop_through(self, host: Host, inside: Any) -> None:
        progress = inside.CaptionProgress(captions=2, max_tokens=4)
        host.press_stop()
        with pytest.raises(host.Interrupted):
            progress.step()


class TestMemory:
    @pytest.fixture
    def captioner(self, pack: Pack) -> Any:
        loader = pack.module("joycaption.captioners.joycaption")
        return loader.JoyCaption(pack.module("joycaption.demo").MODEL, precision="bf16", device="cpu")

    def test_room_is_made_for_weights_and_work(self, host: Host, inside: Any, captioner: Any) -> None:
        patcher = inside.managed(captioner)
        inside.make_room(patcher, 12345)
        assert host.management.rooms == [12345]
        assert host.management.loaded_models() == [patcher]
        assert patcher.size == sum(weight.nbytes for weight in captioner.load().parameters())

    def test_weights_that_a_node_loads_are_ordinary_ones(self, inside: Any, captioner: Any) -> None:
        patcher = inside.managed(captioner)
        with torch.inference_mode():
            inside.make_room(patcher, 0)
        assert not any(weight.is_inference() for weight in captioner.load().parameters())

    def test_moving_up_in_the_list_reads_nothing_again(self, host: Host, inside: Any, captioner: Any) -> None:
        patcher = inside.managed(captioner)
        inside.make_room(patcher, 0)
        weights = ref(captioner.load())
        inside.make_room(patcher, 0)
        assert weights() is captioner.load()
        assert len(host.bars) == 1

    def test_unloading_frees_the_weights(self, host: Host, inside: Any, captioner: Any) -> None:
        patcher = inside.managed(captioner)
        inside.make_room(patcher, 0)
        weights = ref(captioner.load())
        host.management.unload_all_models()
        assert weights() is None

    @pytest.mark.parametrize("update", [1, 40])
    def test_an_interrupted_load_leaves_nothing(self, host: Host, inside: Any, captioner: Any, update: int) -> None:
        patcher = inside.managed(captioner)
        host.at_update(update, host.press_stop)
        with pytest.raises(host.Interrupted):
            inside.make_room(patcher, 0)
        assert not patcher.is_loaded
        assert host.management.loaded_models() == []
        assert len(host.bars[0]) <= update + 1
        inside.make_room(patcher, 0)
        assert patcher.is_loaded
        assert host.bars[-1][-1] == host.utils.bars[-1].total


class TestModelFolders:
    def test_our_own_is_registered(self, host: Host, inside: Any) -> None:
        assert host.folders.folder_names_and_paths["joycaption"][0] == [str(host.models / "joycaption")]

    def test_those_of_other_packs_and_of_the_yaml_file(self, host: Host, inside: Any, tmp_path: Path) -> None:
        host.folders.add_model_folder_path("joycaption", str(tmp_path / "ours"))
        host.folders.add_model_folder_path("LLM", str(tmp_path / "theirs"))
        assert set(inside.model_folders()) == {
            tmp_path / "ours", tmp_path / "theirs", *(host.models / name for name in ("joycaption", "LLM", "VLM")),
            host.models / "LLavacheckpoints",
        }  # fmt: skip
        assert inside.model_folders()[0] == host.models / "joycaption"


class TestWhatAGraphMayTouch:
    @pytest.mark.parametrize("address", GRAPHS_ANYWHERE)
    def test_anything_while_only_this_machine_can_ask(
        self, host: Host, inside: Any, tmp_path: Path, address: str
    ) -> None:
        host.listen(address)
        assert inside.permission()(tmp_path)

    @pytest.mark.parametrize("address", GRAPHS_AT_HOME)
    def test_else_only_comfyuis_folders(self, host: Host, inside: Any, tmp_path: Path, address: str) -> None:
        host.listen(address)
        base = tmp_path / "ComfyUI"
        assert not inside.permission()(tmp_path)
        assert not inside.permission()(base / "input of another")
        assert not inside.permission()(base / "input" / ".." / ".." / "secret")
        for name in ("input/set", "output", "temp/a/b.png", "models/checkpoints/x", "models/joycaption"):
            assert inside.permission()(base / name)
