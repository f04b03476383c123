"""The values that cross the seam: what they refuse, and seeds that stay the same for ever."""

from __future__ import annotations

import math
import pickle
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest

from joycaption.errors import UsageError
from joycaption.types import MAX_SEED, Caption, Request, Sampling, derive_seed


class TestSampling:
    @pytest.mark.parametrize(
        ("field", "value", "allowed"),
        [
            ("temperature", -0.1, "a number, 0 or more"),
            ("temperature", math.nan, "a number, 0 or more"),
            ("temperature", math.inf, "a number, 0 or more"),
            ("temperature", "hot", "a number, 0 or more"),
            ("temperature", None, "a number, 0 or more"),
            ("temperature", True, "a number, 0 or more"),
            ("top_p", 0, "a number above 0 and at most 1"),
            ("top_p", 1.01, "a number above 0 and at most 1"),
            ("top_p", math.nan, "a number above 0 and at most 1"),
            ("top_p", "0.9", "a number above 0 and at most 1"),
            ("top_k", -1, "a whole number, 0 or more"),
            ("top_k", 2.0, "a whole number, 0 or more"),
            ("top_k", False, "a whole number, 0 or more"),
            ("min_p", -0.01, "a number from 0 to 1"),
            ("min_p", 1.5, "a number from 0 to 1"),
            ("min_p", math.nan, "a number from 0 to 1"),
            ("min_p", [], "a number from 0 to 1"),
            ("max_new_tokens", 0, "a whole number, 1 or more"),
            ("max_new_tokens", 10.5, "a whole number, 1 or more"),
            ("max_new_tokens", "many", "a whole number, 1 or more"),
            ("max_new_tokens", True, "a whole number, 1 or more"),
        ],
    )
    def test_what_it_refuses(self, field: str, value: object, allowed: str) -> None:
        with pytest.raises(UsageError) as caught:
            Sampling(**{field: value})  # type: ignore[arg-type]
        assert str(caught.value) == f"{field} is {value!r}, but must be {allowed}."

    @pytest.mark.parametrize(
        "settings",
        [
            {"temperature": 0, "top_p": 1, "min_p": 0},
            {"temperature": 100.0, "top_p": 1e-9, "top_k": 10**9, "min_p": 1, "max_new_tokens": 1},
            {"temperature": np.float32(0.6), "top_p": np.float64(0.9)},
        ],
    )
    def test_what_it_takes(self, settings: dict[str, Any]) -> None:
        assert Sampling(**settings).max_new_tokens >= 1

    def test_its_defaults_are_the_authors(self) -> None:
        assert Sampling() == Sampling(temperature=0.6, top_p=0.9, top_k=0, min_p=0.0, max_new_tokens=512)

    def test_greedy(self) -> None:
        assert (Sampling.greedy().temperature, Sampling.greedy().max_new_tokens) == (0, 512)
        assert Sampling.greedy(7).max_new_tokens == 7
        with pytest.raises(UsageError, match="max_new_tokens is 0"):
            Sampling.greedy(0)

    def test_an_unknown_option_is_an_error(self) -> None:
        with pytest.raises(TypeError, match="beams"):
            Sampling(beams=3)  # type: ignore[call-arg]


class TestRequest:
    @pytest.mark.parametrize(
        ("field", "value", "allowed"),
        [
            ("prompt", None, "a string"),
            ("prompt", b"Describe it.", "a string"),
            ("system", 7, "a string or None"),
            ("begin_with", None, "a string"),
            ("sampling", {"temperature": 0}, "a Sampling"),
            ("sampling", None, "a Sampling"),
            ("seed", -1, "a whole number from 0 to 18446744073709551615"),
            ("seed", 2**64, "a whole number from 0 to 18446744073709551615"),
            ("seed", 1.0, "a whole number from 0 to 18446744073709551615"),
            ("seed", True, "a whole number from 0 to 18446744073709551615"),
            ("seed", "1", "a whole number from 0 to 18446744073709551615"),
        ],
    )
    def test_what_it_refuses(self, field: str, value: object, allowed: str) -> None:
        with pytest.raises(UsageError) as caught:
            Request(**{"image": b"", "prompt": "Describe it.", field: value})  # type: ignore[arg-type]
        assert str(caught.value) == f"{field} is {value!r}, but must be {allowed}."

    @pytest.mark.parametrize("seed", [0, MAX_SEED])
    def test_the_outermost_seeds(self, seed: int) -> None:
        assert Request(b"", "Describe it.", seed=seed).seed == seed

    def test_is_frozen(self) -> None:
        with pytest.raises(FrozenInstanceError):
            Request(b"", "Describe it.").seed = 3  # type: ignore[misc]

    def test_goes_to_another_process(self) -> None:
        request = Request(b"picture", "Describe it.", sampling=Sampling.greedy(3), seed=5, picture_key=("a.png", 1))
        assert pickle.loads(pickle.dumps(request)) == request


class TestCaption:
    @pytest.mark.parametrize(
        ("caption", "complete"),
        [
            (Caption("A cat.", "stop"), True),
            (Caption("A cat", "length"), True),
            (Caption("A c", "interrupted"), False),
            (Caption("", "stop"), False),
            (Caption("", "interrupted"), False),
            (Caption.failed("No such file."), False),
        ],
    )
    def test_only_whole_captions_may_be_saved(self, caption: Caption, complete: bool) -> None:
        assert caption.complete is complete

    def test_a_failed_one_has_no_text(self) -> None:
        failed = Caption.failed("No such file.")
        assert (failed.text, failed.finish_reason, failed.error) == ("", "error", "No such file.")
        assert (failed.tokens, failed.mean_logprob, failed.candidates) == (0, None, ())


class TestDeriveSeed:
    @pytest.mark.parametrize(
        ("parts", "seed"),
        [
            ((0,), 3999586761668934864),
            ((0, 1), 15859379524945983122),
            ((1, 0), 8208879345394571258),
            ((0, "1"), 14644498937614598159),
            ((MAX_SEED, "a/b.png", 0, 1), 579629207803799576),
            ((0, "\N{LATIN SMALL LETTER E WITH ACUTE}.png"), 11413323975005807180),
            ((7, "cats/1.png", 2, 0), 5101953130236574963),
        ],
    )
    def test_never_changes(self, parts: tuple[Any, ...], seed: int) -> None:
        """Users repeat a run by its seed, with any later version."""
        assert derive_seed(*parts) == seed

    def test_is_a_seed_and_names_its_item(self) -> None:
        seeds = {
            derive_seed(run, path, number) for run in range(5) for path in ("a", "b", "ab") for number in range(20)
        }
        assert len(seeds) == 300
        assert all(0 <= seed <= MAX_SEED for seed in seeds)
        assert max(seeds) > 2**63

    def test_neighbouring_parts_do_not_run_together(self) -> None:
        assert derive_seed(0, "a", "b") != derive_seed(0, "ab") != derive_seed(0, "a,b")
        assert derive_seed(0, 1, 23) != derive_seed(0, 12, 3)
