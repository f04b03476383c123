"""The sampler against exact probabilities, transformers' own filters, and SplitMix64 in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from joycaption.engine.sampler import SamplingRows, choose, uniform
from joycaption.types import MAX_SEED, Sampling

CPU = torch.device("cpu")
DRAWS = 100_000
ALL = Sampling(temperature=1.0, top_p=1.0)


def one_row(sampling: Sampling, draws: int) -> SamplingRows:
    """One request's settings for many rows that differ in their seed alone."""
    return SamplingRows.stack([sampling] * draws, list(range(draws)), CPU)


def draw(logits: Tensor, sampling: Sampling, draws: int = DRAWS) -> Tensor:
    """Tokens [draws] that as many seeds choose from one row of logits [vocabulary]."""
    steps = torch.zeros(draws, dtype=torch.int64)
    return choose(logits.expand(draws, -1), one_row(sampling, draws), steps)[0]


def chi_square(observed: Tensor, expected: Tensor) -> float:
    return float(((observed - expected) ** 2 / expected).sum())


def assert_plausible(statistic: float, freedom: int) -> None:
    """Within six standard deviations of what chance gives; too even is as wrong as too uneven."""
    assert abs(statistic - freedom) < 6 * math.sqrt(2 * freedom)


def arange(count: int) -> Tensor:
    return torch.arange(count, dtype=torch.int64)


