"""What every captioner keeps, whatever is behind it: the contract of ``joycaption.captioners.base`` as tests.

A captioner's test module has one class that inherits `CaptionerContract` and gives two fixtures:

- ``make``: a function from batch size to a captioner whose captions end by themselves
- ``make_lengthy``: the same for one that goes on up to ``max_new_tokens``, and whose words depend on prompt, picture
  and seed

Both compute the same in any batch (fp32). A captioner that was made once may be given out again.
"""

from __future__ import annotations

import gc
import io
import random
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import count, repeat
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from joycaption.captioners import Captioner
from joycaption.demo.scenes import draw, random_scene
from joycaption.errors import UsageError
from joycaption.types import Caption, ImageInput, Request, Sampling

__all__ = ["PICTURES", "CaptionerContract", "captions", "request", "texts"]

Make: TypeAlias = Callable[[int], Captioner]

PICTURES = [draw(random_scene(random.Random(number)), 96 * 96) for number in range(8)]
BROKEN_PICTURES: tuple[ImageInput, ...] = (b"no picture", b"", Path("no such file.png"), "http://127.0.0.1:9/none.png")
READ_AHEAD = 16  # requests that a captioner with a batch size of 4 may hold, in flight or made ready


def request(number: int, *, tokens: int = 12, sampling: Sampling | None = None, **changes: Any) -> Request:
    """The numbered request, greedy if not said otherwise; neighbours have other words, pictures and seeds."""
    return replace(
        Request(
            image=PICTURES[number % len(PICTURES)],
            prompt=f"Write a descriptive caption for picture {number}.",
            sampling=sampling or Sampling.greedy(tokens),
            seed=number,
        ),
        **changes,
    )


def captions(results: Iterable[tuple[int, Caption]]) -> dict[int, Caption]:
    """Captions by position; no position comes twice."""
    found: dict[int, Caption] = {}
    for position, caption in results:
        assert position not in found
        found[position] = caption
    return found


def texts(results: Iterable[tuple[int, Caption]]) -> dict[int, str]:
    """Texts by position, of captions that all went well."""
    found = captions(results)
    assert all(caption.error is None and caption.complete for caption in found.values())
    return {position: caption.text for position, caption in found.items()}


class Living:
    """Counts which of the pictures that it was shown are still alive."""

    def __init__(self) -> None:
        self.references: list[weakref.ref[Any]] = []

    def add(self, picture: ImageInput) -> None:
        self.references.append(weakref.ref(picture))

    def __len__(self) -> int:
        return sum(reference() is not None for reference in self.references)


def assert_failed(caption: Caption) -> None:
    assert (caption.text, caption.finish_reason, caption.complete) == ("", "error", False)
    assert caption.error


