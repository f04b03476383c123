"""Our model and engine against transformers' own implementation, on the same random weights.

Runs with every supported transformers in `make check`.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
import transformers
from support.models import (
    STOP_TOKENS,
    Shape,
    engine_tokens,
    library_greedy,
    library_logits,
    load_library_model,
    load_own_model,
    random_prompt,
    save_checkpoint,
    whole_logits,
)
from torch import Tensor
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from joycaption.engine import Prompt
from joycaption.engine.cache import KVCache
from joycaption.engine.engine import decode_step, prefill
from joycaption.model.config import Llama3Scaling, TextConfig
from joycaption.model.llama import RopeTable, inverse_frequencies
from joycaption.model.llava import Llava

pytestmark = pytest.mark.oracle

NEW_TOKENS = 40
CPU = torch.device("cpu")

SHAPES = {
    "grouped heads": Shape(),
    "head size 24": Shape(vision_hidden=48, head_dim=24, heads=4, kv_heads=2),
    "one kv head": Shape(kv_heads=1),
    "a kv head for each head": Shape(kv_heads=4),
    "five heads in a group": Shape(hidden=80, heads=10, kv_heads=2, head_dim=12),
    "pixels left over, as in 384 / 14": Shape(image_size=47, patch_size=14),
    "more and smaller patches": Shape(image_size=48, patch_size=8, vision_heads=4),
    "unscaled rope": Shape(scaled_rope=False),
    "one layer, pooling head": Shape(vision_layers=4, layers=1, vision_use_head=True),
}
# Before and after the picture: none, short, long; the longest reach past the rope's original context of 64.
LENGTHS = ((0, 1), (3, 5), (40, 60), (0, 30), (25, 2), (7, 7), (1, 90), (12, 3), (5, 5), (2, 19))


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """By the name of a shape: our model, prompts, and what the library says to them."""

    @cache
    def compare(name: str) -> tuple[Llava, list[Prompt], list[list[int]]]:
        shape = SHAPES[name]
        folder = tmp_path_factory.mktemp("checkpoint")
        library = save_checkpoint(folder, shape, change=end_sooner)
        prompts = [random_prompt(shape, seed, *length) for seed, length in enumerate(LENGTHS)]
        answers = [library_greedy(library, list(one.tokens), one.pixels, NEW_TOKENS) for one in prompts]
        return load_own_model(folder), prompts, answers

    return compare


def end_sooner(library: Any) -> None:
    """Make the stop tokens likely enough that some captions end early."""
    with torch.no_grad():
        library.get_output_embeddings().weight[list(STOP_TOKENS)] *= 1.2


@pytest.mark.parametrize("slots", [1, 3, 8])
@pytest.mark.parametrize("name", SHAPES)
def test_greedy_tokens_are_the_library_s(compared: Any, name: str, slots: int) -> None:
    model, prompts, answers = compared(name)
    assert engine_tokens(model, prompts, slots) == answers


@pytest.mark.parametrize("name", SHAPES)
def test_the_comparison_means_something(compared: Any, name: str) -> None:
    """Some captions end early and some do not, and they do not repeat one token."""
    _, _, answers = compared(name)
    lengths = [len(answer) for answer in answers]
    assert min(lengths) < NEW_TOKENS == max(lengths)
    assert len(set(lengths)) >= 4
    assert len({token for answer in answers for token in answer}) > 40
    assert all(answer[-1] in STOP_TOKENS for answer in answers if len(answer) < NEW_TOKENS)


@pytest.mark.parametrize("name", ["grouped heads", "pixels left over, as in 384 / 14"])
def test_logits_are_the_library_s(tmp_path: Path, name: str) -> None:
    """Not only the likeliest token: every logit of every position."""
    shape = SHAPES[name]
    library = save_checkpoint(tmp_path, shape)
    prompt = random_prompt(shape, 1, 40, 60)
    expected = library_logits(library, prompt)
    torch.testing.assert_close(whole_logits(load_own_model(tmp_path), prompt), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("factors", [(8.0, 1.0, 4.0, 8192), (32.0, 2.0, 5.0, 4096)], ids=["Llama 3.1", "others"])
def test_rotary_frequencies_at_full_size(factors: tuple[float, float, float, int]) -> None:
    """Small models have few frequencies; these are all of Llama 3.1's."""
    scaling = Llama3Scaling(*factors)
    rope = {"rope_type": "llama3", **asdict(scaling)}
    library = transformers.LlamaConfig(
        hidden_size=4096, num_attention_heads=32, rope_theta=500000.0, rope_scaling=rope, max_position_embeddings=131072
    )
    expected, _ = ROPE_INIT_FUNCTIONS["llama3"](library, CPU)
    ours = TextConfig(128256, 4096, 14336, 32, 32, 8, 128, 1e-5, 500000.0, scaling, None)
    torch.testing.assert_close(inverse_frequencies(ours), expected, rtol=1e-6, atol=0)


def test_bf16_rounds_no_worse_than_the_library(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """2-norm of the logits' error against fp32, teacher-forced, prompt and 40 tokens; median over weights."""
    whole, stepwise = [], []
    for seed in range(7):
        folder = tmp_path / str(seed)
        save_checkpoint(folder, Shape(hidden=128, heads=8, layers=4), seed, change=lambda model: model.bfloat16())
        prompt = random_prompt(Shape(), seed, 10, 30 + NEW_TOKENS)
        exact = library_logits(load_library_model(folder), prompt)
        allowed = library_logits(load_library_model(folder, torch.bfloat16), prompt) - exact
        model = load_own_model(folder, torch.bfloat16)
        whole.append(ratio(whole_logits(model, prompt) - exact, allowed))
        last = exact[-NEW_TOKENS:]
        stepwise.append(ratio(stepwise_logits(model, prompt) - last, allowed[-NEW_TOKENS:]))
    with capsys.disabled():
        print("\nbf16 error as a multiple of the library's:", end=" ")
        print(f"prefill {median(whole):.3f}, decode {median(stepwise):.3f}")
    assert median(whole) <= 1.2
    assert median(stepwise) <= 1.2


def ratio(error: Tensor, allowed: Tensor) -> float:
    return float(error.norm() / allowed.norm())


@torch.inference_mode()
def stepwise_logits(model: Llava, prompt: Prompt) -> Tensor:
    """Logits of the last 40 positions as the engine computes them: a prefill, then steps over the KV cache."""
    start, length = len(prompt.tokens) - NEW_TOKENS, len(prompt.tokens)
    dtype = next(model.parameters()).dtype
    cache = KVCache(model.config.text, 1, device=CPU, dtype=dtype)
    cache.reserve(length)
    rope = RopeTable(model.config.text, length, device=CPU, dtype=dtype)
    prefill(model, cache, rope, 0, Prompt(prompt.tokens[:start], prompt.pixels))
    logits = [
        decode_step(model, cache, rope, torch.tensor([prompt.tokens[at]]), torch.tensor([at]), at + 1)
        for at in range(start, length)
    ]
    return torch.cat(logits).float()
