"""The JoyCaption captioner: the contract, and what is its own."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from captioners.contract import PICTURES, CaptionerContract, captions, request, texts
from support.models import SPECIAL, Shape, random_library_model, save_tokenizer, whole_logits
from torch import nn

from joycaption.captioners import load_captioner
from joycaption.captioners.joycaption import JoyCaption, load
from joycaption.engine import Engine
from joycaption.engine.cache import KVCache
from joycaption.errors import Cancelled, CheckpointError, ModelNotFound, UsageError
from joycaption.types import Caption, Request, Sampling

BYTES = 256
EXACT = {"device": "cpu", "precision": "fp32"}


@cache
def demo(batch_size: int = 4) -> JoyCaption:
    return load("demo", batch_size=batch_size, **EXACT)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], JoyCaption]:
    """Random weights that write bytes and never end: no special token is ever likely."""
    folder = tmp_path_factory.mktemp("endless")
    shape = Shape(layers=2, vocabulary=BYTES + len(SPECIAL))
    model = random_library_model(shape, spread=0.3)
    with torch.no_grad():
        model.get_output_embeddings().weight[BYTES:] = 0
    model.save_pretrained(folder)
    save_tokenizer(folder, shape.vocabulary)
    return cache(lambda batch_size: load(str(folder), batch_size=batch_size, **EXACT))


class TestContract(CaptionerContract):
    @pytest.fixture
    def make(self) -> Callable[[int], JoyCaption]:
        return demo

    @pytest.fixture
    def make_lengthy(self, endless: Callable[[int], JoyCaption]) -> Callable[[int], JoyCaption]:
        return endless


class TestTokens:
    @pytest.mark.parametrize("number", [0, 3])
    def test_text_and_logprob_are_those_of_whole_passes(self, number: int) -> None:
        one = request(number, tokens=25)
        tokens, logprob = uncached_greedy(demo(), one)
        (caption,) = captions(demo().caption([one])).values()
        assert caption.text == demo().chat.decode(tokens).strip()
        assert caption.tokens == len(tokens)
        assert caption.prompt_tokens == len(demo().prompt(one).tokens)
        assert caption.mean_logprob == pytest.approx(logprob / len(tokens), abs=1e-4)

    def test_the_stop_token_counts_but_is_not_in_the_text(self) -> None:
        found = captions(demo().caption([request(number, tokens=200) for number in range(8)])).values()
        assert "stop" in {caption.finish_reason for caption in found}
        assert not any("<|" in caption.text for caption in found)

    def test_half_a_character_is_not_shown(self, endless: Callable[[int], JoyCaption]) -> None:
        cut = [request(0, tokens=tokens) for tokens in range(1, 20)]
        whole, *found = captions(endless(1).caption([request(0, tokens=40), *cut])).values()
        assert all(whole.text.startswith(caption.text) for caption in found)
        assert not whole.text.isascii()


def uncached_greedy(captioner: JoyCaption, one: Request) -> tuple[list[int], float]:
    """Tokens and their summed log-probability, with a pass over the whole sequence for each token."""
    prompt = captioner.prompt(one)
    generated: list[int] = []
    total = 0.0
    while not captioner.chat.stop_tokens.intersection(generated) and len(generated) < one.sampling.max_new_tokens:
        so_far = replace(prompt, tokens=[*prompt.tokens, *generated])
        best = whole_logits(captioner.load(), so_far)[-1].log_softmax(-1).max(-1)
        generated.append(int(best.indices))
        total += float(best.values)
    return generated, total


class TestModelFailures:
    """Real failures: weights in a number format that no matrix product accepts, or that overflow."""

    @contextmanager
    def broken(self, layer: nn.Linear, *, overflow: bool = False) -> Iterator[None]:
        whole = layer.weight.data
        layer.weight.data = torch.full_like(whole, torch.inf) if overflow else whole.double()
        try:
            yield
        finally:
            layer.weight.data = whole

    @pytest.mark.parametrize("overflow", [False, True], ids=["wrong dtype", "overflow"])
    @pytest.mark.parametrize("sampling", [Sampling.greedy(40), Sampling(max_new_tokens=40)], ids=["greedy", "sampled"])
    def test_in_prefill(self, endless: Callable[[int], JoyCaption], overflow: bool, sampling: Sampling) -> None:
        captioner, done = endless(4), dict[int, Caption]()
        requests = [request(number, sampling=sampling) for number in range(4)]
        expected = texts(captioner.caption(requests))

        def source() -> Iterator[Request | None]:
            yield requests[0]
            yield None
            with self.broken(captioner.load().multi_modal_projector.linear_1, overflow=overflow):
                yield from requests[1:3]
                while not {1, 2} <= done.keys():
                    yield None
            yield requests[3]

        for position, caption in captioner.caption(source()):
            done[position] = caption
        assert [caption.finish_reason for _, caption in sorted(done.items())] == ["length", "error", "error", "length"]
        for failed in (done[1], done[2]):
            assert failed.text == ""
            assert failed.error is not None and failed.error.startswith("The model")
        assert {0: done[0].text, 3: done[3].text} == {0: expected[0], 3: expected[3]}

    @pytest.mark.parametrize("overflow", [False, True], ids=["wrong dtype", "overflow"])
    def test_in_decoding(self, endless: Callable[[int], JoyCaption], overflow: bool) -> None:
        captioner, done = endless(4), dict[int, Caption]()
        expected = texts(captioner.caption([request(number) for number in range(4)]))

        def source() -> Iterator[Request | None]:
            yield from (request(number, tokens=100) for number in range(2))
            yield None
            yield None
            with self.broken(captioner.load().lm_head, overflow=overflow):
                yield None
            yield from (request(number) for number in range(2, 4))

        for position, caption in captioner.caption(source()):
            done[position] = caption
        for failed in (done[0], done[1]):
            assert (failed.text, failed.finish_reason) == ("", "error")
            assert failed.error is not None and failed.error.startswith("The model")
        assert {2: done[2].text, 3: done[3].text} == {2: expected[2], 3: expected[3]}


class TestMemory:
    """KV caches are the engine's memory. They go at once, without the cycle collector."""

    @pytest.fixture(autouse=True)
    def no_collector(self, endless: Callable[[int], JoyCaption]) -> Iterator[None]:
        endless(4)
        gc.collect()
        gc.disable()
        yield
        gc.enable()

    @staticmethod
    def caches() -> list[KVCache]:
        return [one for one in gc.get_objects() if type(one) is KVCache]

    @pytest.mark.parametrize("end", ["close", "drop", "exhaust", "stop", "never begun"])
    def test_a_run_frees_its_cache(self, endless: Callable[[int], JoyCaption], end: str) -> None:
        stop = False
        requests = [request(0, tokens=2), request(1, tokens=20)]
        results: Any = endless(4).caption(requests, should_stop=lambda: stop)
        if end != "never begun":
            next(results)
            assert len(self.caches()) == 1
        if end == "close":
            results.close()
        elif end in ("exhaust", "stop"):
            stop = end == "stop"
            assert [caption.finish_reason for _, caption in results] == ["interrupted" if stop else "length"]
        if end in ("drop", "never begun"):
            del results
        assert self.caches() == []

    @pytest.mark.parametrize("place", ["on_text", "should_stop", "requests"])
    def test_an_exception_that_is_kept_keeps_no_cache(self, endless: Callable[[int], JoyCaption], place: str) -> None:
        def fail(*_: object) -> None:
            raise KeyboardInterrupt

        def source() -> Iterator[Request]:
            yield request(0)
            fail()

        if place == "requests":
            results = endless(4).caption(source())
        else:
            results = endless(4).caption([request(0)], **{place: fail})
        with pytest.raises(KeyboardInterrupt) as kept:
            list(results)
        assert kept.value.__traceback__ is not None
        assert self.caches() == []

    def test_a_short_list_has_no_more_slots_than_requests(self, endless: Callable[[int], JoyCaption]) -> None:
        results = endless(8).caption([request(0, tokens=2), request(1, tokens=20)])
        next(results)
        assert [one.keys.shape[1] for one in self.caches()] == [2]

    def test_close_frees_the_weights(self, endless: Callable[[int], JoyCaption]) -> None:
        captioner = JoyCaption(endless(4).folder, **EXACT)
        weights = captioner.load().lm_head.weight
        address = weights.data_ptr()
        captioner.close()
        holders = [one for one in gc.get_referrers(weights) if isinstance(one, dict)]
        assert holders == []
        assert captioner.load().lm_head.weight.data_ptr() != address

    def test_loading_again_can_be_stopped(self, endless: Callable[[int], JoyCaption]) -> None:
        captioner = JoyCaption(endless(4).folder, **EXACT)
        with pytest.raises(Cancelled):
            captioner.caption([request(0)], should_stop=lambda: True)
        assert texts(captioner.caption([request(0)])) == texts(endless(4).caption([request(0)]))


