"""The engine's add / step / abort layer, on a small random model, against whole-sequence passes without a cache."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from support.models import IMAGE_TOKEN, Shape, save_checkpoint, whole_logits
from torch import Tensor, nn

from joycaption.engine import Engine, Prompt, Step
from joycaption.errors import UsageError
from joycaption.model.checkpoint import load_weights
from joycaption.model.config import read_config
from joycaption.model.llava import Llava
from joycaption.types import Sampling

NEVER: frozenset[int] = frozenset()
SAMPLED = Sampling(temperature=0.9, top_p=0.95, max_new_tokens=24)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Llava:
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(folder, Shape(layers=2))
    return load_weights(folder, read_config(folder), device=torch.device("cpu"), dtype=torch.float32)


def prompt(number: int, sampling: Sampling = SAMPLED) -> Prompt:
    """A prompt with a length, text, picture and seed of its own."""
    rng = random.Random(number)
    text = rng.choices(range(256), k=3 + 5 * number % 23)
    pixels = torch.rand(3, 28, 28, generator=torch.Generator().manual_seed(number)) * 2 - 1
    return Prompt([256, *[IMAGE_TOKEN] * 4, *text], pixels, sampling, seed=number)


def run(engine: Engine, prompts: Sequence[Prompt]) -> list[list[Step]]:
    """The steps of each prompt, all added at once."""
    ids = [engine.add(one) for one in prompts]
    steps = finish(engine)
    return [steps[id] for id in ids]


def finish(engine: Engine, earlier: Sequence[Step] = ()) -> dict[int, list[Step]]:
    """Step until nothing is left; each id's steps, with those that were made before."""
    steps: dict[int, list[Step]] = defaultdict(list)
    for step in earlier:
        steps[step.id].append(step)
    for _ in range(1000):
        if engine.idle:
            return steps
        for step in engine.step():
            steps[step.id].append(step)
    raise AssertionError("the engine does not come to an end")


def tokens(steps: Sequence[Step]) -> list[int | None]:
    return [step.token for step in steps]


def alone(model: Llava, one: Prompt, stop_tokens: frozenset[int] = NEVER) -> list[int | None]:
    (steps,) = run(Engine(model, slots=1, stop_tokens=stop_tokens), [one])
    return tokens(steps)


def teacher_forced(model: Llava, one: Prompt, generated: Sequence[int]) -> Tensor:
    """Log-probabilities [generated, vocabulary] from one pass over everything, without a cache."""
    whole = replace(one, tokens=[*one.tokens, *generated[:-1]])
    return whole_logits(model, whole)[len(one.tokens) - 1 :].log_softmax(-1)


@contextmanager
def broken(layer: nn.Linear) -> Iterator[None]:
    """A real failure: weights in a number format that no matrix product accepts."""
    whole = layer.weight.data
    layer.weight.data = whole.double()
    try:
        yield
    finally:
        layer.weight.data = whole


class TestTokens:
    @pytest.mark.parametrize("slots", [1, 3, 8])
    def test_greedy_tokens_are_the_likeliest_of_the_whole_sequence(self, model: Llava, slots: int) -> None:
        prompts = [prompt(number, Sampling.greedy(30)) for number in range(8)]
        texts = set()
        for one, steps in zip(prompts, run(Engine(model, slots=slots, stop_tokens=NEVER), prompts), strict=True):
            generated = [step.token for step in steps if step.token is not None]
            logprobs = teacher_forced(model, one, generated)
            assert generated == logprobs.argmax(-1).tolist()
            assert [step.logprob for step in steps] == pytest.approx(logprobs.max(-1).values.tolist(), abs=1e-4)
            texts.add(tuple(generated))
        assert len(texts) == 8  # pictures and texts matter

    def test_sampled_tokens_depend_on_prompt_and_seed_alone(self, model: Llava) -> None:
        prompts = [prompt(number) for number in range(8)]
        expected = [alone(model, one) for one in prompts]
        assert [tokens(steps) for steps in run(Engine(model, slots=8, stop_tokens=NEVER), prompts)] == expected
        backwards = run(Engine(model, slots=3, stop_tokens=NEVER), prompts[::-1])
        assert [tokens(steps) for steps in backwards[::-1]] == expected
        assert alone(model, replace(prompts[0], seed=99)) != expected[0]

    def test_logprobs_of_sampled_tokens_are_unfiltered(self, model: Llava) -> None:
        one = prompt(5, Sampling(temperature=0.5, top_k=5, max_new_tokens=30))
        (steps,) = run(Engine(model, slots=2, stop_tokens=NEVER), [one])
        generated = [step.token for step in steps if step.token is not None]
        exact = teacher_forced(model, one, generated).gather(-1, torch.tensor(generated)[:, None])[:, 0]
        assert [step.logprob for step in steps] == pytest.approx(exact.tolist(), abs=1e-4)

    def test_joining_late_changes_nothing(self, model: Llava) -> None:
        engine = Engine(model, slots=4, stop_tokens=NEVER)
        steps: list[Step] = []
        ids = []
        for number in range(4):
            ids.append(engine.add(prompt(number)))
            for _ in range(5):
                steps += engine.step()
        results = finish(engine, steps)
        assert [tokens(results[id]) for id in ids] == [alone(model, prompt(number)) for number in range(4)]


