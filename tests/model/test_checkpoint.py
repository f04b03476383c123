"""Weights from every key layout and from broken files."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.models import (
    Shape,
    library_logits,
    load_own_model,
    random_prompt,
    save_checkpoint,
    whole_logits,
)
from torch import Tensor

from joycaption.errors import Cancelled, CheckpointError
from joycaption.model.checkpoint import (
    expected_tensors,
    load_weights,
    own_name,
    parameter_count,
    published_tensors,
    weight_files,
)
from joycaption.model.config import parse_config, read_config

CPU = torch.device("cpu")
SHAPE = Shape(vision_use_head=True)  # as published: with the last vision layer, the post-norm and the pooling head
PROMPT = random_prompt(SHAPE, 0)
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"

Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the installed transformers saves; not to be changed."""
    folder = tmp_path_factory.mktemp("saved")
    save_checkpoint(folder, SHAPE)
    return folder


@pytest.fixture(scope="module")
def published(saved: Path) -> Weights:
    """The same weights under the published names, put together here without the code under test."""
    return {
        re.sub(r"^vision_tower\.(?!vision_model\.)", "vision_tower.vision_model.", key): tensor
        for key, tensor in load_file(saved / SINGLE).items()
    }


@pytest.fixture
def folder(tmp_path: Path, saved: Path) -> Path:
    """A model folder without weights."""
    (tmp_path / "config.json").write_bytes((saved / "config.json").read_bytes())
    return tmp_path


def write(folder: Path, weights: Weights, shards: int = 1) -> Path:
    """Write weights into one file, or spread over several with an index."""
    if shards == 1:
        save_file(weights, folder / SINGLE)
        return folder
    index: dict[str, str] = {}
    for number in range(shards):
        name = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = dict(list(weights.items())[number::shards])
        save_file(part, folder / name)
        index.update(dict.fromkeys(part, name))
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": index}), encoding="utf-8")
    return folder


def without_vision_model(key: str) -> str:
    return key.replace("vision_tower.vision_model.", "vision_tower.")


def module_names(key: str) -> str:
    """The names of modules since transformers 4.52."""
    key = key.replace("language_model.model.", "language_model.").replace("language_model.lm_head.", "lm_head.")
    return key if key.startswith("lm_head.") else f"model.{key}"


LAYOUTS: dict[str, Callable[[str], str]] = {
    "published": lambda key: key,
    "saved by version 5": without_vision_model,
    "modules of 4.52": module_names,
    "modules of 5": lambda key: module_names(without_vision_model(key)),
}


class TestLayouts:
    @pytest.mark.parametrize("shards", [1, 3])
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_every_layout_gives_the_same_logits(
        self, saved: Path, published: Weights, folder: Path, layout: str, shards: int
    ) -> None:
        write(folder, {LAYOUTS[layout](key): tensor for key, tensor in published.items()}, shards)
        expected = whole_logits(load_own_model(saved), PROMPT)
        assert torch.equal(whole_logits(load_own_model(folder), PROMPT), expected)

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_the_layouts_differ(self, published: Weights, layout: str) -> None:
        """So that the test above says something."""
        keys = {LAYOUTS[layout](key) for key in published}
        others = [{rename(key) for key in published} for name, rename in LAYOUTS.items() if name != layout]
        assert len(keys) == len(published)
        assert keys not in others

    def test_the_names_that_the_issue_and_the_model_card_give(self, published: Weights) -> None:
        assert {
            "language_model.model.embed_tokens.weight",
            "language_model.model.layers.2.self_attn.q_proj.weight",
            "language_model.lm_head.weight",
            "vision_tower.vision_model.embeddings.patch_embedding.weight",
            "vision_tower.vision_model.encoder.layers.2.mlp.fc1.bias",
            "vision_tower.vision_model.post_layernorm.weight",
            "vision_tower.vision_model.head.probe",
            "multi_modal_projector.linear_1.weight",
        } <= published.keys()

    @pytest.mark.oracle
    @pytest.mark.parametrize("options", [{}, {"max_shard_size": "100KB"}], ids=["single", "sharded"])
    def test_what_the_installed_transformers_saves(self, tmp_path: Path, options: dict[str, Any]) -> None:
        library = save_checkpoint(tmp_path, SHAPE, **options)
        assert (tmp_path / INDEX).exists() == bool(options)
        logits = whole_logits(load_own_model(tmp_path), PROMPT)
        torch.testing.assert_close(logits, library_logits(library, PROMPT), rtol=1e-4, atol=1e-4)

    def test_a_single_file_goes_before_an_index(self, published: Weights, folder: Path) -> None:
        """As in transformers; old shards beside a merged file are not read."""
        write(folder, published, shards=2)
        assert len(weight_files(folder)) == 2
        write(folder, published)
        assert weight_files(folder) == [folder / SINGLE]

    def test_saving_under_the_published_names_gives_the_file_back(self, published: Weights, saved: Path) -> None:
        written = published_tensors(load_own_model(saved))
        unused = {key for key in published if re.search(r"post_layernorm|\.head\.|vision.*layers\.2\.", key)}
        assert written.keys() == published.keys() - unused
        assert all(torch.equal(tensor, published[key]) for key, tensor in written.items())


