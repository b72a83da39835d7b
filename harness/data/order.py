"""The order of the training data, a pure function of (seed, position), and of the mixture where a run changes it.

Nothing else enters: not the batch size, the number of devices, or the length of the run. So a run that stops, or goes on for longer, or on
other hardware, sees the same rows; and two runs of different length see the same rows as far as both go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.data.ragged import Int64, spans

Float64 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Regime:
    """From a position on, the sources come at these rates."""

    start: int
    """The first row of the mixture that is drawn so."""
    rates: Float64
    """float64[K], not negative, adding up to 1: rows of each source per row of the mixture."""


def row_rates(token_shares: Float64, mean_tokens: Float64) -> Float64:
    """Rows of each source per row of the mixture, so that its tokens come in the shares asked for.

    Args: token_shares float64[K], not negative; mean_tokens float64[K], real tokens in a row of each source.
    Returns float64[K], adding up to 1.
    """
    rates: Float64 = token_shares / mean_tokens
    return rates / np.sum(rates)


def mixture_rows(regimes: Sequence[Regime], n: int) -> tuple[Int64, Int64]:
    """The first n rows of the mixture: from which source each is, and which of that source's rows (its 1st, 2nd, …) it is.

    Source i's k-th row (from 0) is due when the rows it should have given reach k + 1/2, the middle of that row. Rows come in the order
    in which they are due; of rows due at once, the source with the smaller index first. When a row is due depends on its own source only,
    so a longer mixture begins with the shorter one. (This is Webster's method of apportionment: every prefix is within about one row of
    the rates.) Where the rates change, each source takes along what it has given and what it should have given; what comes before does
    not depend on what comes after, so that two mixtures are the same as far as their regimes are.

    Args: regimes, by their starts, the first at 0. Returns (source int64[n], k int64[n]).
    """
    given, owed = np.zeros(len(regimes[0].rates), dtype=np.int64), np.zeros(len(regimes[0].rates))
    parts = []
    for regime, end in zip(regimes, [*(later.start for later in regimes[1:]), n], strict=True):
        rows = min(end, n) - regime.start
        if rows <= 0:
            break
        source, k = _regime_rows(regime.rates, given, owed, rows)
        parts.append((source, k))
        given = given + np.bincount(source, minlength=len(given))
        owed = owed + regime.rates * rows
    if not parts:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    return np.concatenate([source for source, _ in parts]), np.concatenate([k for _, k in parts])


def _regime_rows(rates: Float64, given: Int64, owed: Float64, n: int) -> tuple[Int64, Int64]:
    """The first n rows of a regime: (source int64[n], k int64[n]).

    Args: rates float64[K]; given int64[K] and owed float64[K], the rows that each source has given and should have given before.
    """
    drawn = np.flatnonzero(rates > 0)
    # By time t, source i has given round(owed + rate * t) rows in all: together at least n once t = n + 2 K. Two more cover rounding.
    ahead = np.ceil(rates[drawn] * (n + 2 * len(rates)) + np.maximum(owed[drawn] - given[drawn], 0)).astype(np.int64) + 2
    source = np.repeat(drawn, ahead)
    k = spans(given[drawn], ahead)
    order = np.argsort(_due(rates[source], k, owed[source]), kind="stable")[:n]
    return source[order], k[order]


def _due(rate: Float64, k: Int64, owed: Float64) -> Float64:
    """How far into a regime a source's rows that are due reach k + 1/2: the inverse of a constant rate's cumulative, owed + rate * t."""
    return (k + 0.5 - owed) / rate


def permutation(seed: int, source: str, epoch: int, rows: int) -> Int64:
    """The order of a source's rows in one epoch: int64[rows].

    Sorts the raw output of PCG64, which numpy keeps stable between versions (Generator.permutation may change).
    """
    digest = hashlib.blake2b(f"{seed}\0{source}\0{epoch}".encode(), digest_size=16).digest()
    return np.argsort(np.random.PCG64(int.from_bytes(digest, "little")).random_raw(rows), kind="stable")


class DataOrder:
    """Which row of which source stands at each position of a run."""

    def __init__(self, *, seed: int, names: Sequence[str], rows: Sequence[int], regimes: Sequence[Regime]) -> None:
        """Args: names and rows (of one epoch) of the K sources; regimes of the mixture, by their starts, the first at 0."""
        self.seed, self.names, self.source_rows, self.regimes = seed, tuple(names), tuple(rows), tuple(regimes)
        self._source = np.empty(0, dtype=np.int64)
        self._k = np.empty(0, dtype=np.int64)
        self._permutations: dict[int, dict[int, Int64]] = {}  # of each source, the epochs that were asked for last

    def rows(self, start: int, stop: int) -> tuple[Int64, Int64]:
        """Positions start … stop - 1: (source int64[n], row of that source int64[n])."""
        return self.at(np.arange(start, stop, dtype=np.int64))

    def at(self, positions: Int64) -> tuple[Int64, Int64]:
        """Any positions, int64[n]: (source int64[n], row of that source int64[n])."""
        self._reach(int(positions.max(initial=-1)) + 1)
        source, k = self._source[positions], self._k[positions]
        row = np.empty_like(k)
        for i in np.unique(source).tolist():
            mine = source == i
            row[mine] = self._shuffled(i, k[mine])
        return source, row

    def epochs(self, stop: int) -> dict[str, float]:
        """How often the first `stop` positions go through each source."""
        self._reach(stop)
        drawn = np.bincount(self._source[:stop], minlength=len(self.names))
        return {name: int(count) / rows for name, count, rows in zip(self.names, drawn, self.source_rows, strict=True)}

    def _reach(self, n: int) -> None:
        """Have the mixture's first n rows at hand; it grows by doubling, since a run asks for a little more in every step."""
        if n > len(self._source):
            self._source, self._k = mixture_rows(self.regimes, max(n, 2 * len(self._source), 1024))

    def _shuffled(self, source: int, k: Int64) -> Int64:
        """The rows that a source gives as its k-th, int64[n]; each epoch is a permutation of its own."""
        rows = self.source_rows[source]
        epoch, within = np.divmod(k, rows)
        known = self._permutations.get(source, {})
        used: dict[int, Int64] = {}
        shuffled = np.empty_like(k)
        by_epoch = np.argsort(epoch, kind="stable")
        epochs, begins = np.unique(epoch[by_epoch], return_index=True)
        for e, mine in zip(epochs.tolist(), np.split(by_epoch, begins[1:]), strict=True):
            used[e] = known[e] if e in known else permutation(self.seed, self.names[source], e, rows)
            shuffled[mine] = used[e][within[mine]]
        self._permutations[source] = used
        return shuffled
