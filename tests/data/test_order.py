from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data.order import DataOrder, Regime, mixture_rows, permutation, row_rates

RATES = st.lists(st.integers(1, 1000), min_size=1, max_size=5).map(lambda parts: np.array(parts) / sum(parts))


def constant(rates: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    return mixture_rows([Regime(0, rates)], n)


@settings(max_examples=200, deadline=None)
@given(RATES, st.integers(0, 300), st.integers(0, 300))
def test_a_longer_mixture_begins_with_the_shorter(rates: np.ndarray, m: int, more: int) -> None:
    short, long = constant(rates, m), constant(rates, m + more)
    for a, b in zip(short, long, strict=True):
        assert len(a) == m
        assert len(b) == m + more
        assert (a == b[:m]).all()


@settings(max_examples=100, deadline=None)
@given(RATES, st.integers(1, 300))
def test_every_prefix_has_the_rates_asked_for(rates: np.ndarray, n: int) -> None:
    source, k = constant(rates, n)
    drawn = np.cumsum(source[:, None] == np.arange(len(rates)), axis=0)
    wanted = rates * np.arange(1, n + 1)[:, None]
    assert np.abs(drawn - wanted).max() <= 0.5 + len(rates) / 2 * rates.max() + 1e-9
    for i in range(len(rates)):  # each source's rows come in turn, none left out
        assert k[source == i].tolist() == list(range(drawn[-1, i]))


@st.composite
def regimes(draw: st.DrawFn) -> list[Regime]:
    sources = draw(st.integers(1, 4))
    starts = [0, *sorted(draw(st.sets(st.integers(1, 200), max_size=5)))]
    parts = st.lists(st.integers(0, 100), min_size=sources, max_size=sources).filter(any)
    return [Regime(start, np.array(some) / sum(some)) for start in starts for some in [draw(parts)]]


@settings(max_examples=200, deadline=None)
@given(regimes(), st.integers(0, 400))
def test_a_mixture_does_not_depend_on_what_its_rates_will_be(changing: list[Regime], n: int) -> None:
    """Runs can only share a prefix when this holds."""
    whole = mixture_rows(changing, n)
    for count in range(1, len(changing) + 1):
        until = changing[count].start if count < len(changing) else n
        for a, b in zip(mixture_rows(changing[:count], n), whole, strict=True):
            assert (a[:until] == b[:until]).all()


@settings(max_examples=200, deadline=None)
@given(regimes(), st.integers(1, 400))
def test_every_prefix_of_a_changing_mixture_has_the_rates_asked_for(changing: list[Regime], n: int) -> None:
    source, k = mixture_rows(changing, n)
    assert len(source) == n
    kinds = len(changing[0].rates)
    drawn = np.cumsum(source[:, None] == np.arange(kinds), axis=0)
    steps = np.repeat(np.arange(len(changing)), np.diff([*(regime.start for regime in changing), max(n, changing[-1].start + 1)]))[:n]
    wanted = np.cumsum(np.stack([regime.rates for regime in changing])[steps], axis=0)
    # A source that is switched off with a row still owed to it keeps that debt; the others carry it.
    assert np.abs(drawn - wanted).max() <= kinds
    for i in range(kinds):  # each source's rows come in turn, none left out
        assert k[source == i].tolist() == list(range(drawn[-1, i]))


def test_mixture_arithmetic() -> None:
    # Due at (k + 1/2) / rate: source 0 at 2/3, 2, 10/3, 14/3, …; source 1 at 2, 6, …; the tie at 2 goes to source 0.
    source, k = constant(np.array([0.75, 0.25]), 8)
    assert source.tolist() == [0, 0, 1, 0, 0, 0, 1, 0]
    assert k.tolist() == [0, 1, 0, 2, 3, 4, 1, 5]


def test_changing_mixture_arithmetic() -> None:
    # Three quarters for six rows, of which source 0 should have 4.5 and has 5 and source 1 should have 1.5 and has 1; then a quarter: from
    # there on source 0 is due at (k + 1/2 - 4.5) / 0.25 = 4, 8, …, source 1 at (k + 1/2 - 1.5) / 0.75 = 0, 4/3, 8/3, 4, ….
    source, k = mixture_rows([Regime(0, np.array([0.75, 0.25])), Regime(6, np.array([0.25, 0.75]))], 12)
    assert source.tolist() == [0, 0, 1, 0, 0, 0, 1, 1, 1, 0, 1, 1]
    assert k.tolist() == [0, 1, 0, 2, 3, 4, 1, 2, 3, 5, 4, 5]


def test_token_shares_become_row_rates() -> None:
    # Rows with half the tokens must come twice as often.
    assert np.allclose(row_rates(np.array([0.5, 0.5]), np.array([100.0, 50.0])), [1 / 3, 2 / 3])


def test_permutations_are_fixed_for_good() -> None:
    assert permutation(0, "docs", 0, 10).tolist() == [1, 9, 2, 8, 5, 0, 3, 7, 4, 6]
    different = [permutation(0, "docs", 0, 10), permutation(1, "docs", 0, 10), permutation(0, "base", 0, 10), permutation(0, "docs", 1, 10)]
    assert len({tuple(order.tolist()) for order in different}) == 4


def order(seed: int = 0) -> DataOrder:
    return DataOrder(seed=seed, names=["a", "b"], rows=[7, 3], regimes=[Regime(0, np.array([0.6, 0.4]))])


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
