"""Exactly k, the first of equal ones, however the numbers are cut into blocks."""

from __future__ import annotations

import numpy as np
import pytest

from harness.merging.largest import find_cut, magnitude_bits


@pytest.mark.parametrize("count", [0, 1, 7, 100, 499, 500])
@pytest.mark.parametrize("block", [7, 500])
def test_the_largest_are_those_of_a_stable_sort(count: int, block: int) -> None:
    """Of few magnitudes, as changes of half-precision checkpoints have, zeros and signs among them."""
    values = np.random.default_rng(0).choice([0.0, 1e-30, 0.5, -0.5, 2.0, -3.0], size=500).astype(np.float32)
    bits = magnitude_bits(values)
    parts = [bits[start : start + block] for start in range(0, 500, block)]
    cut = find_cut(lambda: iter(parts), count, 500)
    chosen = np.concatenate([cut.select(part) for part in parts])
    wanted = np.argsort(-np.abs(values), kind="stable")[:count]
    assert sorted(np.flatnonzero(chosen)) == sorted(wanted)


def test_numbers_that_differ_in_the_last_bit_are_told_apart() -> None:
    values = np.float32(1.0) + np.arange(100, dtype=np.float32) * np.finfo(np.float32).eps
    bits = magnitude_bits(values)
    cut = find_cut(lambda: iter([bits]), 30, 100)
    np.testing.assert_array_equal(np.flatnonzero(cut.select(bits)), np.arange(70, 100))
