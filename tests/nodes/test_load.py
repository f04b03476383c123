"""Load JoyCaption: which models there are, what is shared, and weights that come, go and change."""

from __future__ import annotations

import gc
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias
from weakref import ref

import pytest
from huggingface_hub import constants, file_download
from safetensors.torch import load_file, save_file
from support.hub import COMMIT, REPO, LocalHub, serve
from support.nodepack import Host, Pack, image_of

from joycaption import Request, Sampling, build_prompt
from joycaption.captioners import Captioner
from joycaption.demo import MODEL
from joycaption.demo.scenes import draw, random_scene

Captions: TypeAlias = Callable[[Any], str]

DOWNLOAD = "beta-one (17 GB download)"
SCENE = draw(random_scene(random.Random(3)), 96 * 96)


def load(pack: Pack, model: str = "demo", precision: str = "auto") -> Any:
    return pack.run("JoyCaptionLoad", model=model, precision=precision).result[0]


def text(pack: Pack, model: Any) -> str:
    inputs = {"image": image_of(SCENE), "sampling": "greedy", "max_tokens": 40}
    return pack.run("JoyCaptionCaption", model=model, **inputs).result[0][0]


@pytest.fixture(scope="session")
def expected(library: Captioner) -> str:
    _, caption = next(iter(library.caption([Request(SCENE, build_prompt(), sampling=Sampling.greedy(40))])))
    return caption.text


@pytest.fixture
def mine(host: Host) -> Path:
    """A model of the user's, in models/joycaption."""
    return Path(shutil.copytree(MODEL, host.models / "joycaption" / "mine"))


def change_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("embed_tokens.weight"))
    weights[name] = weights[name].flip(0).contiguous()
    save_file(weights, folder / "model.safetensors")


class TestSharing:
    def test_loading_is_put_off_until_the_first_caption(self, host: Host, pack: Pack, expected: str) -> None:
        model = load(pack)
        assert (model.patcher, host.management.rooms) == (None, [])
        assert text(pack, model) == expected
        assert host.management.loaded_models() == [model.patcher]

    def test_the_same_settings_give_the_same_model(self, pack: Pack) -> None:
        model = load(pack)
        assert load(pack) is model
        assert load(pack, precision="bf16") is not model

    def test_each_precision_is_loaded_once(self, host: Host, pack: Pack, expected: str) -> None:
        models = [load(pack, precision=precision) for precision in ("fp32", "bf16", "fp32", "bf16")]
        assert text(pack, models[0]) == expected
        for model in models[1:]:
            text(pack, model)
        fp32, bf16 = (model.patcher for model in models[:2])
        assert set(host.management.loaded_models()) == {fp32, bf16}
        assert fp32.size == 2 * bf16.size

    def test_a_model_that_no_output_holds_is_gone(self, pack: Pack) -> None:
        model = load(pack)
        text(pack, model)
        weights = ref(model.patcher.model.captioner.load())
        del model
        gc.collect()
        assert weights() is None


class TestWeights:
    def test_they_come_back_after_unload_models(self, host: Host, pack: Pack, expected: str) -> None:
        model = load(pack)
        assert text(pack, model) == expected
        weights = ref(model.patcher.model.captioner.load())
        host.management.unload_all_models()
        assert weights() is None
        assert text(pack, model) == expected

    @pytest.mark.parametrize("update", [1, 50])
    def test_a_stop_while_they_load(self, host: Host, pack: Pack, expected: str, update: int) -> None:
        model = load(pack)
        host.at_update(update, host.press_stop)
        with pytest.raises(host.Interrupted):
            text(pack, model)
        assert host.management.loaded_models() == []
        assert text(pack, model) == expected

    def test_changed_files_are_read_again(self, host: Host, mine: Path, expected: str) -> None:
        pack = Pack()
        model = load(pack, "mine")
        assert text(pack, model) == expected
        change_weights(mine)
        assert text(pack, model) != expected
        assert host.management.loaded_models() == [model.patcher]

    def test_a_folder_that_was_taken_away(self, mine: Path, expected: str) -> None:
        pack = Pack()
        model = load(pack, "mine")
        assert text(pack, model) == expected
        shutil.rmtree(mine)
        with pytest.raises(pack.NodeError, match=r"^JoyCaption: .*mine"):
            text(pack, model)

    def test_a_damaged_file(self, mine: Path) -> None:
        (mine / "model.safetensors").write_bytes(b"damaged")
        pack = Pack()
        with pytest.raises(pack.NodeError, match=r"^JoyCaption: .*model\.safetensors"):
            text(pack, load(pack, "mine"))