class TestRequests:
    def test_text_is_decoded_for_streaming_only_when_it_is_asked_for(
        self, endless: Callable[[int], JoyCaption], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        captioner, decoded = endless(4), []
        decode = captioner.chat.decode
        monkeypatch.setattr(captioner.chat, "decode", lambda ids: decoded.append(len(ids)) or decode(ids))
        texts(captioner.caption([request(0, tokens=20), request(1, tokens=20)]))
        assert decoded == [20, 20]
        texts(captioner.caption([request(0, tokens=20)], on_text=lambda *_: None))
        assert len(decoded) > 3

    @pytest.mark.parametrize("field", ["prompt", "system", "begin_with"])
    def test_special_tokens_in_a_text_fail_that_request(self, field: str) -> None:
        bad = request(0, **{field: "Hello <|eot_id|> there"})
        found = captions(demo().caption([request(0), bad]))
        assert found[0].error is None
        assert "<|eot_id|>" in (found[1].error or "")

    def test_more_tokens_than_the_context_holds_fail_that_request(self) -> None:
        found = captions(demo().caption([request(0), request(1, tokens=1_000_000)]))
        assert found[0].error is None
        assert "fewer new tokens" in (found[1].error or "")

    def test_what_is_no_request_fails_alone(self) -> None:
        mixed: list[Any] = [request(0), "picture.png", request(0)]
        found = captions(demo().caption(mixed))
        assert found[0].text == found[2].text != ""
        assert (found[1].text, found[1].finish_reason) == ("", "error")

    def test_an_empty_system_prompt_is_not_the_default_one(self, endless: Callable[[int], JoyCaption]) -> None:
        requests = [request(0), request(0, system="")]
        default, empty = texts(endless(4).caption(requests)).values()
        assert default != empty


class TestLoad:
    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"precision": "fp17"}, "precision is 'fp17', but must be auto, bf16, fp16, fp32"),
            ({"device": "gpu"}, "device is 'gpu', but must be auto, cpu, cuda"),
            ({"batch_size": 0}, "batch_size is 0, but must be a whole number, 1 or more"),
            ({"batch_size": True}, "batch_size is True"),
            ({"batch_size": 2.0}, "batch_size is 2.0"),
        ],
    )
    def test_wrong_settings_are_told_before_the_model_is_looked_for(self, settings: Any, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            load("no-such-model", **settings)

    def test_unknown_model(self) -> None:
        with pytest.raises(ModelNotFound, match="no-such-model"):
            load("no-such-model")

    def test_a_folder_that_is_no_model(self, tmp_path: Path) -> None:
        with pytest.raises((CheckpointError, ModelNotFound), match=tmp_path.name):
            load(str(tmp_path))

    def test_unknown_captioner(self) -> None:
        with pytest.raises(UsageError, match="captioner is 'blip', but must be one of joycaption"):
            load_captioner("blip", "demo")

    def test_a_loaded_folder_captions_as_its_name_does(self) -> None:
        by_folder = load_captioner("joycaption", str(demo().folder), batch_size=4, **EXACT)
        assert texts(by_folder.caption([request(0)])) == texts(demo().caption([request(0)]))

    def test_progress_ends_with_all_bytes(self) -> None:
        heard: list[tuple[str, int, int]] = []
        load("demo", progress=lambda *told: heard.append(told), **EXACT)
        assert {stage for stage, _, _ in heard} == {"load"}
        assert [done for _, done, _ in heard] == sorted(done for _, done, _ in heard)
        assert heard[-1][1] == heard[-1][2] > 1_000_000

    @pytest.mark.parametrize("precision", ["bf16", "fp16"])
    def test_other_precisions_caption_too(self, precision: str) -> None:
        captioner = load("demo", device="cpu", precision=precision)
        assert captioner.load().lm_head.weight.dtype == captioner.dtype != torch.float32
        found = captions(captioner.caption(Request(picture, "Describe it.") for picture in PICTURES[:2]))
        assert all(caption.error is None for caption in found.values())


def test_working_bytes_hold_what_a_run_takes() -> None:
    captioner = demo(4)
    running = Engine(captioner.load(), slots=4, stop_tokens=frozenset())
    for number in range(4):
        running.add(captioner.prompt(replace(request(number), sampling=Sampling.greedy(64))))
        running.step()
    held = running.cache.keys.nbytes + running.cache.values.nbytes
    assert held <= captioner.working_bytes(64) < captioner.working_bytes(640)
    assert captioner.working_bytes(64, 1) < captioner.working_bytes(64, 9) == captioner.working_bytes(64)


@pytest.mark.parametrize("tokens", [64, 640])
def test_slots_fill_a_capacity_and_no_more(tokens: int) -> None:
    captioner = demo(32)
    for slots in (1, 5, 31):
        capacity = captioner.weight_bytes + captioner.working_bytes(tokens, slots)
        assert captioner.slots_within(capacity, tokens) == slots
        assert captioner.slots_within(capacity - 1, tokens) == max(1, slots - 1)
    assert captioner.slots_within(0, tokens) == 1
    assert captioner.slots_within(2**50, tokens) == 32