class TestEnds:
    def test_a_stop_token_ends_a_caption_and_is_its_last_token(self, model: Llava) -> None:
        whole = alone(model, prompt(1))
        stop = whole[10]
        assert stop is not None
        (steps,) = run(Engine(model, slots=1, stop_tokens=frozenset({stop, 511})), [prompt(1)])
        assert tokens(steps) == whole[: whole.index(stop) + 1]
        assert [step.finish for step in steps] == [None] * (len(steps) - 1) + ["stop"]

    def test_a_stop_token_may_be_the_first(self, model: Llava) -> None:
        first = alone(model, prompt(1))[0]
        assert first is not None
        (steps,) = run(Engine(model, slots=1, stop_tokens=frozenset({first})), [prompt(1)])
        assert [(step.token, step.finish) for step in steps] == [(first, "stop")]

    def test_each_prompt_has_its_own_max_new_tokens(self, model: Llava) -> None:
        limits = (1, 7, 20, 2, 1)
        prompts = [prompt(number, Sampling(max_new_tokens=limit)) for number, limit in enumerate(limits)]
        results = run(Engine(model, slots=3, stop_tokens=NEVER), prompts)
        for limit, steps in zip(limits, results, strict=True):
            assert [step.finish for step in steps] == [None] * (limit - 1) + ["length"]

    def test_a_stop_token_at_the_limit_is_a_stop(self, model: Llava) -> None:
        whole = alone(model, prompt(2))
        place = next(i for i, token in enumerate(whole) if i > 3 and token not in whole[:i])
        token = whole[place]
        assert token is not None
        limited = replace(prompt(2), sampling=replace(SAMPLED, max_new_tokens=place + 1))
        (steps,) = run(Engine(model, slots=1, stop_tokens=frozenset({token})), [limited])
        assert (len(steps), steps[-1].finish) == (place + 1, "stop")

    def test_early_ends_leave_the_others_alone(self, model: Llava) -> None:
        prompts = [prompt(number) for number in range(6)]
        stops = frozenset(range(0, 512, 16))
        expected = [alone(model, one, stops) for one in prompts]
        assert len({len(one) for one in expected}) > 2
        assert [tokens(steps) for steps in run(Engine(model, slots=3, stop_tokens=stops), prompts)] == expected


class TestSlots:
    def test_ids_are_unique(self, model: Llava) -> None:
        engine = Engine(model, slots=2, stop_tokens=NEVER)
        ids = [engine.add(prompt(number, Sampling(max_new_tokens=1))) for number in range(5)]
        finish(engine)
        ids += [engine.add(prompt(number, Sampling(max_new_tokens=1))) for number in range(5)]
        assert len(set(ids)) == 10

    def test_room_counts_what_would_start_at_the_next_step(self, model: Llava) -> None:
        engine = Engine(model, slots=3, stop_tokens=NEVER)
        assert (engine.room, engine.idle) == (3, True)
        first = engine.add(prompt(0))
        assert (engine.room, engine.idle) == (2, False)
        engine.step()
        assert (engine.room, engine.idle) == (2, False)
        engine.add(prompt(1))
        engine.abort(first)
        assert (engine.room, engine.idle) == (2, False)

    def test_an_idle_step_brings_nothing(self, model: Llava) -> None:
        engine = Engine(model, slots=2, stop_tokens=NEVER)
        assert engine.step() == []
        run(engine, [prompt(0)])
        assert engine.step() == []

    def test_refilled_at_once(self, model: Llava) -> None:
        slots = 4
        lengths = [random.Random(number).randint(10, 30) for number in range(8 * slots)]
        engine = Engine(model, slots=slots, stop_tokens=NEVER)
        for number, length in enumerate(lengths):
            engine.add(prompt(number, Sampling.greedy(length)))
        busy = []
        while not engine.idle:
            busy.append(len({step.id for step in engine.step()}))
        prefills = len(lengths)  # a step of its own for each
        assert (sum(busy) - prefills) / (slots * (len(busy) - prefills)) >= 0.9

    def test_a_prompt_that_ends_at_once_makes_way_for_the_next(self, model: Llava) -> None:
        engine = Engine(model, slots=1, stop_tokens=NEVER)
        for number in range(4):
            engine.add(prompt(number, Sampling(max_new_tokens=1)))
        assert [[step.finish for step in engine.step()] for _ in range(4)] == [["length"]] * 4
        assert engine.idle

    def test_a_growing_cache_keeps_what_is_in_flight(self, model: Llava) -> None:
        long = prompt(3, Sampling(temperature=0.9, max_new_tokens=300))
        engine = Engine(model, slots=3, stop_tokens=NEVER)
        ids = [engine.add(prompt(number)) for number in range(2)]
        steps = [step for _ in range(8) for step in engine.step()]
        before = engine.cache.length
        ids.append(engine.add(long))
        results = finish(engine, steps)
        assert engine.cache.length > before
        assert [tokens(results[id]) for id in ids] == [alone(model, one) for one in (prompt(0), prompt(1), long)]

    def test_needs_one_slot_at_least(self, model: Llava) -> None:
        with pytest.raises(UsageError, match="slots is 0"):
            Engine(model, slots=0, stop_tokens=NEVER)


