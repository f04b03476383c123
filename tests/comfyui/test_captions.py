"""The caption, load and options nodes in a real ComfyUI, over HTTP and websocket."""

from __future__ import annotations

import random
import re
import time
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from support import graphs
from support.comfyui import Client, Rejected, Server
from support.models import RANDOM_26M, save_checkpoint
from support.pictures import SIZES, draw_picture, draw_pictures

from joycaption import CaptionModel, Sampling, build_prompt, load


@pytest.fixture(scope="module")
def demo() -> CaptionModel:
    return load("demo")


@pytest.fixture(scope="module")
def pictures(comfy: Server) -> list[str]:
    """Fifty pictures of seven sizes in the input folder."""
    names = []
    for number, path in enumerate(draw_pictures(comfy.folder / "input", 50)):
        Image.open(path).resize(SIZES[number % len(SIZES)]).save(path)
        names.append(path.name)
    return names


@pytest.fixture(scope="module")
def small(comfy: Server) -> str:
    """A model that is slow enough to be interrupted anywhere."""
    save_checkpoint(comfy.folder / "models" / "joycaption" / "small", RANDOM_26M, spread=0.05)
    return "small"


def texts(result: Any, node: str = "caption") -> list[str]:
    assert result.error is None, result.error["exception_message"]
    shown: list[str] = result.outputs[node]["text"]
    return shown


def loads(server: Server) -> int:
    """How often weights were loaded."""
    return server.log().count("Requested to load JoyCaptionWeights")


def test_the_pack_loads_without_a_warning(comfy: Server) -> None:
    log, *_ = comfy.log().split("got prompt")
    assert re.search(r"[\d.]+ seconds: \S*joycaption", log)
    assert not re.search(r"^\[(WARNING|ERROR)\]|^Traceback|IMPORT FAILED", log, re.MULTILINE)


def test_text_equals_the_librarys(comfy: Server, client: Client, demo: CaptionModel) -> None:
    path = draw_picture(comfy.folder / "input" / "one.png", 5)
    graph = graphs.single("one.png", options=["options", 0], seed=7, **graphs.SAMPLED)
    graph["options"] = graphs.options(type="Straightforward", length="short", lighting=True, name="Mira")
    result = client.run(graph)
    chosen: dict[str, Any] = {"type": "straightforward", "length": "short", "extras": ["lighting"], "name": "Mira"}
    expected = demo.caption(path, seed=7, sampling=Sampling(max_new_tokens=200), **chosen)
    assert texts(result) == [expected.text]
    assert texts(result, "options") == [build_prompt(**chosen)]


def test_a_list_of_sizes_keeps_its_order(
    comfy: Server, client: Client, demo: CaptionModel, pictures: list[str]
) -> None:
    result = client.run(graphs.listed(pictures, seed=3, **graphs.SAMPLED))
    paths = [comfy.folder / "input" / name for name in pictures]
    captions = dict(demo.caption_many(paths, seed=3, sampling=Sampling(max_new_tokens=200)))
    assert texts(result) == [captions[position].text for position in range(len(paths))]
    assert result.executed.count("caption") == 1


def test_progress_moves_within_a_caption_and_never_back(client: Client, pictures: list[str], small: str) -> None:
    result = client.run(graphs.single(pictures[0], small, max_tokens=600))
    states = [data["nodes"].get("caption", {}) for data in result.of("progress_state")]
    values = [state["value"] / state["max"] for state in states if state.get("max") == 600]
    assert values == sorted(values)
    assert len(set(values)) > 5


def test_another_type_neither_reloads_nor_runs_more_than_it_must(client: Client, comfy: Server) -> None:
    graph = {**graphs.drawn(), "model": graphs.load(), "options": graphs.options()}
    graph["caption"] = graphs.caption("drawn", options=["options", 0])
    assert "red square" in texts(client.run(graph))[0]
    before = loads(comfy)
    graph["options"] = graphs.options(type="Booru-like tag list")
    result = client.run(graph)
    assert "red square" in texts(result)[0]
    assert "," in texts(result)[0]
    assert result.cached >= {"model", "drawn"}
    assert loads(comfy) == before


