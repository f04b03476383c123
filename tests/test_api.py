"""The Python face, on the built-in demo model."""

from __future__ import annotations

import functools
import gc
import io
import random
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import joycaption
from joycaption import (
    Caption,
    CaptionModel,
    ImageError,
    ModelError,
    ModelNotFound,
    PromptError,
    Request,
    Sampling,
    UsageError,
    build_prompt,
    derive_seed,
)
from joycaption.demo.scenes import draw, random_scene

GREEDY = Sampling.greedy(30)
WILD = Sampling(temperature=3.0, top_p=1.0, max_new_tokens=12)  # a seed of its own, a text of its own


@pytest.fixture(scope="module")
def model() -> CaptionModel:
    return joycaption.load("demo", device="cpu", precision="fp32", batch_size=4)


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [draw(random_scene(random.Random(number)), 120 * 120) for number in range(4)]


@pytest.fixture
def png(pictures: list[Image.Image], tmp_path: Path) -> Path:
    path = tmp_path / "a scene \N{ARTIST PALETTE}.png"
    pictures[0].save(path)
    return path


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where a web server gives out the files of ``tmp_path``."""

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=str(tmp_path))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def told(caption: Caption) -> tuple[str, str, int, int, float | None]:
    """Everything but the time it took."""
    return caption.text, caption.finish_reason, caption.prompt_tokens, caption.tokens, caption.mean_logprob


def results(pairs: Iterator[tuple[int, Caption]]) -> list[str]:
    """The texts in the order of the pictures."""
    found = dict(pairs)
    assert sorted(found) == list(range(len(found)))
    assert all(caption.error is None for caption in found.values())
    return [found[position].text for position in range(len(found))]


def test_the_shortest_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scene = random_scene(random.Random(3), count=2)
    draw(scene).save(tmp_path / "picture.jpg", quality=95)
    model = joycaption.load("demo")
    print(model.caption(tmp_path / "picture.jpg").text)
    text = capsys.readouterr().out
    assert f"{scene.background} background" in text
    assert all(f"{item.color} {item.shape}" in text for item in scene.objects)


IMAGES: dict[str, Callable[[Path, Image.Image], Any]] = {
    "path": lambda path, picture: path,
    "text": lambda path, picture: str(path),
    "bytes": lambda path, picture: path.read_bytes(),
    "PIL": lambda path, picture: picture,
    "PIL with alpha": lambda path, picture: picture.convert("RGBA"),
    "array": lambda path, picture: np.asarray(picture),
    "array of channels first": lambda path, picture: np.asarray(picture).transpose(2, 0, 1),
    "array of floats": lambda path, picture: np.asarray(picture).astype(np.float32) / 255,
    "tensor": lambda path, picture: torch.from_numpy(np.asarray(picture).copy()),
    "ComfyUI tensor": lambda path, picture: torch.from_numpy(np.asarray(picture).astype(np.float32) / 255)[None],
}


class TestOnePicture:
    @pytest.mark.parametrize("kind", IMAGES)
    def test_every_kind_of_input_gives_the_same(
        self, model: CaptionModel, pictures: list[Image.Image], png: Path, kind: str
    ) -> None:
        expected = model.caption(pictures[0], sampling=GREEDY)
        assert expected.text
        assert told(model.caption(IMAGES[kind](png, pictures[0]), sampling=GREEDY)) == told(expected)
        assert told(model.caption(pictures[1], sampling=GREEDY)) != told(expected)

    def test_an_address_gives_the_same(self, model: CaptionModel, png: Path, address: str) -> None:
        caption = model.caption(f"{address}/{png.name}", sampling=GREEDY)
        assert told(caption) == told(model.caption(png, sampling=GREEDY))

    def test_options_make_the_prompt(self, model: CaptionModel, png: Path) -> None:
        options: dict[str, Any] = {
            "type": "straightforward", "length": "short", "extras": ["lighting"], "tone": "wry", "tags": ["a", "b"],
            "name": "Ada",
        }  # fmt: skip
        by_options = model.caption(png, sampling=GREEDY, **options)
        by_prompt = model.caption(png, sampling=GREEDY, prompt=build_prompt(**options))
        assert told(by_options) == told(by_prompt)
        assert told(by_options) != told(model.caption(png, sampling=GREEDY))

    def test_your_own_prompt_goes_before_the_options(self, model: CaptionModel, png: Path) -> None:
        own = model.caption(png, prompt="Name the shapes.", length="short", sampling=GREEDY)
        assert told(own) == told(model.caption(png, prompt="Name the shapes.", sampling=GREEDY))

    def test_your_own_prompt_keeps_extras_name_and_tags(self, model: CaptionModel, png: Path) -> None:
        options: dict[str, Any] = {"extras": ["lighting"], "name": "Ada", "tags": ["a"]}
        own = model.caption(png, prompt="Name {it}.", seed=1, sampling=WILD, **options)
        whole = build_prompt(instruction="Name {it}.", **options)
        assert own.prompt_tokens == len(model.captioner.prompt(Request(png, whole)).tokens)  # type: ignore[attr-defined]
        assert own.text != model.caption(png, prompt="Name {it}.", seed=1, sampling=WILD).text

    def test_begin_with_and_system(self, model: CaptionModel, png: Path) -> None:
        assert model.caption(png, begin_with="A large", sampling=GREEDY).text.startswith("A large")
        default = model.caption(png, sampling=GREEDY)
        assert model.caption(png, system="Be brief.", sampling=GREEDY).prompt_tokens != default.prompt_tokens

    def test_the_default_sampling_is_the_authors(self, model: CaptionModel, png: Path) -> None:
        assert told(model.caption(png, seed=3)) == told(model.caption(png, seed=3, sampling=Sampling()))

    def test_the_seed(self, model: CaptionModel, png: Path) -> None:
        texts = [model.caption(png, seed=seed, sampling=WILD).text for seed in (0, 0, 1, 2**64 - 1)]
        assert texts[0] == texts[1]
        assert len(set(texts)) == 3

    def test_streaming(self, model: CaptionModel, png: Path) -> None:
        heard: list[tuple[int, str]] = []
        caption = model.caption(png, sampling=GREEDY, on_text=lambda *told: heard.append(told))
        assert heard
        assert all(position == 0 and caption.text.startswith(text) for position, text in heard)

    def test_stopping(self, model: CaptionModel, png: Path) -> None:
        asked = count()
        caption = model.caption(png, sampling=WILD, should_stop=lambda: next(asked) >= 2)
        assert (caption.finish_reason, caption.complete) == ("interrupted", False)
        at_once = model.caption(png, should_stop=lambda: True)
        assert (at_once.text, at_once.finish_reason, at_once.error) == ("", "interrupted", None)


class TestErrors:
    @pytest.mark.parametrize(
        "image",
        [
            "no such file.png",
            Path("no such file.png"),
            b"no picture",
            "http://127.0.0.1:9/none.png",
            "ftp://127.0.0.1/a.png",
            np.zeros((2, 2, 2, 2, 2), np.uint8),
            None,
        ],
        ids=lambda image: type(image).__name__,
    )
    def test_a_picture_that_cannot_be_read(self, model: CaptionModel, image: Any) -> None:
        with pytest.raises(ImageError, match="Cannot "):
            model.caption(image)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"type": "poem"}, "caption type 'poem'"),
            ({"length": "huge"}, "length is 'huge'"),
            ({"length": 0}, "length is 0"),
            ({"extras": ["smell"]}, "extra option 'smell'"),
            ({"extras": ["name"]}, "name"),
            ({"tone": " "}, "tone is blank"),
            ({"prompt": " "}, "instruction is ' '"),
        ],
    )
    def test_wrong_prompt_options(self, model: CaptionModel, png: Path, options: Any, message: str) -> None:
        with pytest.raises(PromptError, match=message):
            model.caption(png, **options)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"seed": -1}, "seed is -1"),
            ({"prompt": 5}, "instruction is 5"),
            ({"system": 5}, "system is 5"),
            ({"begin_with": None}, "begin_with is None"),
            ({"sampling": {"temperature": 1}}, "sampling is {'temperature': 1}"),
            ({"on_text": "print"}, "on_text must be callable"),
            ({"should_stop": False}, "should_stop must be callable"),
        ],
    )
    def test_wrong_options_are_told_at_the_call(
        self, model: CaptionModel, png: Path, options: Any, message: str
    ) -> None:
        with pytest.raises(UsageError, match=message):
            model.caption(png, **options)
        with pytest.raises(UsageError, match=message):
            model.caption_many([png], **options)

    def test_an_unknown_option(self, model: CaptionModel, png: Path) -> None:
        with pytest.raises(TypeError, match="beams"):
            model.caption(png, beams=3)

    def test_a_failure_of_the_model(self, model: CaptionModel, png: Path) -> None:
        with pytest.raises(ModelError, match="fewer new tokens"):
            model.caption(png, sampling=Sampling(max_new_tokens=10**7))

    @pytest.mark.parametrize("kind", [str, Path])
    def test_a_model_that_is_not_there(self, kind: Callable[[str], str | Path], tmp_path: Path) -> None:
        with pytest.raises(ModelNotFound, match="nowhere"):
            joycaption.load(kind(f"{tmp_path}/nowhere"))


class TestManyPictures:
    def test_list_and_generator_give_the_same(self, model: CaptionModel, pictures: list[Image.Image]) -> None:
        listed = results(model.caption_many(pictures * 2, sampling=WILD))
        generated = results(model.caption_many((one for one in pictures * 2), sampling=WILD))
        assert listed == generated
        assert len(set(listed)) == 8

    def test_no_pictures(self, model: CaptionModel) -> None:
        assert list(model.caption_many([])) == []
        assert list(model.caption_many(iter(()))) == []

    def test_the_first_picture_has_the_seed_and_others_have_seeds_of_it(
        self, model: CaptionModel, pictures: list[Image.Image]
    ) -> None:
        seeds = [5, derive_seed(5, 1), derive_seed(5, 2), derive_seed(5, 3)]
        requests = [
            Request(picture, build_prompt(), sampling=WILD, seed=seed)
            for picture, seed in zip(pictures, seeds, strict=True)
        ]
        many = results(model.caption_many(pictures, sampling=WILD, seed=5))
        assert many == results(model.captioner.caption(requests))
        assert many[0] == model.caption(pictures[0], sampling=WILD, seed=5).text

    def test_pictures_are_opened_when_their_turn_comes(self, model: CaptionModel, png: Path, tmp_path: Path) -> None:
        taken = count()

        def source() -> Iterator[Path]:
            while next(taken) < 10_000:
                yield png

        found = model.caption_many(source(), sampling=Sampling.greedy(2))
        for _ in range(5):
            next(found)
        assert next(taken) < 20

    def test_a_bad_picture_is_a_caption_with_an_error(self, model: CaptionModel, pictures: list[Image.Image]) -> None:
        found = dict(model.caption_many([pictures[0], "no such file.png", pictures[1]], sampling=GREEDY))
        assert [found[position].error is None for position in range(3)] == [True, False, True]
        assert found[1].text == ""
        assert "no such file.png" in (found[1].error or "")

    def test_a_batch_of_frames(self, model: CaptionModel, pictures: list[Image.Image]) -> None:
        frames = np.stack([np.asarray(picture.resize((64, 64))) for picture in pictures])
        expected = [model.caption(frame, sampling=GREEDY).text for frame in frames]
        assert results(model.caption_many(frames, sampling=GREEDY)) == expected
        assert results(model.caption_many(torch.from_numpy(frames), sampling=GREEDY)) == expected

    @pytest.mark.parametrize("kind", ["path", "text", "bytes", "PIL", "array", "tensor"])
    def test_one_picture_is_not_many(
        self, model: CaptionModel, pictures: list[Image.Image], png: Path, kind: str
    ) -> None:
        with pytest.raises(UsageError, match="For one picture call caption"):
            model.caption_many(IMAGES[kind](png, pictures[0]))


class TestLife:
    def test_a_with_block_frees_the_model(self, png: Path) -> None:
        with joycaption.load("demo", device="cpu") as model:
            weights = weakref.ref(model.captioner.load())  # type: ignore[attr-defined]
            before = told(model.caption(png, sampling=GREEDY))
            assert weights() is not None
        assert weights() is None
        assert told(model.caption(png, sampling=GREEDY)) == before

    def test_a_with_block_frees_the_model_after_an_error(self, png: Path) -> None:
        with pytest.raises(ZeroDivisionError), joycaption.load("demo", device="cpu") as model:
            weights = weakref.ref(model.captioner.load())  # type: ignore[attr-defined]
            raise ZeroDivisionError
        assert weights() is None

    def test_results_that_are_thrown_away_hold_nothing(self, model: CaptionModel, pictures: list[Image.Image]) -> None:
        pair = [one.copy() for one in pictures[:2]]
        alive = [weakref.ref(one) for one in pair]
        gc.disable()
        try:
            found = model.caption_many(iter(pair), sampling=replace(WILD, max_new_tokens=2))
            del pair
            next(found)
            del found
            assert [one() for one in alive] == [None, None]
        finally:
            gc.enable()

    def test_a_picture_is_left_as_it_was(self, model: CaptionModel, pictures: list[Image.Image]) -> None:
        before = io.BytesIO(), io.BytesIO()
        pictures[0].save(before[0], "PNG")
        model.caption(pictures[0], sampling=GREEDY)
        pictures[0].save(before[1], "PNG")
        assert before[0].getvalue() == before[1].getvalue()
