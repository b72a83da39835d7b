from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.order import DataOrder, mixture_rows, permutation, row_rates

RATES = st.lists(st.integers(1, 1000), min_size=1, max_size=5).map(lambda parts: np.array(parts) / sum(parts))


@settings(max_examples=200, deadline=None)
@given(RATES, st.integers(0, 300), st.integers(0, 300))
def test_a_longer_mixture_begins_with_the_shorter(rates: np.ndarray, m: int, more: int) -> None:
    short, long = mixture_rows(rates, m), mixture_rows(rates, m + more)
    for a, b in zip(short, long, strict=True):
        assert len(a) == m
        assert len(b) == m + more
        assert (a == b[:m]).all()


@settings(max_examples=100, deadline=None)
@given(RATES, st.integers(1, 300))
def test_every_prefix_has_the_rates_asked_for(rates: np.ndarray, n: int) -> None:
    source, k = mixture_rows(rates, n)
    drawn = np.cumsum(source[:, None] == np.arange(len(rates)), axis=0)
    wanted = rates * np.arange(1, n + 1)[:, None]
    assert np.abs(drawn - wanted).max() <= 0.5 + len(rates) / 2 * rates.max() + 1e-9
    for i in range(len(rates)):  # each source's rows come in turn, none left out
        assert k[source == i].tolist() == list(range(drawn[-1, i]))


def test_mixture_arithmetic() -> None:
    # Due at (k + 1/2) / rate: source 0 at 2/3, 2, 10/3, 14/3, …; source 1 at 2, 6, …; the tie at 2 goes to source 0.
    source, k = mixture_rows(np.array([0.75, 0.25]), 8)
    assert source.tolist() == [0, 0, 1, 0, 0, 0, 1, 0]
    assert k.tolist() == [0, 1, 0, 2, 3, 4, 1, 5]


def test_token_shares_become_row_rates() -> None:
    # Rows with half the tokens must come twice as often.
    assert np.allclose(row_rates(np.array([0.5, 0.5]), np.array([100.0, 50.0])), [1 / 3, 2 / 3])


def test_permutations_are_fixed_for_good() -> None:
    assert permutation(0, "docs", 0, 10).tolist() == [1, 9, 2, 8, 5, 0, 3, 7, 4, 6]
    different = [permutation(0, "docs", 0, 10), permutation(1, "docs", 0, 10), permutation(0, "base", 0, 10), permutation(0, "docs", 1, 10)]
    assert len({tuple(order.tolist()) for order in different}) == 4


def order(seed: int = 0) -> DataOrder:
    return DataOrder(seed=seed, names=["a", "b"], rows=[7, 3], rates=np.array([0.6, 0.4]))


def test_each_epoch_is_a_permutation() -> None:
    source, row = order().rows(0, 100)
    for i, rows in ((0, 7), (1, 3)):
        mine = row[source == i]
        for epoch in range(len(mine) // rows):
            assert sorted(mine[epoch * rows : (epoch + 1) * rows].tolist()) == list(range(rows))
    assert order().epochs(100) == {"a": 60 / 7, "b": 40 / 3}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 40)), min_size=1, max_size=6))
def test_what_stands_at_a_position_does_not_depend_on_what_was_asked_before(windows: list[tuple[int, int]]) -> None:
    everything, used = order().rows(0, 240), order()
    for start, size in windows:
        for part, whole in zip(used.rows(start, start + size), everything, strict=True):
            assert part.tolist() == whole[start : start + size].tolist()