def test_two_loaders_share_one_model(client: Client, comfy: Server) -> None:
    client.run({**graphs.drawn(), "model": graphs.load(), "caption": graphs.caption("drawn")})
    before = loads(comfy)
    graph = {**graphs.drawn(0x00FF00), "model": graphs.load(), "other": graphs.load()}
    graph |= {"caption": graphs.caption("drawn"), "again": graphs.caption("drawn", model="other")}
    result = client.run(graph)
    assert texts(result) == texts(result, "again")
    assert loads(comfy) == before


def test_unload_models_frees_the_weights_and_they_come_back(
    client: Client, comfy: Server, pictures: list[str], small: str
) -> None:
    server = psutil.Process(comfy.process.pid)
    weights = (comfy.folder / "models" / "joycaption" / small / "model.safetensors").stat().st_size
    expected = texts(client.run(graphs.single(pictures[1], small, max_tokens=60)))
    full, before = server.memory_info().rss, loads(comfy)
    deadline = time.monotonic() + 20
    while server.memory_info().rss > full - 0.8 * weights and time.monotonic() < deadline:
        client.free(unload_models=True, free_memory=False)  # ComfyUI may sleep through the first one
        time.sleep(0.2)
    assert server.memory_info().rss < full - 0.8 * weights
    result = client.run(graphs.single(pictures[1], small, max_tokens=60, seed=1))  # greedy: the seed changes nothing
    assert texts(result) == expected
    assert loads(comfy) == before + 1


def test_interrupted_anywhere_and_right_the_next_time(
    client: Client, comfy: Server, pictures: list[str], small: str
) -> None:
    """Twenty times, after a random number of the progress events of loading and of 4 captions of 400 tokens."""

    def graph(seed: int, tokens: int = 400) -> graphs.Graph:  # greedy: the seed only keeps results from being reused
        return graphs.listed(pictures[:4], small, max_tokens=tokens, seed=seed)

    expected = texts(client.run(graph(0, 60)))
    moments, while_loading = random.Random(0), 0
    for attempt in range(1, 21):
        wait_until_free(client, comfy)
        id = client.queue(graph(attempt))
        events = client.events(id)
        for _ in range(moments.randint(1, 6)):
            last = next(
                event for event in events if event.type == "progress_state" and "caption" in event.data["nodes"]
            )
        while_loading += last.data["nodes"]["caption"]["max"] > 1600
        client.interrupt()
        assert client.wait(id).interrupted
        if attempt % 5 == 0:
            assert texts(client.run(graph(100 + attempt, 60))) == expected
    assert 0 < while_loading < 20


def wait_until_free(client: Client, server: Server) -> None:
    """Have the weights dropped: ComfyUI may sleep through the first request."""
    small, before = graphs.drawn(0x0000FF), loads(server)
    while loads(server) == before:
        client.free(unload_models=True, free_memory=True)
        client.run({**small, "model": graphs.load(), "caption": graphs.caption("drawn", max_tokens=1)})