class CaptionerContract:
    @pytest.fixture
    def make(self) -> Make:
        raise NotImplementedError

    @pytest.fixture
    def make_lengthy(self) -> Make:
        raise NotImplementedError

    @pytest.fixture
    def no_collector(self) -> Iterator[None]:
        """What is to be freed at once must not wait for the cycle collector."""
        gc.collect()
        gc.disable()
        yield
        gc.enable()

    # --- positions and order ---

    def test_each_request_has_one_caption_at_its_position(self, make_lengthy: Make) -> None:
        requests = [request(number) for number in range(9)]
        expected = {number: texts(make_lengthy(1).caption([one]))[0] for number, one in enumerate(requests)}
        assert len(set(expected.values())) == 9
        assert texts(make_lengthy(4).caption(requests)) == expected
        assert texts(make_lengthy(4).caption(one for one in requests)) == expected

    def test_captions_come_as_they_end(self, make_lengthy: Make) -> None:
        lengths = (40, 2, 20)
        requests = [request(number, tokens=length) for number, length in enumerate(lengths)]
        assert [position for position, _ in make_lengthy(4).caption(requests)] == [1, 2, 0]

    @pytest.mark.parametrize("nothing", [[], (), iter(()), [None, None]], ids=str)
    def test_no_requests_no_captions(self, make: Make, nothing: Iterable[Request | None]) -> None:
        assert list(make(4).caption(nothing)) == []

    def test_fields_of_a_caption(self, make: Make) -> None:
        started = time.monotonic()
        found = captions(make(4).caption([request(number, tokens=200) for number in range(8)]))
        elapsed = time.monotonic() - started
        for caption in found.values():
            assert caption.error is None
            assert caption.text == caption.text.strip() != ""
            assert caption.prompt_tokens > 0
            assert 0 < caption.seconds <= elapsed
            assert caption.mean_logprob is None or caption.mean_logprob <= 0
            assert caption.tokens < 200 if caption.finish_reason == "stop" else caption.tokens == 200
        assert "stop" in {caption.finish_reason for caption in found.values()}

    # --- laziness ---

    def test_a_million_requests_are_taken_a_few_ahead(self, make_lengthy: Make, no_collector: None) -> None:
        taken = 0
        alive = Living()

        def source() -> Iterator[Request]:
            nonlocal taken
            for taken in range(1, 1_000_001):
                assert taken <= 40 + READ_AHEAD
                one = request(taken, tokens=2, image=PICTURES[0].copy())
                alive.add(one.image)
                yield one
                del one

        results = make_lengthy(4).caption(source())
        for number in range(1, 41):
            next(results)
            assert taken <= number + READ_AHEAD
            assert 0 < len(alive) <= READ_AHEAD
        results.close()  # type: ignore[attr-defined]  # an Iterator that is a generator

    def test_none_takes_no_position(self, make: Make) -> None:
        one, two = request(0), request(1)
        expected = texts(make(4).caption([one, two]))
        assert texts(make(4).caption([None, None, one, None, two, None])) == expected

    def test_none_keeps_captions_in_flight_going(self, make_lengthy: Make) -> None:
        done: dict[int, Caption] = {}
        waits = count()

        def source() -> Iterator[Request | None]:
            yield request(0)
            while 0 not in done:
                assert next(waits) < 10_000
                yield None
            yield request(0)

        for position, caption in make_lengthy(4).caption(source()):
            done[position] = caption
        assert next(waits) > 0
        assert sorted(done) == [0, 1]
        assert done[0].text == done[1].text

    def test_a_request_joins_others_in_flight(self, make_lengthy: Make) -> None:
        done: list[int] = []

        def source() -> Iterator[Request | None]:
            yield request(0, tokens=2)
            yield request(1, tokens=60)
            while 0 not in done:
                yield None
            yield request(2, tokens=2)

        for position, _ in make_lengthy(4).caption(source()):
            done.append(position)
        assert done == [0, 2, 1]

    # --- failures of one request ---

    @pytest.mark.parametrize("batch_size", [1, 4])
    def test_a_bad_picture_is_its_own_request_alone(self, make: Make, batch_size: int) -> None:
        good = [request(number) for number in range(5)]
        expected = texts(make(batch_size).caption(good))
        bad = [request(9, image=picture) for picture in BROKEN_PICTURES]
        found = captions(make(batch_size).caption([good[0], *bad, *good[1:]]))
        assert sorted(found) == list(range(9))
        for position in range(1, 5):
            assert_failed(found.pop(position))
        assert [found[position].text for position in (0, 5, 6, 7, 8)] == list(expected.values())

    def test_an_error_names_the_picture(self, make: Make) -> None:
        found = captions(make(4).caption([request(0, image=Path("holiday/no such file.png"))]))
        assert "no such file.png" in (found[0].error or "")

    def test_a_picture_that_ends_too_soon(self, make: Make) -> None:
        file = io.BytesIO()
        PICTURES[0].save(file, "JPEG")
        (found,) = captions(make(4).caption([request(0, image=file.getvalue()[:-200])])).values()
        assert_failed(found)

    # --- stopping ---

    def test_stop_in_the_middle(self, make_lengthy: Make) -> None:
        asked = count()
        taken: list[Request] = []

        def source() -> Iterator[Request]:
            for number in range(100):
                taken.append(request(number, tokens=3 if number == 1 else 200))
                yield taken[-1]

        results = list(make_lengthy(4).caption(source(), should_stop=lambda: next(asked) >= 10))
        found = captions(results)
        assert sorted(found) == list(range(len(taken)))
        assert found[1].finish_reason == "length"
        stopped = {position: caption for position, caption in found.items() if position != 1}
        assert results[0][0] == 1
        assert {caption.finish_reason for caption in stopped.values()} == {"interrupted"}
        whole = captions(make_lengthy(4).caption([replace(one, sampling=Sampling.greedy(40)) for one in taken]))
        for position, caption in stopped.items():
            assert caption.error is None and not caption.complete
            assert 0 < caption.tokens < 40
            assert whole[position].text.startswith(caption.text)

    def test_stop_is_asked_at_every_step(self, make_lengthy: Make) -> None:
        asked = count()
        (found,) = captions(
            make_lengthy(4).caption([request(0, tokens=30)], should_stop=lambda: next(asked) < 0)
        ).values()
        assert next(asked) >= found.tokens - 1  # one step brings the first two

    def test_stop_before_the_first_step(self, make: Make) -> None:
        taken = count()
        source = (request(next(taken)) for _ in range(100))
        found = captions(make(4).caption(source, should_stop=lambda: True))
        assert len(found) == next(taken)
        assert {caption.finish_reason for caption in found.values()} <= {"interrupted"}

    def test_stop_among_nothing_but_bad_pictures(self, make: Make) -> None:
        asked, taken = count(), count()

        def source() -> Iterator[Request]:
            while next(taken) < 1000:
                yield request(0, image=b"no picture")

        found = captions(make(4).caption(source(), should_stop=lambda: next(asked) >= 5))
        assert 0 < len(found) == next(taken) < 100

    def test_stop_while_idle(self, make: Make) -> None:
        asked = count()
        idle = repeat(None, 10_000)
        assert list(make(4).caption(idle, should_stop=lambda: next(asked) >= 50)) == []
        assert next(idle, "at its end") is None

    # --- exceptions and early ends ---

    @pytest.mark.parametrize(
        "error", [ValueError("x"), RuntimeError("x"), KeyboardInterrupt(), SystemExit(3)], ids=repr
    )
    @pytest.mark.parametrize("place", ["on_text", "should_stop", "requests"])
    def test_an_exception_propagates(self, make_lengthy: Make, place: str, error: BaseException) -> None:
        captioner = make_lengthy(4)
        before = texts(captioner.caption([request(0), request(1)]))
        calls = count()

        def fail(*_: object) -> None:
            if next(calls) >= 1:
                raise error

        def source() -> Iterator[Request]:
            for number in range(8):
                yield request(number, tokens=100)
                if place == "requests":
                    fail()

        callback: dict[str, Any] = {} if place == "requests" else {place: fail}
        results = captioner.caption(source(), **callback)
        with pytest.raises(type(error)) as caught:
            list(results)
        assert caught.value is error
        assert list(results) == []
        assert texts(captioner.caption([request(0), request(1)])) == before

    @pytest.mark.parametrize("end", ["close", "drop", "exception", "exhaust"])
    def test_nothing_is_kept(self, make_lengthy: Make, no_collector: None, end: str) -> None:
        captioner = make_lengthy(4)
        before = texts(captioner.caption([request(0), request(1)]))
        pictures = Living()

        def source() -> Iterator[Request]:
            for tokens in (2, 50, 50):
                one = request(0, tokens=tokens, image=PICTURES[0].copy())
                pictures.add(one.image)
                yield one
                del one
            if end == "exception":
                raise KeyboardInterrupt

        results: Any = captioner.caption(source())
        if end == "exception":
            with pytest.raises(KeyboardInterrupt):
                list(results)
        elif end == "exhaust":
            assert len(list(results)) == 3
        else:
            next(results)
            if end == "close":
                results.close()
        if end != "exhaust":
            del results
        assert len(pictures) == 0
        assert texts(captioner.caption([request(0), request(1)])) == before

    def test_close_and_use_again(self, make: Make) -> None:
        captioner = make(4)
        before = texts(captioner.caption([request(0)]))
        captioner.close()
        captioner.close()
        assert texts(captioner.caption([request(0)])) == before

    # --- the same request and seed in any company ---

    @pytest.mark.parametrize(
        "sampling",
        [Sampling.greedy(16), Sampling(max_new_tokens=16), Sampling(1.0, 1.0, top_k=40, min_p=0.02, max_new_tokens=16)],
        ids=["greedy", "default", "top-k and min-p"],
    )
    def test_the_same_in_any_company(self, make_lengthy: Make, sampling: Sampling) -> None:
        requests = [request(number, sampling=sampling) for number in range(8)]
        alone = [captions(make_lengthy(1).caption([one]))[0] for one in requests]
        for batch_size in (3, 8):
            together = captions(make_lengthy(batch_size).caption(requests))
            backwards = captions(make_lengthy(batch_size).caption(requests[::-1]))
            for position, expected in enumerate(alone):
                for caption in (together[position], backwards[7 - position]):
                    assert (caption.text, caption.tokens) == (expected.text, expected.tokens)
                    assert caption.mean_logprob == pytest.approx(expected.mean_logprob, abs=1e-4)

    def test_settings_of_the_others_do_not_matter(self, make_lengthy: Make) -> None:
        samplings = [
            Sampling.greedy(9),
            Sampling(1.2, 0.8, max_new_tokens=30),
            Sampling(0.7, top_k=3, max_new_tokens=5),
        ]
        requests = [request(number, sampling=sampling) for number, sampling in enumerate(samplings)]
        alone = {position: texts(make_lengthy(1).caption([one]))[0] for position, one in enumerate(requests)}
        assert texts(make_lengthy(4).caption(requests)) == alone

    def test_the_seed_matters_when_sampling_and_only_then(self, make_lengthy: Make) -> None:
        sampled = [request(0, sampling=Sampling(1.0, 1.0, max_new_tokens=16), seed=seed) for seed in (0, 1, 2**64 - 1)]
        assert len(set(texts(make_lengthy(4).caption(sampled)).values())) == 3
        greedy = [request(0, seed=seed) for seed in (0, 1, 2**64 - 1)]
        assert len(set(texts(make_lengthy(4).caption(greedy)).values())) == 1

    def test_two_runs_at_a_time(self, make_lengthy: Make) -> None:
        captioner = make_lengthy(2)
        first, second = ([request(number) for number in numbers] for numbers in ((0, 1, 2, 3), (4, 5, 6, 7)))
        expected = texts(captioner.caption(first)), texts(captioner.caption(second))
        runs = captioner.caption(first), captioner.caption(second)
        found: tuple[list[tuple[int, Caption]], ...] = ([], [])
        for _ in range(4):
            for run, results in zip(runs, found, strict=True):
                results.append(next(run))
        assert (texts(found[0]), texts(found[1])) == expected

    # --- streaming ---

    def test_texts_come_at_most_ten_times_a_second(self, make_lengthy: Make) -> None:
        heard: dict[int, list[tuple[float, str]]] = {0: [], 1: []}

        def on_text(position: int, text: str) -> None:
            heard[position].append((time.monotonic(), text))

        requests = [request(number, tokens=1500) for number in heard]
        started = time.monotonic()
        found = captions(
            make_lengthy(4).caption(
                requests, on_text=on_text, should_stop=lambda: all(len(calls) >= 3 for calls in heard.values())
            )
        )
        for position, calls in heard.items():
            assert len(calls) >= 3
            assert all(moment - started >= 0.1 * place for place, (moment, _) in enumerate(calls))
            so_far = [text for _, text in calls]
            assert so_far == sorted(so_far, key=len)
            assert all(found[position].text.startswith(text) for text in so_far)

    # --- requests ---

    def test_begin_with_is_part_of_the_caption(self, make: Make, make_lengthy: Make) -> None:
        for captioner in (make(4), make_lengthy(4)):
            plain, begun = texts(captioner.caption([request(0), request(0, begin_with="A large red")])).values()
            assert begun.startswith("A large red")
            assert len(begun) > len("A large red")
            assert not plain.startswith("A large red")

    def test_space_after_begin_with_does_not_matter(self, make: Make) -> None:
        requests = [request(0, begin_with=begin) for begin in ("A large red", "A large red ", "A large red \n")]
        assert len(set(texts(make(4).caption(requests)).values())) == 1

    def test_one_new_token(self, make_lengthy: Make) -> None:
        found = captions(make_lengthy(4).caption([request(number, tokens=1) for number in range(6)]))
        assert sorted(found) == list(range(6))
        assert {(caption.tokens, caption.finish_reason) for caption in found.values()} == {(1, "length")}

    def test_the_picture_the_prompt_and_the_system_prompt_matter(self, make_lengthy: Make) -> None:
        base = request(0)
        variants = [
            replace(base, image=PICTURES[5]),
            replace(base, prompt="Name it."),
            replace(base, system="Be brief."),
        ]
        assert len(set(texts(make_lengthy(4).caption([base, *variants])).values())) == 4

    @pytest.mark.parametrize(
        ("requests", "options"),
        [
            (request(0), {}),
            (None, {}),
            (7, {}),
            ("picture.png", {}),
            (b"picture", {}),
            ([], {"on_text": "print"}),
            ([], {"should_stop": True}),
        ],
        ids=str,
    )
    def test_wrong_arguments_are_told_at_the_call(self, make: Make, requests: Any, options: dict[str, Any]) -> None:
        with pytest.raises(UsageError, match="must be"):
            make(4).caption(requests, **options)
