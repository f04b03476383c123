"""A captioner that is opened for the first request: nothing before, and after that the one it stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from captioners.contract import captions, request, texts

import joycaption
from joycaption.captioners import Captioner
from joycaption.captioners.lazy import LazyCaptioner
from joycaption.errors import Cancelled, ModelNotFound, UsageError
from joycaption.types import Request


@pytest.fixture(scope="module")
def demo() -> Captioner:
    return joycaption.load("demo", device="cpu", precision="fp32", batch_size=2).captioner


@pytest.fixture
def opened() -> list[str]:
    return []


@pytest.fixture
def lazy(demo: Captioner, opened: list[str]) -> LazyCaptioner:
    def open() -> Captioner:
        opened.append("demo")
        return demo

    return LazyCaptioner(open)


def refusing(error: Exception) -> Callable[[], Captioner]:
    def open() -> Captioner:
        raise error

    return open


def test_no_requests_open_nothing(lazy: LazyCaptioner, opened: list[str]) -> None:
    assert list(lazy.caption([])) == list(lazy.caption(iter(()))) == []
    assert opened == []


def test_the_first_request_opens_it_once_for_a_run(lazy: LazyCaptioner, demo: Captioner, opened: list[str]) -> None:
    requests = [request(number) for number in range(5)]
    results = lazy.caption(iter(requests))
    assert opened == []
    assert texts(results) == texts(demo.caption(requests))
    assert opened == ["demo"]
    texts(lazy.caption(requests[:1]))
    assert opened == ["demo", "demo"]


@pytest.mark.parametrize("places", [(0,), (0, 0), (1, 2)])
def test_nothing_ready_yet_is_not_the_end(lazy: LazyCaptioner, demo: Captioner, places: tuple[int, ...]) -> None:
    requests: list[Request | None] = [request(0), request(1)]
    expected = texts(demo.caption(requests))
    for place in places:
        requests.insert(place, None)
    assert texts(lazy.caption(requests)) == expected


def test_one_request_is_taken_before_it_opens(demo: Captioner) -> None:
    taken = count()
    seen: list[int] = []

    def source() -> Iterator[Request]:
        while True:
            yield request(next(taken))

    def open() -> Captioner:
        seen.append(next(taken))
        return demo

    next(LazyCaptioner(open).caption(source()))
    assert seen == [1]


def test_callbacks_are_passed_on(lazy: LazyCaptioner) -> None:
    heard: list[tuple[int, str]] = []
    texts(lazy.caption([request(0)], on_text=lambda *told: heard.append(told)))
    assert heard
    asked = count()
    stopped = captions(lazy.caption([request(0)], should_stop=lambda: next(asked) >= 3))
    assert [caption.finish_reason for caption in stopped.values()] == ["interrupted"]


@pytest.mark.parametrize(
    ("requests", "options"),
    [(request(0), {}), (7, {}), ("cat.png", {}), ([], {"should_stop": True})],
    ids=["one request", "a number", "a text", "no function"],
)
def test_wrong_arguments_are_told_at_the_call(
    lazy: LazyCaptioner, opened: list[str], requests: Any, options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="must be"):
        lazy.caption(requests, **options)
    assert opened == []


def test_a_stop_while_it_opens_interrupts_the_first_request() -> None:
    source = iter([request(0), request(1)])
    ((position, caption),) = LazyCaptioner(refusing(Cancelled("stopped"))).caption(source)
    assert (position, caption.finish_reason, caption.text, caption.error) == (0, "interrupted", "", None)
    assert len(list(source)) == 1


def test_a_model_that_cannot_be_opened() -> None:
    with pytest.raises(ModelNotFound, match="nowhere"):
        list(LazyCaptioner(refusing(ModelNotFound("nowhere"))).caption([request(0)]))


def test_close_frees_what_was_opened_and_it_may_be_used_again() -> None:
    captioner: Any = joycaption.load("demo", device="cpu", precision="fp32").captioner
    lazy = LazyCaptioner(lambda: captioner)
    lazy.close()
    before = texts(lazy.caption([request(0)]))
    weights = captioner.load()
    lazy.close()
    assert captioner.load() is not weights
    assert texts(lazy.caption([request(0)])) == before


def test_a_stop_before_it_is_opened_interrupts_the_first_request(lazy: LazyCaptioner, opened: list[str]) -> None:
    results = list(lazy.caption([request(0), request(1)], should_stop=lambda: True))
    assert [(position, caption.finish_reason) for position, caption in results] == [(0, "interrupted")]
    assert list(lazy.caption(iter([None, None, request(0)]), should_stop=lambda: True)) == []
    assert opened == []