class TestUnusedParts:
    """What never influences a caption may be there or not."""

    @pytest.mark.parametrize(
        "part", [r"vision.*layers\.2\.", "post_layernorm", "model.head", r"vision.*layers\.2\.|post_layern|model.head"]
    )
    def test_may_be_absent(self, saved: Path, published: Weights, folder: Path, part: str) -> None:
        kept = {key: tensor for key, tensor in published.items() if not re.search(part, key)}
        assert len(kept) < len(published)
        write(folder, kept)
        expected = whole_logits(load_own_model(saved), PROMPT)
        assert torch.equal(whole_logits(load_own_model(folder), PROMPT), expected)

    def test_may_hold_anything(self, saved: Path, published: Weights, folder: Path) -> None:
        """They are not read: not even numbers that are none change the logits."""
        unused = re.compile(r"vision.*layers\.2\.|post_layernorm|vision_model\.head\.")
        broken = {k: torch.full_like(t, torch.nan) if unused.search(k) else t for k, t in published.items()}
        assert sum(tensor.isnan().any() for tensor in broken.values()) > 10
        write(folder, broken)
        expected = whole_logits(load_own_model(saved), PROMPT)
        assert torch.equal(whole_logits(load_own_model(folder), PROMPT), expected)

    @pytest.mark.parametrize(
        "buffer",
        [
            "vision_tower.vision_model.embeddings.position_ids",
            "language_model.model.layers.0.self_attn.rotary_emb.inv_freq",
            "model.language_model.rotary_emb.inv_freq",
        ],
    )
    def test_buffers_of_old_versions_are_accepted(self, published: Weights, folder: Path, buffer: str) -> None:
        load_own_model(write(folder, {**published, buffer: torch.arange(4)}))

    def test_a_vision_layer_that_the_config_does_not_have(self, published: Weights, folder: Path) -> None:
        key = "vision_tower.vision_model.encoder.layers.3.mlp.fc1.bias"
        with pytest.raises(CheckpointError, match=f"unexpected: {re.escape(key)}"):
            load_own_model(write(folder, {**published, key: torch.zeros(64)}))