class TestContext:
    def test_a_prompt_that_cannot_fit_is_refused(self, model: Llava) -> None:
        limit = model.config.text.max_position_embeddings
        assert limit is not None
        engine = Engine(model, slots=1, stop_tokens=NEVER)
        one = prompt(0)
        fitting = limit - len(one.tokens)
        with pytest.raises(UsageError, match=f"takes {len(one.tokens)} tokens.*context is {limit}.*fewer new tokens"):
            engine.add(replace(one, sampling=Sampling.greedy(fitting + 1)))
        assert engine.idle
        engine.add(replace(one, sampling=Sampling.greedy(fitting)))
        assert not engine.idle

    def test_the_last_position_is_used(self, model: Llava) -> None:
        text = replace(model.config.text, max_position_embeddings=40)
        model.config, whole = replace(model.config, text=text), model.config
        try:
            one = prompt(0)
            (steps,) = run(
                Engine(model, slots=1, stop_tokens=NEVER),
                [replace(one, sampling=Sampling.greedy(40 - len(one.tokens)))],
            )
        finally:
            model.config = whole
        assert tokens(steps) == alone(model, replace(one, sampling=Sampling.greedy(40 - len(one.tokens))))


class TestAbort:
    def test_a_waiting_prompt_never_starts(self, model: Llava) -> None:
        engine = Engine(model, slots=1, stop_tokens=NEVER)
        first, second, third = (engine.add(prompt(number)) for number in range(3))
        steps = engine.step()
        engine.abort(second)
        results = finish(engine, steps)
        assert set(results) == {first, third}
        assert tokens(results[first]) == alone(model, prompt(0))
        assert tokens(results[third]) == alone(model, prompt(2))

    @pytest.mark.parametrize("aborted", [0, 1, 2])
    def test_a_running_prompts_slot_is_free_at_once(self, model: Llava, aborted: int) -> None:
        engine = Engine(model, slots=3, stop_tokens=NEVER)
        ids = [engine.add(prompt(number)) for number in range(4)]
        steps = [step for _ in range(4) for step in engine.step()]  # three start, then all decode
        engine.abort(ids[aborted])
        after = engine.step()
        assert {step.id for step in after} == {ids[3]}
        after += engine.step()
        assert {step.id for step in after} == set(ids) - {ids[aborted]}
        results = finish(engine, steps + after)
        for number in {0, 1, 2, 3} - {aborted}:
            assert tokens(results[ids[number]]) == alone(model, prompt(number))

    def test_an_empty_slot_between_running_ones_is_harmless(self, model: Llava) -> None:
        engine = Engine(model, slots=3, stop_tokens=NEVER)
        ids = [engine.add(prompt(number)) for number in range(3)]
        steps = engine.step()
        engine.abort(ids[1])
        for _ in range(5):
            steps += engine.step()
        ids.append(engine.add(prompt(7)))
        results = finish(engine, steps)
        for id, number in ((ids[0], 0), (ids[2], 2), (ids[3], 7)):
            assert tokens(results[id]) == alone(model, prompt(number))

    def test_everything(self, model: Llava) -> None:
        engine = Engine(model, slots=2, stop_tokens=NEVER)
        ids = [engine.add(prompt(number)) for number in range(4)]
        engine.step()
        for id in ids:
            engine.abort(id)
        assert engine.idle
        assert engine.step() == []
        assert [tokens(steps) for steps in run(engine, [prompt(0)])] == [alone(model, prompt(0))]

    def test_unknown_and_ended_ids_are_ignored(self, model: Llava) -> None:
        engine = Engine(model, slots=2, stop_tokens=NEVER)
        engine.abort(12345)
        ended, running = engine.add(prompt(0, Sampling.greedy(1))), engine.add(prompt(1))
        steps = engine.step()
        engine.abort(ended)
        assert tokens(finish(engine, steps)[running]) == alone(model, prompt(1))


