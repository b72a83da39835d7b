"""A table whose runs differ by their seed, as real ones do: by what a seed does to all runs alike, and by what is each run's own.

A table has one run of each point; what lies between its rows is smooth. Here an answer is shifted, behind its first row, by normal draws:
one for (metric, seed), and one for the run, most of whose variance belongs to its trunk, as in `harness.search.surrogate`. The table's own
values are the truth, the mean over all seeds.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.simulation.table import Curve, Table
from harness.search.samplers import derived_seed
from harness.search.surrogate import SHARED_NOISE

DECAY = "schedule.decay_"


@dataclass(frozen=True)
class Noise:
    """Standard deviations of one metric."""

    common: float
    """Of what a seed does to all runs."""
    own: float
    """Of what is a run's own."""

    @property
    def of_a_run(self) -> float:
        return math.hypot(self.common, self.own)

    def __mul__(self, factor: float) -> Noise:
        return Noise(self.common * factor, self.own * factor)


class SeededTable(Table):
    """A table with noise."""

    def __init__(self, truth: Table, noise: Mapping[str, Noise], draw: int) -> None:
        """Args: noise: by metric; draw: another one makes other shifts of the same seeds."""
        vars(self).update(vars(truth))
        self.params = (*truth.params, "seed")
        self._truth, self._noise, self._draw = truth, noise, draw

    def answer(self, params: Mapping[str, Any], steps: int) -> Curve:
        """As the truth's, of the run with the seed in `params`."""
        curve = self._truth.answer(params, steps)
        values = curve.values.copy()
        for metric, noise in self._noise.items():
            values[1:, self.metrics.index(metric)] += self._shift(metric, noise, params, steps)
        return replace(curve, values=values)

    def _shift(self, metric: str, noise: Noise, params: Mapping[str, Any], steps: int) -> float:
        trunk = [(key, params[key]) for key in self._truth.params if not key.startswith(DECAY)]
        decay = [(key, params[key]) for key in self._truth.params if key.startswith(DECAY)]
        common, of_trunk, rest = (
            random.Random(derived_seed(self._draw, metric, params["seed"], *parts)).gauss(0, 1)
            for parts in ((), (steps, trunk), (steps, trunk, decay))
        )
        return noise.common * common + noise.own * (math.sqrt(SHARED_NOISE) * of_trunk + math.sqrt(1 - SHARED_NOISE) * rest)