STREAMS = {
    "neighbouring seeds": uniform(arange(DRAWS), torch.zeros(DRAWS, dtype=torch.int64)),
    "neighbouring seeds, late step": uniform(arange(DRAWS), torch.full((DRAWS,), 500)),
    "seeds far apart": uniform(arange(DRAWS) << 40, torch.zeros(DRAWS, dtype=torch.int64)),
    "steps of seed 0": uniform(torch.zeros(DRAWS, dtype=torch.int64), arange(DRAWS)),
    "steps of the largest seed": uniform(torch.full((DRAWS,), -1), arange(DRAWS)),
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
class TestUniform:
    def test_lies_between_0_and_1(self, stream: Tensor) -> None:
        assert stream.dtype == torch.float32
        assert 0 <= float(stream.min()) < 0.001
        assert 0.999 < float(stream.max()) < 1

    def test_is_uniform(self, stream: Tensor) -> None:
        bins = 256
        observed = torch.bincount((stream * bins).long(), minlength=bins)
        assert_plausible(chi_square(observed, torch.full((bins,), DRAWS / bins)), bins - 1)

    def test_is_uniform_in_its_last_bits(self, stream: Tensor) -> None:
        last = (stream * 2**24).long() % 16
        assert_plausible(chi_square(torch.bincount(last, minlength=16), torch.full((16,), DRAWS / 16)), 15)

    def test_neighbours_are_independent(self, stream: Tensor) -> None:
        for lag in (1, 2, 16):
            pairs = (stream[lag:] * 16).long() * 16 + (stream[:-lag] * 16).long()
            expected = torch.full((256,), len(pairs) / 256)
            assert_plausible(chi_square(torch.bincount(pairs, minlength=256), expected), 255)


def test_uniform_does_not_repeat_one_seeds_steps_in_another() -> None:
    first, second = (uniform(torch.full((1000,), seed), arange(1000)) for seed in (7, 8))
    for shift in range(4):
        assert int((first[shift:] == second[: 1000 - shift]).sum()) <= 1


def test_uniform_is_splitmix64() -> None:
    def mix(bits: int) -> int:
        bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        bits = (bits ^ bits >> 27) * 0x94D049BB133111EB % 2**64
        return bits ^ bits >> 31

    def reference(seed: int, step: int) -> float:
        return (mix((mix(seed) + (step + 1) * 0x9E3779B97F4A7C15) % 2**64) >> 40) / 2**24

    seeds = [0, 1, 2, 42, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**63 + 1, MAX_SEED]
    for step in (0, 1, 511, 100_000):
        rows = SamplingRows.stack([ALL] * len(seeds), seeds, CPU)
        ours = uniform(rows.seed, torch.full((len(seeds),), step))
        assert ours.tolist() == [reference(seed, step) for seed in seeds]


class TestDistribution:
    logits = torch.randn(50, generator=torch.Generator().manual_seed(1)) * 1.2

    @pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
    def test_follows_softmax(self, temperature: float) -> None:
        tokens = draw(self.logits, Sampling(temperature=temperature, top_p=1.0))
        expected = (self.logits.double() / temperature).softmax(-1) * DRAWS
        often = expected > 5
        observed = torch.bincount(tokens, minlength=50)
        assert_plausible(chi_square(observed[often], expected[often]), int(often.sum()) - 1)
        assert abs(float(observed[~often].sum() - expected[~often].sum())) < 6 * math.sqrt(1 + expected[~often].sum())

    def test_steps_of_one_seed_follow_softmax_too(self) -> None:
        rows = SamplingRows.stack([ALL] * DRAWS, [123] * DRAWS, CPU)
        tokens, _ = choose(self.logits.expand(DRAWS, -1), rows, arange(DRAWS))
        expected = self.logits.double().softmax(-1) * DRAWS
        assert_plausible(chi_square(torch.bincount(tokens, minlength=50), expected), 49)

    def test_what_filters_leave_keeps_its_proportions(self) -> None:
        tokens = draw(self.logits, Sampling(temperature=1.0, top_p=0.8))
        observed = torch.bincount(tokens, minlength=50)
        kept = observed > 0
        expected = self.logits.double().softmax(-1) * kept
        assert_plausible(chi_square(observed[kept], (expected / expected.sum() * DRAWS)[kept]), int(kept.sum()) - 1)


FILTERS = [
    Sampling(temperature=1.0, top_p=1.0, top_k=1),
    Sampling(temperature=1.0, top_p=1.0, top_k=7),
    Sampling(temperature=1.0, top_p=1.0, top_k=1000),
    Sampling(temperature=1.0, top_p=0.9),
    Sampling(temperature=1.0, top_p=0.5),
    Sampling(temperature=1.0, top_p=0.001),
    Sampling(temperature=1.0, top_p=1.0, min_p=0.2),
    Sampling(temperature=1.0, top_p=1.0, min_p=1.0),
    Sampling(temperature=0.6, top_p=0.9),
    Sampling(temperature=1.5, top_p=0.7, top_k=10),
    Sampling(temperature=0.8, top_p=0.95, min_p=0.3),
    Sampling(temperature=1.2, top_p=0.8, top_k=12, min_p=0.35),
]


@pytest.mark.oracle
@pytest.mark.parametrize("sampling", FILTERS, ids=str)
def test_filters_keep_what_transformers_keeps(sampling: Sampling) -> None:
    vocabulary, draws = 30, 4000  # few and nearly equal tokens, so that every kept one is drawn
    for logits in torch.randn(4, vocabulary, generator=torch.Generator().manual_seed(2)) * 0.6:
        assert set(draw(logits, sampling, draws).tolist()) == transformers_kept(logits, sampling)


def transformers_kept(logits: Tensor, sampling: Sampling) -> set[int]:
    """The tokens that generate() would choose from, its filters in its order."""
    warpers = LogitsProcessorList([TemperatureLogitsWarper(sampling.temperature)])
    if sampling.top_k:
        warpers.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        warpers.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p:
        warpers.append(MinPLogitsWarper(sampling.min_p))
    scores = warpers(torch.zeros(1, 1, dtype=torch.int64), logits[None].clone())[0]
    return set(scores.isfinite().nonzero().flatten().tolist())


class TestRows:
    """Rows of one batch with settings of their own."""

    samplings = (Sampling.greedy(), *FILTERS, Sampling.greedy(), Sampling(temperature=2.0, top_p=1.0))
    seeds = tuple(MAX_SEED - 1000 * row for row in range(len(samplings)))
    steps = arange(len(samplings)) * 3
    logits = torch.randn(len(samplings), 300, generator=torch.Generator().manual_seed(3)) * 2

    def together(self, order: list[int]) -> dict[int, tuple[int, float]]:
        rows = SamplingRows.stack([self.samplings[row] for row in order], [self.seeds[row] for row in order], CPU)
        tokens, logprobs = choose(self.logits[order], rows, self.steps[order])
        results = zip(tokens.tolist(), logprobs.tolist(), strict=True)
        return dict(zip(order, results, strict=True))

    def test_do_not_depend_on_each_other(self) -> None:
        order = list(range(len(self.samplings)))
        together = self.together(order)
        assert self.together(order[::-1]) == together
        for row in order:
            assert self.together([row]) == {row: together[row]}

    def test_greedy_among_sampled_takes_the_likeliest(self) -> None:
        together = self.together(list(range(len(self.samplings))))
        best = self.logits.argmax(-1).tolist()
        for row, sampling in enumerate(self.samplings):
            if sampling.temperature == 0:
                assert together[row][0] == best[row]
        assert together[len(best) - 1][0] != best[-1]  # at temperature 2 of 300 tokens, this seed takes another

    def test_logprobs_are_of_the_unfiltered_distribution(self) -> None:
        exact = self.logits.double().log_softmax(-1)
        for row, (token, logprob) in self.together(list(range(len(self.samplings)))).items():
            assert logprob == pytest.approx(float(exact[row, token]), abs=1e-5)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half_precision_logits_are_computed_with_in_fp32(self, dtype: torch.dtype) -> None:
        rows = SamplingRows.stack(list(self.samplings), list(self.seeds), CPU)
        half = self.logits.to(dtype)
        assert all(map(torch.equal, choose(half, rows, self.steps), choose(half.float(), rows, self.steps)))

    def test_neighbouring_seeds_differ(self) -> None:
        tokens = draw(torch.zeros(1000), ALL, draws=50)
        assert len(set(tokens.tolist())) > 40

    def test_every_bit_of_a_seed_counts(self) -> None:
        seeds = [0, *(1 << bit for bit in range(64))]
        rows = SamplingRows.stack([ALL] * 65, seeds, CPU)
        tokens, _ = choose(torch.zeros(65, 100_000), rows, torch.zeros(65, dtype=torch.int64))
        assert len(set(tokens.tolist())) == 65


class TestExtremes:
    logits = torch.randn(20, generator=torch.Generator().manual_seed(4)) * 30

    @pytest.mark.parametrize("temperature", [1e-3, 1e-20, 1e-40, 1e-60])
    def test_a_tiny_temperature_is_greedy(self, temperature: float) -> None:
        tokens = draw(self.logits, Sampling(temperature=temperature, top_p=1.0), draws=20)
        assert set(tokens.tolist()) == {int(self.logits.argmax())}

    @pytest.mark.parametrize("top_p", [1e-6, 1e-40, 1e-60])
    def test_a_tiny_top_p_keeps_the_likeliest(self, top_p: float) -> None:
        tokens = draw(self.logits, Sampling(temperature=1.0, top_p=top_p), draws=20)
        assert set(tokens.tolist()) == {int(self.logits.argmax())}

    @pytest.mark.parametrize("temperature", [1e30, 1e300])
    def test_a_huge_temperature_takes_any_token(self, temperature: float) -> None:
        assert set(draw(self.logits, Sampling(temperature=temperature, top_p=1.0), draws=1000).tolist()) == set(
            range(20)
        )

    def test_equal_logits_are_all_taken(self) -> None:
        assert set(draw(torch.full((5,), 7.0), ALL, draws=200).tolist()) == set(range(5))

    def test_one_token(self) -> None:
        tokens, logprobs = choose(torch.tensor([[3.0]]), one_row(Sampling(), 1), torch.tensor([0]))
        assert (tokens.tolist(), logprobs.tolist()) == ([0], [0.0])

    def test_a_row_of_nan_leaves_the_others_alone(self) -> None:
        logits = self.logits.expand(3, -1).clone()
        logits[1] = torch.nan
        rows = one_row(Sampling(), 3)
        tokens, logprobs = choose(logits, rows, torch.zeros(3, dtype=torch.int64))
        alone, _ = choose(self.logits.expand(3, -1), rows, torch.zeros(3, dtype=torch.int64))
        assert tokens[[0, 2]].equal(alone[[0, 2]])
        assert logprobs.isnan().tolist() == [False, True, False]