class TestWrongKeys:
    @pytest.mark.parametrize(
        "key",
        [
            "language_model.lm_head.weight",
            "language_model.model.embed_tokens.weight",
            "language_model.model.norm.weight",
            "language_model.model.layers.1.self_attn.k_proj.weight",
            "language_model.model.layers.2.mlp.up_proj.weight",
            "vision_tower.vision_model.embeddings.patch_embedding.bias",
            "vision_tower.vision_model.encoder.layers.1.self_attn.v_proj.bias",
            "multi_modal_projector.linear_2.bias",
        ],
    )
    @pytest.mark.parametrize("shards", [1, 2])
    def test_one_removed(self, published: Weights, folder: Path, key: str, shards: int) -> None:
        write(folder, {name: tensor for name, tensor in published.items() if name != key}, shards)
        with pytest.raises(CheckpointError, match=rf"do not fit their config\.json\. missing: {re.escape(key)}\.$"):
            load_own_model(folder)

    @pytest.mark.parametrize(
        ("key", "shape", "right"),
        [
            ("language_model.lm_head.weight", (511, 64), [512, 64]),
            ("language_model.model.layers.0.self_attn.q_proj.weight", (32, 64), [64, 64]),
            ("language_model.model.layers.0.self_attn.k_proj.weight", (64, 64), [32, 64]),
            ("language_model.model.layers.0.mlp.gate_proj.weight", (64, 128), [128, 64]),
            ("language_model.model.norm.weight", (1, 64), [64]),
            ("vision_tower.vision_model.embeddings.position_embedding.weight", (5, 32), [4, 32]),
            ("vision_tower.vision_model.embeddings.patch_embedding.weight", (32, 588), [32, 3, 14, 14]),
            ("multi_modal_projector.linear_1.bias", (), [64]),
        ],
    )
    def test_one_of_a_wrong_shape(
        self, published: Weights, folder: Path, key: str, shape: tuple[int, ...], right: list[int]
    ) -> None:
        write(folder, {**published, key: torch.zeros(shape)})
        wrong = re.escape(f"wrong shape: {key} is {list(shape)} instead of {right}.")
        with pytest.raises(CheckpointError, match=wrong):
            load_own_model(folder)

    @pytest.mark.parametrize(
        "key",
        [
            "language_model.model.layers.3.mlp.up_proj.weight",
            "language_model.model.layers.0.self_attn.q_proj.bias",
            "language_model.model.layers.0.self_attn.q_proj.lora_A.weight",
            "vision_tower.vision_model.embeddings.cls_token",
            "something.else",
        ],
    )
    def test_one_unexpected(self, published: Weights, folder: Path, key: str) -> None:
        with pytest.raises(CheckpointError, match=f"unexpected: {re.escape(key)}"):
            load_own_model(write(folder, {**published, key: torch.zeros(2)}))

    def test_one_twice_in_two_shards(self, published: Weights, folder: Path) -> None:
        write(folder, published, shards=2)
        key = "language_model.lm_head.weight"
        for file in folder.glob("*.safetensors"):
            save_file({**{name: tensor.clone() for name, tensor in load_file(file).items()}, key: published[key]}, file)
        with pytest.raises(CheckpointError, match=rf"00002-of-00002\.safetensors gives {re.escape(key)} again"):
            load_own_model(folder)

    def test_one_twice_under_the_names_of_two_layouts(self, published: Weights, folder: Path) -> None:
        with pytest.raises(CheckpointError, match=r"gives \S*lm_head\.weight again, after \S*lm_head\.weight"):
            load_own_model(write(folder, {**published, "lm_head.weight": torch.zeros(512, 64)}))

    def test_many_at_once_are_all_counted_and_the_first_named(self, published: Weights, folder: Path) -> None:
        kept = {key: tensor for key, tensor in published.items() if "language_model.model.layers.1." not in key}
        kept["extra"] = torch.zeros(1)
        kept["language_model.model.norm.weight"] = torch.zeros(3)
        with pytest.raises(CheckpointError) as error:
            load_own_model(write(folder, kept))
        message = str(error.value)
        assert re.search(r"missing: language_model\.model\.layers\.1\.\S+,", message)
        assert "and 3 more. unexpected: extra. wrong shape: language_model.model.norm.weight is [3]" in message

    def test_nothing_is_read_before_the_names_are_checked(self, published: Weights, folder: Path) -> None:
        calls: list[int] = []
        write(folder, {key: tensor for key, tensor in published.items() if "lm_head" not in key})
        with pytest.raises(CheckpointError, match="missing"):
            load(folder, progress=lambda done, total: calls.append(done))
        assert calls == []


