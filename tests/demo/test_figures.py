"""The demo model's promised figures, on scenes that it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import joycaption
from joycaption.demo import evaluate

SCENES = 500


@pytest.fixture(scope="module")
def exam() -> Iterator[evaluate.Exam]:
    with joycaption.load("demo", batch_size=32) as model:
        yield evaluate.Exam(model, SCENES)


def _check(measure: Callable[[evaluate.Exam], list[evaluate.Figure]], exam: evaluate.Exam) -> None:
    figures = measure(exam)
    print(*(f"{figure.value:.1%} {figure.name}" for figure in figures), sep="\n")
    missed = [figure for figure in figures if not figure.kept]
    assert not missed


@pytest.mark.parametrize("measure", evaluate.FIGURES[:3])
def test_what_it_sees(measure: Callable[[evaluate.Exam], list[evaluate.Figure]], exam: evaluate.Exam) -> None:
    _check(measure, exam)


@pytest.mark.slow
@pytest.mark.parametrize("measure", evaluate.FIGURES[3:])
def test_how_it_answers(measure: Callable[[evaluate.Exam], list[evaluate.Figure]], exam: evaluate.Exam) -> None:
    _check(measure, exam)
