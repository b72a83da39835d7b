"""What the first trials of a study lose against its best point: predicted from earlier studies, or drawn at random.

    python -m benchmarks.earlier_grids [--tables stories260k …] [--noise 0.015] [--repeats 1] [--draws 200]

A study is a grid over a table of losses, between whose values it interpolates: of nine rates at one length (stories260k,
stories260k_long, one model), or of rates and batches at one length of one model (sizes). Those that differ in nothing but length and
size are a family, of which each is left out and predicted from the others, as by search.prior=earlier: the prediction, its neighbours,
then where these move the optimum. --noise: the standard deviation of what the seed of a run adds to its loss, in nats, in the earlier
studies and in this one; regret is of the table's own. TPE's first trials are random.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.search_quality import TABLES, TASKS
from benchmarks.simulation.table import LENGTH, PLACES, Curve, Table, read_table
from harness.search.earlier import expected_around, predict
from harness.search.earlier_studies import Earlier, Point, optima_of
from harness.search.space import Space, parse_space
from harness.search.warm_start import draw

LOSS, RATE, BATCH, TOKENS = "val/target/loss", "optim.lr", "trainer.batch_tokens", "trainer.max_tokens"
TEXTS = {"schedule": "wsd", "schedule.decay_shape": "1-sqrt"}
RATES = 9
POINTS = 300
"""Of a surface, along each parameter: between them it is taken for straight."""
AFTER = (1, 4, 8)
SIZE = 260_000
"""Of the one model that made the tables of one size."""


@dataclass(frozen=True)
class Grid:
    """One study's surface."""

    answer: Callable[[Point], float]
    """The table's loss at a point."""
    others: dict[str, float | str]
    """What its family has in common."""
    size: int
    tokens: int
    axes: dict[str, list[float]]
    """The values that the study tried, by parameter, rising."""

    @cached_property
    def space(self) -> Space:
        return parse_space(self._ranges)

    @property
    def _ranges(self) -> dict[str, Any]:
        return {key: {"low": values[0], "high": values[-1], "log": True} for key, values in self.axes.items()}

    @cached_property
    def _surface(self) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
        """Logarithms of the parameters' values, and the losses there."""
        places = [
            np.linspace(math.log(values[0]), math.log(values[-1]), POINTS if len(self.axes) == 1 else 60) for values in self.axes.values()
        ]
        losses = [self.answer(dict(zip(self.axes, np.exp(point).tolist(), strict=True))) for point in itertools.product(*places)]
        return places, np.array(losses).reshape([len(values) for values in places])

    def loss(self, point: Point) -> float:
        places, losses = self._surface
        for key, values in zip(self.axes, places, strict=True):
            share = (math.log(point[key]) - values[0]) / (values[-1] - values[0]) * (len(values) - 1)
            left = min(max(int(share), 0), len(values) - 2)
            losses = losses[left] * (left + 1 - share) + losses[left + 1] * (share - left)
        return float(losses)

    def regret(self, tried: Sequence[Point]) -> float:
        """As a share of the least loss."""
        return min(map(self.loss, tried)) / float(self._surface[1].min()) - 1

    def earlier(self, noise: random.Random, deviation: float) -> Earlier:
        points = [dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())]
        trials = [(point, self.loss(point) + noise.gauss(0, deviation)) for point in points]
        best = min(trials, key=lambda trial: trial[1])[0]
        found = optima_of(self.space.parameters, self._ranges, best, trials)
        return Earlier(f"{self.size}/{self.tokens}", self.size, self.tokens, True, best, *found)

    def begun(self, others: Sequence[Earlier], noise: random.Random, deviation: float) -> tuple[list[Point], int]:
        """The first trials by the earlier studies, and over how many parameters a law predicted. The nearest study comes first."""
        predicted = [one for key in self.axes if (one := predict(self.space[key], others, self.size, self.tokens)) is not None]
        centre = {one.key: float(self.space[one.key].nearest(one.value)) for one in predicted}
        beside = {key: value for key, value in others[0].best.items() if key not in centre}
        around = expected_around(predicted, others, centre, beside)
        tried: list[tuple[Point, float | None]] = []
        for number in range(max(AFTER)):
            point = around.next_point(self.space, tried, lambda point: point) if around and tried else {**beside, **centre}
            drawn = {one.key: draw(self.space[one.key], {"mean": centre[one.key], "spread": one.spread}, number) for one in predicted}
            point = point or {**beside, **drawn}
            tried.append((point, self.loss(point) + noise.gauss(0, deviation)))
        return [point for point, _ in tried], sum(one.law is not None for one in predicted)

    def at_random(self, drawn: random.Random) -> Point:
        return {key: math.exp(drawn.uniform(math.log(values[0]), math.log(values[-1]))) for key, values in self.axes.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ["stories260k", "stories260k_long", "sizes"]
    parser.add_argument("--tables", nargs="+", default=names, choices=names)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--repeats", type=int, default=1, help="of each study, with other noise")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--each", action="store_true", help="a line for each study")
    given = parser.parse_args()
    print("| table | studies | by a law | first trials | " + " | ".join(f"after {count}" for count in AFTER) + " |")
    print("|---|---|---|---|" + "---|" * len(AFTER))
    for name in given.tables:
        families = list(_of_sizes() if name == "sizes" else _of_one_size(name))
        regrets: dict[tuple[str, int], list[float]] = {}
        laws = predictions = 0
        for family, repeat in itertools.product(families, range(given.repeats)):
            noise = random.Random(f"{given.noise}/{family[0].others}/{repeat}")
            known = [grid.earlier(noise, given.noise) for grid in family]
            for grid, own in zip(family, known, strict=True):
                others = sorted((one for one in known if one is not own), key=lambda one: one.distance(grid.size, grid.tokens))
                tried, by_law = grid.begun(others, noise, given.noise)
                laws, predictions = laws + by_law, predictions + len(grid.axes)
                drawn = random.Random(f"{grid.others}/{grid.tokens}/{repeat}")
                for count in AFTER:
                    regrets.setdefault(("earlier", count), []).append(grid.regret(tried[:count]))
                    at_random = [grid.regret([grid.at_random(drawn) for _ in range(count)]) for _ in range(given.draws)]
                    regrets.setdefault(("random", count), []).append(statistics.fmean(at_random))
                if given.each:
                    print(
                        f"{grid.others} {own.name} {own.optima}: {tried[0]}", *(f"{regrets['earlier', count][-1]:.3%}" for count in AFTER)
                    )
        for kind in ("earlier", "random"):
            cells = [name, str(sum(map(len, families))), f"{laws} of {predictions}" if kind == "earlier" else "", kind]
            print("|", " | ".join([*cells, *(f"{statistics.fmean(regrets[kind, count]):.3%}" for count in AFTER)]), "|", flush=True)