class TestBrokenFiles:
    def test_a_missing_shard(self, published: Weights, folder: Path) -> None:
        write(folder, published, shards=3)
        (folder / "model-00002-of-00003.safetensors").unlink()
        with pytest.raises(CheckpointError, match=rf"lacks model-00002-of-00003\.safetensors, named in {INDEX}"):
            load_own_model(folder)

    def test_no_weights_at_all(self, folder: Path) -> None:
        (folder / "pytorch_model.bin").write_bytes(b"pickle")
        with pytest.raises(CheckpointError, match="Only safetensors weights are read"):
            load_own_model(folder)

    @pytest.mark.parametrize("kept", [0, 7, 8, 100, -1000, -1])
    @pytest.mark.parametrize("shards", [1, 2])
    def test_cut_short(self, published: Weights, folder: Path, kept: int, shards: int) -> None:
        write(folder, published, shards)
        file = sorted(folder.glob("*.safetensors"))[-1]
        file.write_bytes(file.read_bytes()[:kept])
        with pytest.raises(CheckpointError, match=rf"{re.escape(str(file))} is damaged or cut short"):
            load_own_model(folder)

    @pytest.mark.parametrize(
        "content", [b"<!DOCTYPE html><html>404</html>", struct.pack("<Q", 2**63) + b"{}", b"version https://git-lfs"]
    )
    def test_something_else_under_the_name(self, folder: Path, content: bytes) -> None:
        (folder / SINGLE).write_bytes(content)
        with pytest.raises(CheckpointError, match=rf"{SINGLE} is damaged or cut short"):
            load_own_model(folder)

    @pytest.mark.parametrize(
        ("form", "name"),
        [
            (torch.float8_e4m3fn, "F8_E4M3"),
            (torch.float8_e5m2, "F8_E5M2"),
            (torch.int8, "I8"),
            (torch.uint8, "U8"),
            (torch.float64, "F64"),
        ],
    )
    def test_number_formats_that_are_not_read(
        self, published: Weights, folder: Path, form: torch.dtype, name: str
    ) -> None:
        key = "language_model.model.layers.1.mlp.down_proj.weight"
        write(folder, {**published, key: published[key].to(form)})
        with pytest.raises(CheckpointError, match=rf"{SINGLE} keeps {re.escape(key)} as {name}; only F32, F16, BF16"):
            load_own_model(folder)

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "{",
            "[]",
            "null",
            "{}",
            '{"weight_map": {}}',
            '{"weight_map": null}',
            '{"weight_map": []}',
            '{"weight_map": {"a": 1}}',
            '{"weight_map": {"a": null, "b": "model.safetensors"}}',
            '{"weight_map": {"a": ["x"]}}',
            "[" * 100_000,
        ],
        ids=range(12),
    )
    def test_an_index_that_is_none(self, folder: Path, content: str) -> None:
        (folder / INDEX).write_text(content, encoding="utf-8")
        with pytest.raises(CheckpointError, match=rf"{re.escape(str(folder / INDEX))} (cannot be read|names no files)"):
            load_own_model(folder)

    def test_an_index_in_another_encoding(self, folder: Path) -> None:
        (folder / INDEX).write_bytes(b"\xff\xfe{\x00}\x00")
        with pytest.raises(CheckpointError, match="cannot be read"):
            load_own_model(folder)

    def test_an_index_does_not_lead_out_of_the_folder(self, published: Weights, folder: Path) -> None:
        outside = folder / "outside"
        model = folder / "model"
        outside.mkdir()
        model.mkdir()
        save_file(published, outside / "weights.safetensors")
        (model / "config.json").write_bytes((folder / "config.json").read_bytes())
        index = {"weight_map": dict.fromkeys(published, "../outside/weights.safetensors")}
        (model / INDEX).write_text(json.dumps(index), encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"lacks weights\.safetensors"):
            load_own_model(model)

    def test_the_index_and_the_files_disagree(self, published: Weights, folder: Path) -> None:
        """What counts is what the files hold."""
        write(folder, published, shards=2)
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        index["weight_map"]["language_model.ghost.weight"] = "model-00001-of-00002.safetensors"
        (folder / INDEX).write_text(json.dumps(index), encoding="utf-8")
        load_own_model(folder)


