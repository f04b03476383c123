from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from huggingface_hub import constants

from joycaption.errors import CheckpointError
from joycaption.model import locate
from joycaption.model.locate import BETA_ONE, FoundModel, HubModel, find_model, hub_model, list_models

SHARDS = [f"model-0000{n}-of-00004.safetensors" for n in (1, 2, 3, 4)]


@pytest.fixture(autouse=True)
def empty_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "no cache"))
    monkeypatch.delenv("JOYCAPTION_MODELS", raising=False)
    monkeypatch.chdir(tmp_path)


def make_model(folder: Path, *weights: str, config: dict[str, object] | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config or {"model_type": "llava"}))
    for file in weights or ("model.safetensors",):
        (folder / file).write_bytes(b"weights")
    return folder


def make_sharded_model(folder: Path, present: list[str] = SHARDS) -> Path:
    make_model(folder, "model.safetensors.index.json", *present)
    index = {"weight_map": {f"layer.{n}": shard for n, shard in enumerate(SHARDS)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def cache_model(repo: str, commit: str, *weights: str) -> Path:
    """A model as huggingface_hub leaves it in its cache where links are not possible."""
    return make_model(Path(constants.HF_HUB_CACHE, f"models--{repo.replace('/', '--')}", "snapshots", commit), *weights)


class TestNames:
    def test_known_names_and_hub_ids(self) -> None:
        assert hub_model("beta-one") is hub_model(BETA_ONE.repo) is BETA_ONE
        assert hub_model("painters/small-llava") == HubModel("painters/small-llava")

    @pytest.mark.parametrize(
        "name", ["", "demo", "beta-two", "../models", "org/..", "/models/x", "a/b/c", "C:\\m", "a/b c"]
    )
    def test_other_names_are_no_hub_ids(self, name: str) -> None:
        assert hub_model(name) is None

    def test_demo_lies_in_the_package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert (Path(locate.__file__).parent.parent / "demo").resolve() == locate.DEMO_FOLDER.parent
        monkeypatch.setattr(locate, "DEMO_FOLDER", tmp_path / "package" / "demo")
        assert find_model("demo") is None
        make_model(tmp_path / "package" / "demo")
        make_model(tmp_path / "demo")  # a folder in the working directory does not stand in for it
        assert find_model("demo") == tmp_path / "package" / "demo"


class TestFolderPaths:
    @pytest.mark.parametrize("name", ["plain", "with spaces", "\N{ARTIST PALETTE} Bildmodell \u00fcber alles", "-dash"])
    def test_any_folder_name(self, tmp_path: Path, name: str) -> None:
        folder = make_model(tmp_path / name)
        assert find_model(str(folder)) == folder
        assert find_model(name) == Path(name)

    def test_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        assert find_model("~/model") is None
        make_model(tmp_path / "model")
        assert find_model("~/model") == tmp_path / "model"
        assert find_model("~nobody-of-that-name/model") is None

    def test_sharded(self, tmp_path: Path) -> None:
        assert find_model(str(make_sharded_model(tmp_path / "model"))) == tmp_path / "model"

    def test_missing_shards_are_named(self, tmp_path: Path) -> None:
        make_sharded_model(tmp_path / "model", present=[SHARDS[0], SHARDS[3]])
        with pytest.raises(CheckpointError, match=rf"of the 4 files .* 2 are missing: {SHARDS[1]}, {SHARDS[2]}\."):
            find_model(str(tmp_path / "model"))

    @pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 1}}'])
    def test_a_broken_index(self, tmp_path: Path, index: str) -> None:
        make_sharded_model(tmp_path / "model")
        (tmp_path / "model" / "model.safetensors.index.json").write_text(index)
        with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json cannot be read"):
            find_model(str(tmp_path / "model"))

    @pytest.mark.parametrize(
        ("weights", "reason"),
        [
            ("pytorch_model.bin", "pickle can run any code"),
            ("model.PT", "pickle can run any code"),
            ("model.pth", "pickle can run any code"),
            ("last.ckpt", "pickle can run any code"),
            ("llama-joycaption-Q4_K.gguf", "use the safetensors model"),
            ("model-00001-of-00004.safetensors", "neither model.safetensors nor model.safetensors.index.json"),
        ],
    )
    def test_other_weights_are_refused_with_the_reason(self, tmp_path: Path, weights: str, reason: str) -> None:
        folder = make_model(tmp_path / "model", weights)
        with pytest.raises(CheckpointError, match=reason):
            find_model(str(folder))

    def test_pickles_beside_safetensors_do_no_harm(self, tmp_path: Path) -> None:
        folder = make_model(tmp_path / "model", "model.safetensors", "training_args.bin")
        assert find_model(str(folder)) == folder

    def test_without_config(self, tmp_path: Path) -> None:
        (make_model(tmp_path / "model") / "config.json").unlink()
        with pytest.raises(CheckpointError, match=r"config\.json is missing"):
            find_model(str(tmp_path / "model"))

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"neither config\.json nor weights"):
            find_model(str(tmp_path))

    @pytest.mark.parametrize(
        ("file", "reason"),
        [("model.safetensors", "give the folder"), ("joy.gguf", "llama.cpp"), ("a.bin", "pickle"), ("x.txt", "folder")],
    )
    def test_a_file_is_no_folder(self, tmp_path: Path, file: str, reason: str) -> None:
        (tmp_path / file).write_bytes(b"x")
        with pytest.raises(CheckpointError, match=reason):
            find_model(str(tmp_path / file))