def _of_one_size(name: str) -> Iterator[list[Grid]]:
    table, task = read_table(TABLES / f"{name}.csv"), TASKS[name]
    axes = table.axes(TEXTS)
    lengths, rates = axes.pop(LENGTH), axes.pop(RATE)
    tried = [rates[0] * (rates[-1] / rates[0]) ** (place / (RATES - 1)) for place in range(RATES)]
    for values in itertools.product(*axes.values()):
        others: dict[str, float | str] = {**TEXTS, **dict(zip(axes, values, strict=True))}
        yield [Grid(_answer(table, others, int(steps)), others, SIZE, int(steps) * task.batch_tokens, {RATE: tried}) for steps in lengths]


def _answer(table: Table, others: dict[str, float | str], steps: int) -> Callable[[Point], float]:
    return lambda point: table.answer({**others, **point}, steps).at(1.0)[LOSS]


def _of_sizes() -> Iterator[list[Grid]]:
    with (TABLES / "sizes.csv").open(newline="") as stream:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    family = []
    for size, tokens in sorted({(row["size"], row[TOKENS]) for row in rows}):
        own = [row for row in rows if (row["size"], row[TOKENS]) == (size, tokens)]
        # In logarithms: the table takes an axis of less than a decade for linear.
        curves = [
            Curve({key: math.log(row[key]) for key in (BATCH, RATE)} | {LENGTH: 1.0}, (LOSS,), np.full((len(PLACES), 1), row[LOSS]), 1.0)
            for row in own
        ]
        axes = {key: sorted({row[key] for row in own}) for key in (BATCH, RATE)}
        family.append(Grid(_of_logarithms(Table("sizes", curves)), {}, int(size), int(tokens), axes))
    yield family


def _of_logarithms(table: Table) -> Callable[[Point], float]:
    return lambda point: table.answer({key: math.log(value) for key, value in point.items()}, 1).at(1.0)[LOSS]


if __name__ == "__main__":
    main()