class TestChoices:
    def choices(self, pack: Pack) -> list[str]:
        return pack.inputs("JoyCaptionLoad")["model"].options

    def validated(self, pack: Pack, model: Any) -> bool | str:
        return pack.nodes["JoyCaptionLoad"].validate_inputs(model=model)

    def test_a_new_machine_has_the_demo_and_a_download(self, pack: Pack) -> None:
        assert self.choices(pack) == ["demo", DOWNLOAD]
        assert pack.inputs("JoyCaptionLoad")["model"].default == "demo"
        assert pack.inputs("JoyCaptionLoad")["precision"].options == ["auto", "bf16", "fp16", "fp32"]
        assert [self.validated(pack, choice) for choice in self.choices(pack)] == [True, True]

    @pytest.mark.parametrize("place", ["joycaption", "LLavacheckpoints", "LLM", "VLM"])
    def test_models_in_the_usual_places(self, host: Host, place: str, expected: str) -> None:
        shutil.copytree(MODEL, host.models / place / "mine")
        shutil.copytree(MODEL, host.models / place / "llama-joycaption-beta-one-hf-llava")
        pack = Pack()
        assert self.choices(pack) == ["demo", "beta-one", "mine"]
        for choice in ("mine", "beta-one"):
            assert self.validated(pack, choice) is True
            assert text(pack, load(pack, choice)) == expected

    def test_a_folder_of_the_yaml_file(self, host: Host, tmp_path: Path, expected: str) -> None:
        shutil.copytree(MODEL, tmp_path / "elsewhere" / "mine")
        host.folders.add_model_folder_path("joycaption", str(tmp_path / "elsewhere"))
        pack = Pack()
        assert "mine" in self.choices(pack)
        assert text(pack, load(pack, "mine")) == expected

    def test_a_model_that_was_added_appears(self, host: Host, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
        shutil.copytree(MODEL, host.models / "joycaption" / "mine")
        monkeypatch.setattr(pack.module("nodes.model").time, "monotonic", lambda: float("inf"))  # seconds later
        assert "mine" in self.choices(pack)

    @pytest.mark.parametrize(
        ("file", "said"),
        [
            ("joycaption.Q4_K_M.gguf", "GGUF files .* are not read"),
            ("pytorch_model.bin", "pickle"),
            ("config.json", ""),
        ],
    )
    def test_a_model_that_cannot_be_used_is_listed_and_says_why(self, host: Host, file: str, said: str) -> None:
        folder = host.models / "LLavacheckpoints" / "my joycaption"
        folder.mkdir(parents=True)
        (folder / file).write_text("{}")
        pack = Pack()
        assert folder.name in self.choices(pack)
        assert re.search(f"no usable model in .*my joycaption: .*{said}", str(self.validated(pack, folder.name)))
        with pytest.raises(pack.NodeError, match=f"^JoyCaption: .*my joycaption: .*{said}"):
            text(pack, load(pack, folder.name))

    def test_beta_one_that_is_not_here_names_the_choice_that_fetches_it(self, pack: Pack) -> None:
        told = self.validated(pack, "beta-one")
        assert told == f'the model "beta-one" is not on this machine; choose "{DOWNLOAD}" to fetch it.'

    @pytest.mark.parametrize("name", ["no-such-model", "someone/model"])
    def test_an_unknown_model(self, pack: Pack, name: str) -> None:
        assert self.validated(pack, name) == f'the model "{name}" is not on this machine.'
        with pytest.raises(pack.NodeError, match=f"^Load JoyCaption: input model: .*{name}"):
            load(pack, name)

    def test_what_is_linked_is_not_known_before_the_run(self, pack: Pack) -> None:
        assert self.validated(pack, None) is True
        pack.nodes["JoyCaptionLoad"].fingerprint_inputs(model=None, precision=None)


class TestWhereOthersCanAsk:
    """A graph is untrusted then: it may name models in ComfyUI's folders, and fetch the one that is offered."""

    @pytest.fixture(autouse=True)
    def reachable(self, host: Host) -> None:
        host.listen("0.0.0.0")

    def test_a_folder_elsewhere_is_neither_used_nor_described(self, pack: Pack, tmp_path: Path) -> None:
        folder = Path(shutil.copytree(MODEL, tmp_path / "private"))
        told = {str(pack.nodes["JoyCaptionLoad"].validate_inputs(model=str(path))) for path in (folder, tmp_path)}
        assert "True" not in told
        assert not any("no usable model" in sentence for sentence in told)
        with pytest.raises(pack.NodeError):
            text(pack, load(pack, str(folder)))

    def test_every_choice_can_be_used(self, host: Host, expected: str) -> None:
        shutil.copytree(MODEL, host.models / "LLM" / "mine")
        shutil.copytree(MODEL, host.models / "LLM" / "my models" / "number 1")  # chosen by its path
        pack = Pack()
        choices = pack.inputs("JoyCaptionLoad")["model"].options
        assert len(choices) == 4
        assert {pack.nodes["JoyCaptionLoad"].validate_inputs(model=choice) for choice in choices} == {True}
        assert {text(pack, load(pack, choice)) for choice in choices if choice != DOWNLOAD} == {expected}

    def test_two_of_one_name_can_be_told_apart(self, host: Host, expected: str) -> None:
        first, second = host.models / "LLM" / "mine", host.models / "VLM" / "mine"
        for folder in (first, second):
            shutil.copytree(MODEL, folder)
        pack = Pack()
        choices = pack.inputs("JoyCaptionLoad")["model"].options
        assert choices == ["demo", "mine", str(second), DOWNLOAD]
        (first / "model.safetensors").unlink()
        assert text(pack, load(pack, str(second))) == expected

    def test_a_folder_where_comfyui_was_started_hides_no_model(
        self, host: Host, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.copytree(MODEL, host.models / "LLM" / "mine")
        (tmp_path / "started" / "mine").mkdir(parents=True)
        monkeypatch.chdir(tmp_path / "started")
        pack = Pack()
        assert text(pack, load(pack, "mine")) == expected

    def test_only_the_offered_model_is_downloaded(self, pack: Pack) -> None:
        choice = DOWNLOAD.replace("beta-one", "someone/model")
        assert pack.nodes["JoyCaptionLoad"].validate_inputs(model=choice) is not True


def test_as_many_run_at_once_as_the_device_has_room_for(host: Host, pack: Pack, expected: str) -> None:
    model = load(pack, "demo")
    assert text(pack, model) == expected
    captioner = model.ready(40)
    assert captioner.batch_size == 32
    host.management.total_memory = int((captioner.weight_bytes + captioner.working_bytes(40, 6)) * 4 / 3) + 1
    assert model.ready(40).batch_size == 6
    assert model.ready(400).batch_size < 6


class TestDownload:
    @pytest.fixture
    def hub(self, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
        """A hub in whose repository the demo model lies, which this pack takes for beta-one."""
        files = {path.name: path.read_bytes() for path in MODEL.iterdir()}
        with serve(LocalHub(files)) as running:
            monkeypatch.setattr(constants, "ENDPOINT", running.endpoint)
            template = f"{running.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
            monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
            monkeypatch.setattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
            monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
            locate = pack.module("joycaption.model.locate")
            monkeypatch.setitem(locate.KNOWN_MODELS, "beta-one", locate.HubModel(REPO, COMMIT))
            yield running

    def test_the_first_caption_fetches_and_the_next_ones_do_not(
        self, host: Host, pack: Pack, hub: LocalHub, expected: str
    ) -> None:
        model = load(pack, DOWNLOAD)
        before = pack.nodes["JoyCaptionLoad"].fingerprint_inputs(model=DOWNLOAD, precision="auto")
        assert hub.seen == []
        assert text(pack, model) == expected
        after = pack.nodes["JoyCaptionLoad"].fingerprint_inputs(model=DOWNLOAD, precision="auto")
        assert after == before, "or ComfyUI would drop the model that has just come"
        assert host.bars[0] == sorted(host.bars[0]) and host.bars[0][-1] == host.utils.bars[0].total
        asked = len(hub.seen)
        assert text(pack, load(pack, DOWNLOAD)) == text(pack, load(pack, "beta-one")) == expected
        assert len(hub.seen) == asked > 0

    def test_a_stop_while_it_comes(self, host: Host, pack: Pack, hub: LocalHub, expected: str) -> None:
        model = load(pack, DOWNLOAD)
        host.at_update(3, host.press_stop)
        with pytest.raises(host.Interrupted):
            text(pack, model)
        assert model.patcher is None
        assert text(pack, model) == expected

    def test_without_the_choice_nothing_is_fetched(self, pack: Pack, hub: LocalHub) -> None:
        with pytest.raises(pack.NodeError, match=r"^Load JoyCaption: input model: .*beta-one"):
            load(pack, "beta-one")
        assert hub.seen == []

    def test_offline(self, pack: Pack) -> None:
        with pytest.raises(pack.NodeError, match=r"^JoyCaption: .*OFFLINE"):
            text(pack, load(pack, DOWNLOAD))


class TestFingerprint:
    def test_it_changes_with_the_models_files_and_only_then(self, mine: Path) -> None:
        pack = Pack()
        before, same = (self.of(pack, "mine") for _ in range(2))
        assert before == same
        change_weights(mine)
        changed = self.of(pack, "mine")
        (mine / "chat_template.jinja").write_text("{{ messages }}")
        assert len({str(one) for one in (before, changed, self.of(pack, "mine"))}) == 3

    def of(self, pack: Pack, model: str) -> object:
        return pack.nodes["JoyCaptionLoad"].fingerprint_inputs(model=model, precision="auto")

    @pytest.mark.parametrize("model", ["beta-one", DOWNLOAD, "no-such-model"])
    def test_a_model_that_is_not_here_has_a_steady_one(self, pack: Pack, model: str) -> None:
        assert self.of(pack, model) == self.of(pack, model)