class TestSearchedFolders:
    @pytest.mark.parametrize(
        "place",
        ["beta-one", BETA_ONE.repo, BETA_ONE.repo.replace("/", "--"), BETA_ONE.repo.split("/")[1]],
    )
    @pytest.mark.parametrize("name", ["beta-one", BETA_ONE.repo])
    def test_beta_one_under_all_its_names(self, tmp_path: Path, name: str, place: str) -> None:
        folder = make_sharded_model(tmp_path / "models" / "LLM" / place)
        assert find_model(name, folders=[tmp_path / "models", tmp_path / "models" / "LLM"]) == folder
        assert find_model(name, folders=[str(folder)]) == folder
        assert find_model("painters/small-llava", folders=[folder]) is None

    def test_a_bare_folder_name(self, tmp_path: Path) -> None:
        folder = make_model(tmp_path / "models" / "my fine-tune")
        assert find_model("my fine-tune", folders=[tmp_path / "models"]) == folder
        assert find_model("../models/my fine-tune", folders=[tmp_path / "elsewhere"]) is None

    def test_the_environment_variable_is_read_at_each_call(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = make_model(tmp_path / "b \N{ARTIST PALETTE}" / "beta-one")
        assert find_model("beta-one") is None
        monkeypatch.setenv("JOYCAPTION_MODELS", os.pathsep.join([str(tmp_path / "a"), "", str(folder.parent)]))
        assert find_model("beta-one") == folder

    def test_given_folders_come_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        make_model(tmp_path / "variable" / "beta-one")
        given = make_model(tmp_path / "given" / "beta-one")
        monkeypatch.setenv("JOYCAPTION_MODELS", str(tmp_path / "variable"))
        assert find_model("beta-one", folders=[tmp_path / "given"]) == given

    def test_a_complete_copy_wins_over_a_broken_one(self, tmp_path: Path) -> None:
        make_sharded_model(tmp_path / "a" / "beta-one", present=SHARDS[:2])
        with pytest.raises(CheckpointError, match=SHARDS[3]):
            find_model("beta-one", folders=[tmp_path / "a", tmp_path / "b"])
        complete = make_sharded_model(tmp_path / "b" / "beta-one")
        assert find_model("beta-one", folders=[tmp_path / "a", tmp_path / "b"]) == complete

    def test_an_empty_folder_of_that_name_is_passed_over(self, tmp_path: Path) -> None:
        (tmp_path / "beta-one").mkdir()
        assert find_model("beta-one", folders=[tmp_path]) is None


class TestCache:
    @pytest.mark.parametrize(("name", "best"), [("beta-one", str(BETA_ONE.revision)), ("painters/llava", "b" * 40)])
    def test_the_pinned_revision_wins_else_the_newest(self, name: str, best: str) -> None:
        repo = (hub_model(name) or BETA_ONE).repo
        for age, commit in [(3, "f" * 40), (1, "b" * 40), (2, "a" * 40), (4, str(BETA_ONE.revision))]:
            for file in cache_model(repo, commit).iterdir():
                os.utime(file, (1e9 - age, 1e9 - age))
        found = find_model(name)
        assert found is not None
        assert found.name == best

    def test_any_complete_revision_will_do(self) -> None:
        cache_model(BETA_ONE.repo, str(BETA_ONE.revision), "pytorch_model.bin")
        other = cache_model(BETA_ONE.repo, "f" * 40)
        assert find_model("beta-one") == find_model(BETA_ONE.repo) == other

    def test_an_incomplete_snapshot_is_not_found(self) -> None:
        cache_model(BETA_ONE.repo, str(BETA_ONE.revision), "pytorch_model.bin")
        assert find_model("beta-one") is None

    def test_a_plain_folder_wins_over_the_cache(self, tmp_path: Path) -> None:
        cache_model(BETA_ONE.repo, str(BETA_ONE.revision))
        folder = make_model(tmp_path / "models" / "beta-one")
        assert find_model("beta-one", folders=[tmp_path / "models"]) == folder


class TestList:
    def names(self, models: list[FoundModel]) -> list[tuple[str, str]]:
        return [(model.name, model.kind) for model in models if model.name != "demo"]

    def test_what_is_found_can_be_asked_for_by_its_name(self, tmp_path: Path) -> None:
        root = tmp_path / "LLM"
        make_sharded_model(root / "llama-joycaption-beta-one-hf-llava")
        make_model(root / "painters--small-llava")
        make_model(root / "sculptors" / "llava")
        make_model(root / "my fine-tune")
        unnamed = make_model(root / "tests" / "second try")
        (root / "loop").symlink_to("loop")
        cache_model("potters/llava", "c" * 40)
        found = list_models([root, root / "sculptors"])
        assert dict(self.names(found)) == dict.fromkeys(
            ["beta-one", "my fine-tune", "painters/small-llava", "potters/llava", "llava", str(unnamed)], "safetensors"
        )
        for model in found:
            assert find_model(model.name, folders=[root, root / "sculptors"]) == model.path

    def test_what_cannot_be_used_is_listed_with_the_reason(self, tmp_path: Path) -> None:
        make_sharded_model(tmp_path / "a", present=SHARDS[:3])
        make_model(tmp_path / "b", "pytorch_model.bin")
        (tmp_path / "joycaption-gguf").mkdir()
        (tmp_path / "joycaption-gguf" / "Q8.gguf").write_bytes(b"x")
        found = {model.name: model for model in list_models([tmp_path])}
        assert found["a"].kind == "incomplete"
        assert SHARDS[3] in found["a"].note
        assert found["b"].kind == "pickle"
        assert found["joycaption-gguf"].kind == "gguf"
        assert found["joycaption-gguf"].bytes == 1

    def test_models_of_other_kinds_are_left_out(self, tmp_path: Path) -> None:
        make_model(tmp_path / "qwen", config={"model_type": "qwen2_vl"})
        (make_model(tmp_path / "odd") / "config.json").write_text("[]")
        make_model(tmp_path / ".hidden")
        (tmp_path / "loose.gguf").write_bytes(b"x")
        cache_model("writers/poems", "d" * 40).joinpath("config.json").write_text('{"model_type": "llama"}')
        assert self.names(list_models([tmp_path, tmp_path / "missing"])) == []

    def test_a_folder_that_is_a_model(self, tmp_path: Path) -> None:
        folder = make_model(tmp_path / "my model")
        make_model(folder / "checkpoint-100")
        (found,) = [model for model in list_models([folder]) if model.name != "demo"]
        assert (found.name, found.path) == ("my model", folder)
        assert found.bytes == sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