class TestFailures:
    def test_a_failing_prefill_is_that_prompts_alone(self, model: Llava) -> None:
        engine = Engine(model, slots=2, stop_tokens=NEVER)
        running = engine.add(prompt(0))
        steps = engine.step()
        failing, later = engine.add(prompt(1)), engine.add(prompt(2))
        with broken(model.multi_modal_projector.linear_1):  # which decoding does not use
            steps += engine.step()  # the slot stays free: the next one starts in it
            steps += engine.step()
        after = [step for step in steps if step.id in (failing, later)]
        assert [(step.token, step.finish) for step in after] == [(None, "error")] * 2
        assert all(step.error and step.error.startswith("The model failed on this picture: ") for step in after)
        again = engine.add(prompt(2))
        results = finish(engine, steps)
        assert tokens(results[running]) == alone(model, prompt(0))
        assert tokens(results[again]) == alone(model, prompt(2))

    def test_a_failing_decode_step_is_raised_and_the_engine_goes_on_after_it(self, model: Llava) -> None:
        engine = Engine(model, slots=2, stop_tokens=NEVER)
        ids = [engine.add(prompt(number)) for number in range(2)]
        assert [step.id for _ in ids for step in engine.step()] == ids
        with broken(model.lm_head), pytest.raises(RuntimeError):
            engine.step()
        for id in ids:
            engine.abort(id)
        assert engine.idle
        results = run(engine, [prompt(2), prompt(3)])
        assert [tokens(steps) for steps in results] == [alone(model, prompt(2)), alone(model, prompt(3))]

    def test_a_model_that_gives_no_numbers_is_an_error_not_a_token(self, model: Llava) -> None:
        engine = Engine(model, slots=1, stop_tokens=NEVER)
        embedding = model.language_model.embed_tokens
        whole = embedding.weight
        try:
            embedding.weight = nn.Parameter(whole.to("meta"), requires_grad=False)
            (steps,) = run(engine, [prompt(0)])
        finally:
            embedding.weight = whole
        assert [(step.token, step.finish) for step in steps] == [(None, "error")]
        assert [tokens(steps) for steps in run(engine, [prompt(0)])] == [alone(model, prompt(0))]

    @pytest.mark.parametrize("sampling", [SAMPLED, Sampling.greedy(24)], ids=["sampled", "greedy"])
    def test_overflow_is_an_error_and_does_not_stay_in_the_slot(self, model: Llava, sampling: Sampling) -> None:
        overflowing = replace(prompt(4, sampling), pixels=torch.full((3, 28, 28), torch.nan))
        neighbour, successor = prompt(1, sampling), prompt(5, sampling)
        # So that the neighbour's length lets positions be seen that the successor has not written over.
        assert len(successor.tokens) < len(neighbour.tokens) < len(overflowing.tokens)
        engine = Engine(model, slots=2, stop_tokens=NEVER)
        kept, lost, next_one = run(engine, [neighbour, overflowing, successor])
        assert [(step.token, step.finish) for step in lost] == [(None, "error")]
        assert "overflowed" in (lost[0].error or "")
        assert tokens(kept) == alone(model, neighbour)
        assert tokens(next_one) == alone(model, successor)

    def test_overflow_while_decoding_does_not_stay_either(self, model: Llava) -> None:
        poison = alone(model, prompt(6))[5]
        first = next(place for place, token in enumerate(alone(model, prompt(6))) if token == poison)
        row = model.language_model.embed_tokens.weight.data[poison].clone()
        engine = Engine(model, slots=1, stop_tokens=NEVER)
        try:
            model.language_model.embed_tokens.weight.data[poison] = torch.nan
            (steps,) = run(engine, [prompt(6)])
        finally:
            model.language_model.embed_tokens.weight.data[poison] = row
        assert [step.finish for step in steps] == [None] * (first + 1) + ["error"]
        assert [tokens(steps) for steps in run(engine, [prompt(0)])] == [alone(model, prompt(0))]


def test_steps_come_in_order_of_generation(model: Llava) -> None:
    """A step starts one prompt, or brings one token for each that runs; prompts that can start go first."""
    engine = Engine(model, slots=2, stop_tokens=NEVER)
    engine.add(prompt(0)), engine.add(prompt(1))
    counts = []
    while not engine.idle:
        counts.append(len(engine.step()))
    assert counts[:3] == [1, 1, 2]
    assert all(a >= b for a, b in pairwise(counts[2:]))
    assert sum(counts) == 2 * SAMPLED.max_new_tokens
