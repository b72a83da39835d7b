"""What the first trials of a study lose against its best rate: predicted from earlier studies, or drawn at random.

    python -m benchmarks.earlier_grids [--tables stories260k stories260k_long] [--noise 0.015] [--draws 200]

A study is a grid of nine rates at one length and batch, over a table of learning curves between whose rates it interpolates; all that
differ in nothing else are a family, of which each is left out and predicted from the others (search.prior=earlier: the prediction, then
its neighbours). --noise: the standard deviation of what a run's seed adds to the earlier studies' losses, in nats; regret is of the
table's own. TPE's first trials are random.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmarks.search_quality import TABLES, TASKS
from benchmarks.simulation.table import LENGTH, Table, read_table
from harness.search.earlier import neighbours, predict
from harness.search.earlier_studies import Earlier, optima_of
from harness.search.space import parse_space

LOSS, RATE = "val/target/loss", "optim.lr"
TEXTS = {"schedule": "wsd", "schedule.decay_shape": "1-sqrt"}
RATES = 9
POINTS = 300
"""Of a surface's curve: between them it is taken for straight."""
AFTER = (1, 4, 8)
SIZE = 260_000
"""Of the one model that made the tables."""


@dataclass(frozen=True)
class Grid:
    """One study's surface."""

    table: Table
    others: dict[str, float | str]
    """What its family has in common."""
    steps: int
    tokens: int
    low: float
    high: float

    def rates(self, count: int) -> list[float]:
        """Between the ends, alike in logarithms."""
        return [self.low * (self.high / self.low) ** (place / (count - 1)) for place in range(count)]

    @cached_property
    def _curve(self) -> tuple[list[float], list[float]]:
        """Logarithms of rates, and the losses there."""
        rates = self.rates(POINTS)
        losses = [self.table.answer({**self.others, RATE: rate}, self.steps).at(1.0)[LOSS] for rate in rates]
        return [math.log(rate) for rate in rates], losses

    def loss(self, rate: float) -> float:
        return float(np.interp(math.log(rate), *self._curve))

    def regret(self, tried: Sequence[float]) -> float:
        """As a share of the least loss."""
        return min(map(self.loss, tried)) / min(self._curve[1]) - 1

    def earlier(self, noise: random.Random, deviation: float) -> Earlier:
        space = {RATE: {"low": self.low, "high": self.high, "log": True}}
        trials = [({RATE: rate}, self.loss(rate) + noise.gauss(0, deviation)) for rate in self.rates(RATES)]
        best = min(trials, key=lambda trial: trial[1])[0]
        return Earlier(str(self.tokens), SIZE, self.tokens, True, best, optima_of(parse_space(space).parameters, space, best, trials))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=["stories260k", "stories260k_long"], choices=["stories260k", "stories260k_long"])
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--draws", type=int, default=200)
    given = parser.parse_args()
    families = [family for name in given.tables for family in _families(name)]
    regrets: dict[tuple[str, int], list[float]] = {}
    laws = 0
    for family in families:
        noise = random.Random(f"{given.noise}/{family[0].others}")
        known = [grid.earlier(noise, given.noise) for grid in family]
        for grid in family:
            others = sorted((one for one in known if one.tokens != grid.tokens), key=lambda one: one.distance(SIZE, grid.tokens))
            space = parse_space({RATE: {"low": grid.low, "high": grid.high, "log": True}})
            found = predict(space[RATE], others, SIZE, grid.tokens)
            assert found is not None, "a range in which a study has its optimum"
            laws += found.law is not None
            predicted = list(itertools.islice(neighbours(space, {RATE: found.value}), max(AFTER)))
            drawn = random.Random(f"{grid.others}/{grid.tokens}")
            for count in AFTER:
                regrets.setdefault(("earlier", count), []).append(grid.regret([point[RATE] for point in predicted[:count]]))
                at_random = [
                    grid.regret([math.exp(drawn.uniform(math.log(grid.low), math.log(grid.high))) for _ in range(count)])
                    for _ in range(given.draws)
                ]
                regrets.setdefault(("random", count), []).append(statistics.fmean(at_random))
    studies = sum(map(len, families))
    print(f"{studies} studies in {len(families)} families, noise {given.noise}; by a law {laws}, else by the nearest one")
    print("| first trials | " + " | ".join(f"after {count}" for count in AFTER) + " |")
    print("|---|" + "---|" * len(AFTER))
    for kind in ("earlier", "random"):
        print(f"| {kind} | " + " | ".join(f"{statistics.fmean(regrets[kind, count]):.3%}" for count in AFTER) + " |")


def _families(name: str) -> Iterator[list[Grid]]:
    table, task = read_table(TABLES / f"{name}.csv"), TASKS[name]
    axes = table.axes(TEXTS)
    lengths, rates = axes.pop(LENGTH), axes.pop(RATE)
    for values in itertools.product(*axes.values()):
        others: dict[str, float | str] = {**TEXTS, **dict(zip(axes, values, strict=True))}
        yield [Grid(table, others, int(steps), int(steps) * task.batch_tokens, rates[0], rates[-1]) for steps in lengths]


if __name__ == "__main__":
    main()
