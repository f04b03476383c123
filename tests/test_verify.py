"""The comparison with transformers that users run on their own machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from joycaption.demo import MODEL, SAMPLES
from joycaption.errors import CheckpointError
from joycaption.verify import TOLERANCE, Verification, _parting, verify_model


@pytest.fixture(scope="module")
def verification() -> Verification:
    return verify_model(MODEL, next(iter(sorted(SAMPLES.iterdir()))), precision="fp32", device="cpu")


@pytest.mark.oracle
def test_the_demo_model_is_equal(verification: Verification) -> None:
    assert verification.equal
    assert verification.parted_at is None
    assert verification.ours == verification.library
    assert verification.logits_error < TOLERANCE[torch.float32]
    assert verification.tokens > 5


@pytest.mark.oracle
def test_bf16_is_judged_by_its_logits(verification: Verification) -> None:
    rounded = verify_model(MODEL, next(iter(sorted(SAMPLES.iterdir()))), precision="bf16", device="cpu")
    assert rounded.equal
    assert rounded.logits_error > verification.logits_error


def test_other_logits_or_other_tokens_are_not_equal(verification: Verification) -> None:
    assert not replace(verification, logits_error=2 * verification.tolerance).equal
    assert not replace(verification, parted_at=3).equal
    assert replace(verification, parted_at=3, dtype="bfloat16").equal


@pytest.mark.parametrize(
    ("ours", "library", "place"), [([1, 2], [1, 2], None), ([1, 2], [1, 3], 1), ([1, 2], [1, 2, 3], 2), ([], [4], 0)]
)
def test_where_two_captions_part(ours: list[int], library: list[int], place: int | None) -> None:
    assert _parting(ours, library) == place


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=tmp_path.name):
        verify_model(tmp_path, b"")