class TestPrecision:
    @pytest.mark.parametrize("target", [torch.float32, torch.float16, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("kept", [torch.float32, torch.float16, torch.bfloat16], ids=str)
    def test_every_format_into_every_other(
        self, published: Weights, folder: Path, kept: torch.dtype, target: torch.dtype
    ) -> None:
        weights = {key: tensor.to(kept) for key, tensor in published.items()}
        loaded = published_tensors(load_own_model(write(folder, weights), target))
        assert len(loaded) > 50
        for key, tensor in loaded.items():
            assert tensor.dtype == target
            assert torch.equal(tensor, weights[key].to(target)), key

    def test_formats_mixed_in_one_file(self, published: Weights, folder: Path) -> None:
        mixed = {k: t.bfloat16() if "q_proj" in k else t.half() if "k_proj" in k else t for k, t in published.items()}
        loaded = published_tensors(load_own_model(write(folder, mixed)))
        assert all(torch.equal(tensor, mixed[key].float()) for key, tensor in loaded.items())

    def test_ready_to_run(self, saved: Path) -> None:
        model = load_own_model(saved)
        assert not model.training
        assert not any(parameter.requires_grad or parameter.is_meta for parameter in model.parameters())


class TestProgressAndCancelling:
    def test_progress_counts_the_bytes_that_are_read(self, saved: Path, published: Weights) -> None:
        calls: list[tuple[int, int]] = []
        model = load(saved, progress=lambda done, total: calls.append((done, total)))
        used = published_tensors(model)
        assert len(calls) == len(used)
        done = [call[0] for call in calls]
        assert done == sorted(set(done))
        total = sum(tensor.nbytes for tensor in used.values())
        assert {call[1] for call in calls} == {total}
        assert done[-1] == total < sum(tensor.nbytes for tensor in published.values())

    @pytest.mark.parametrize("tensors", [0, 1, 30])
    def test_cancelled_between_tensors(self, saved: Path, tensors: int) -> None:
        loaded: list[int] = []
        with pytest.raises(Cancelled):
            load(
                saved,
                progress=lambda done, total: loaded.append(done),
                should_stop=lambda: len(loaded) == tensors,
            )
        assert len(loaded) == tensors

    def test_an_exception_in_a_callback_goes_through(self, saved: Path) -> None:
        def fail(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            load(saved, progress=fail)
        load(saved)


def load(folder: Path, **options: Any) -> Any:
    return load_weights(folder, read_config(folder), device=CPU, dtype=torch.float32, **options)


# -- Memory -------------------------------------------------------------------------------------------------------

MEASURE = """
import json, re, sys
from pathlib import Path
import torch
from joycaption.model.checkpoint import load_weights, parameter_count
from joycaption.model.config import read_config

def memory(field):
    return int(re.search(field + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

folder, dtype = Path(sys.argv[1]), getattr(torch, sys.argv[2])
config = read_config(folder)
parameter_count(config)  # building on the meta device for the first time imports much of torch
private, resident, peak = memory("RssAnon"), memory("VmRSS"), 0
def watch(done, total):
    global peak
    peak = max(peak, memory("RssAnon"))
model = load_weights(folder, config, device=torch.device("cpu"), dtype=dtype, progress=watch)
weights = sum(parameter.nbytes for parameter in model.parameters())
print(json.dumps({"weights": weights, "private": peak - private, "resident": memory("VmHWM") - resident}))
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A model of 200 MB in fp32, in one file and in six."""
    shape = Shape(hidden=768, layers=8, heads=12, kv_heads=12, head_dim=64, vocabulary=2048)
    folders = {1: tmp_path_factory.mktemp("single"), 6: tmp_path_factory.mktemp("sharded")}
    save_checkpoint(folders[1], shape)
    (folders[6] / "config.json").write_bytes((folders[1] / "config.json").read_bytes())
    write(folders[6], load_file(folders[1] / SINGLE), shards=6)
    return folders


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory use from /proc")
@pytest.mark.parametrize(("shards", "target"), [(1, "float32"), (6, "bfloat16")])
def test_no_second_copy_in_memory(
    large: dict[int, Path], shards: int, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Private memory grows by the model's size and no more. What is resident besides are pages of the file that is
    being read, which the system takes back when it needs them; they go with each shard."""
    command = [sys.executable, "-c", MEASURE, str(large[shards]), target]
    measured = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    weights, private, resident = (measured[key] for key in ("weights", "private", "resident"))
    with capsys.disabled():
        print(f"\nloading {weights / 1e6:.0f} MB in {target} from {shards} file(s): ", end="")
        print(f"private memory {private / weights:.2f}, resident {resident / weights:.2f} of the model's size")
    assert weights > (95e6 if target == "bfloat16" else 190e6)
    largest = max(file.stat().st_size for file in large[shards].glob("*.safetensors"))
    assert 0.95 * weights < private < 1.05 * weights + 8e6
    assert resident < 1.05 * weights + 1.1 * largest + 8e6


# -- Beta One's size, without its weights -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def beta_one() -> tuple[Any, dict[str, torch.Size]]:
    """Our config of Beta One's figures, and every tensor of the library's model, by the installed version's names."""
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    raw = {
        "model_type": "llava",
        "image_token_index": 128077,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "full",
        "text_config": {
            "model_type": "llama",
            "vocab_size": 128256,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0,
            "rope_scaling": {**rope, "original_max_position_embeddings": 8192},
            "tie_word_embeddings": False,
        },
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "image_size": 384,
            "patch_size": 14,
        },
        "tie_word_embeddings": False,
    }
    config = parse_config(raw)
    with torch.device("meta"):
        library = transformers.LlavaForConditionalGeneration(transformers.LlavaConfig(**raw))
    return config, {name: parameter.shape for name, parameter in library.named_parameters()}


def to_published(name: str) -> str:
    """From the module names of any version of transformers, one by one."""
    name = name.removeprefix("model.")
    if name.startswith("lm_head."):
        return f"language_model.{name}"
    name = re.sub(r"^language_model\.(?!model\.|lm_head\.)", "language_model.model.", name)
    return re.sub(r"^vision_tower\.(?!vision_model\.)", "vision_tower.vision_model.", name)


@pytest.mark.oracle
def test_every_published_key_of_beta_one_is_mapped(
    beta_one: tuple[Any, dict[str, torch.Size]], capsys: pytest.CaptureFixture[str]
) -> None:
    config, library = beta_one
    published = {to_published(name): shape for name, shape in library.items()}
    assert len(published) == len(library) == 291 + 4 + 3 + 27 * 16 + 2 + 11  # Llama, projector, SigLIP and its head
    not_run = re.compile(r"^vision_tower\.vision_model\.(encoder\.layers\.26|post_layernorm|head)\.")
    expected = {name: torch.Size(place.shape) for name, place in expected_tensors(config).items()}
    assert {own_name(key): shape for key, shape in published.items() if not not_run.match(key)} == expected
    assert {own_name(key) for key in library} == {own_name(key) for key in published}
    count = parameter_count(config)
    with capsys.disabled():
        print(f"\nBeta One: {count:,} weights run of {sum(shape.numel() for shape in library.values()):,}")
    assert count == sum(shape.numel() for key, shape in published.items() if not not_run.match(key))
    assert 8.4e9 < count < 8.5e9


@pytest.mark.skipif(sys.platform != "linux", reason="needs files with holes: 17 GB that take no room")
def test_the_published_files_of_beta_one_load_on_the_meta_device(
    beta_one: tuple[Any, dict[str, torch.Size]], tmp_path: Path
) -> None:
    """Four shards with real headers and nothing behind them, through the loader itself."""
    config, library = beta_one
    write_hollow(tmp_path, {to_published(name): shape for name, shape in library.items()}, shards=4)
    calls: list[tuple[int, int]] = []
    model = load_weights(
        tmp_path,
        config,
        device=torch.device("meta"),
        dtype=torch.bfloat16,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert sum(parameter.numel() for parameter in model.parameters()) == parameter_count(config)
    assert calls[-1] == (2 * parameter_count(config),) * 2
    assert len(calls) == len(expected_tensors(config))


def write_hollow(folder: Path, tensors: dict[str, torch.Size], shards: int) -> None:
    index = {}
    for number in range(shards):
        name, header, end = f"model-{number + 1:05}-of-{shards:05}.safetensors", {}, 0
        for key, shape in list(tensors.items())[number::shards]:
            start, end = end, end + 2 * shape.numel()
            header[key] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
            index[key] = name
        text = json.dumps(header).encode()
        with (folder / name).open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + end)
        with safe_open(folder / name, framework="pt") as handle:
            assert len(handle.keys()) == len(header)
    (folder / INDEX).write_text(json.dumps({"weight_map": index}), encoding="utf-8")