class TestBadInput:
    """A sentence that names node and input, and nothing else is lost."""

    def failure(self, client: Client, graph: graphs.Graph) -> str:
        result = client.run(graph)
        assert result.error is not None
        message: str = result.error["exception_message"]
        return message

    def refusal(self, client: Client, graph: graphs.Graph, node: str) -> str:
        with pytest.raises(Rejected) as refused:
            client.run(graph)
        (error,) = refused.value.node_errors[node]
        return f"{error['message']}: {error['details']}"

    def test_alpha_is_laid_on_white(self, client: Client, comfy: Server) -> None:
        picture = np.zeros((256, 256, 4), np.uint8)
        picture[80:180, 80:180] = 255, 0, 0, 255
        Image.fromarray(picture).save(comfy.folder / "input" / "alpha.png")
        graph = graphs.single("alpha.png")
        graph["joined"] = graphs.node("JoinImageWithAlpha", image=["picture", 0], alpha=["picture", 1])
        graph["caption"]["inputs"]["image"] = ["joined", 0]
        text = texts(client.run(graph))[0]
        assert "red square" in text
        assert "white background" in text

    def test_a_mask_is_no_picture(self, client: Client) -> None:
        graph = {
            **graphs.drawn(),
            "model": graphs.load(),
            "mask": graphs.node("SolidMask", value=1.0, width=9, height=9),
        }
        graph["caption"] = graphs.caption("mask")
        assert "image, received_type(MASK)" in self.refusal(client, graph, "caption")

    def test_braces_are_taken_as_they_are(self, client: Client, comfy: Server, demo: CaptionModel) -> None:
        path = draw_picture(comfy.folder / "input" / "braces.png", 8)
        prompt = "Write {name} {a|b} {{word_count}} a short description for this image."
        text = texts(client.run(graphs.single("braces.png", custom_prompt=prompt)))
        assert text == [demo.caption(path, prompt=prompt, sampling=Sampling.greedy(200)).text]

    def test_an_option_that_is_gone(self, client: Client) -> None:
        graph = {**graphs.drawn(), "model": graphs.load(), "options": graphs.options(type="Descriptive (Formal)")}
        graph["caption"] = graphs.caption("drawn", options=["options", 0])
        assert "type: 'Descriptive (Formal)' not in" in self.refusal(client, graph, "options")

    def test_a_folder_without_weights_and_a_gguf_file(self, client: Client, comfy: Server) -> None:
        models = comfy.folder / "models"
        empty, gguf = models / "LLM" / "joycaption-empty", models / "LLavacheckpoints" / "joycaption-gguf"
        for model in (empty, gguf):
            model.mkdir(parents=True)
        (empty / "config.json").write_text('{"model_type": "llava"}', encoding="utf-8")
        (gguf / "joycaption.Q4_K.gguf").touch()
        for model, reason in ((empty, "neither model.safetensors nor"), (gguf, "GGUF files are made for llama.cpp")):
            graph = {**graphs.drawn(), "model": graphs.load(model.name), "caption": graphs.caption("drawn")}
            refusal = self.refusal(client, graph, "model")
            assert "model" in refusal
            assert reason in refusal

    def test_a_model_that_is_not_here(self, client: Client) -> None:
        graph = {**graphs.drawn(), "model": graphs.load("beta-one"), "caption": graphs.caption("drawn")}
        assert 'choose "beta-one (17 GB download)"' in self.refusal(client, graph, "model")
        graph["model"] = graphs.load("beta-one (17 GB download)")
        assert "HF_HUB_OFFLINE forbids it" in self.failure(client, graph)

    def test_a_picture_that_fails_does_not_lose_the_others(self, client: Client, comfy: Server) -> None:
        graph = {**graphs.drawn(), "model": graphs.load(), "caption": graphs.caption("list")}
        # Values from -5 to 5, as nodes give them that prepare pictures for a network.
        graph["broken"] = graphs.node("NormalizeImages", images=["drawn", 0], mean=0.5, std=0.1)
        graph["list"] = graphs.joined(["drawn", "broken", "drawn"])
        result = client.run(graph)
        assert result.error is None
        problem, first, second, third = result.outputs["caption"]["text"]
        assert problem.startswith("Picture 2 of 3 failed: ")
        assert "must be from 0 to 1" in problem
        assert (first, second) == (third, "")
        assert "red square" in first
        assert problem in comfy.log()
        graph["list"] = graphs.joined(["broken", "broken"])
        assert self.failure(client, graph).startswith("JoyCaption: no picture of image got a caption. ")
