"""The trials around a prediction from earlier studies: where a surface shaped like theirs is lowest, as the study's own trials move it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.search.fitted_surface import Surface, moved_optimum
from harness.search.space import Space

Point = dict[str, Any]
Tried = Sequence[tuple[Point, float | None]]
"""Points, and what they cost, lower is better; None where that is not known."""

FACTOR = math.sqrt(2)
"""Between a prediction and its neighbours."""
HALVES = 4
"""Half steps of this factor from the prediction to the end of the lattice over one or two parameters, each way."""
TOLD_APART = math.log(1.05)
"""A point nearer than this to one that was tried is not worth a trial."""


@dataclass(frozen=True)
class Around:
    """What is expected around the prediction; frozen with the sweep."""

    keys: list[str]
    surface: dict[str, Any]
    """A `Surface` over the logarithms of these parameters, lowest at the prediction."""
    errors: list[float]
    """Of the prediction, one standard deviation of the logarithms."""
    beside: Point
    """What the points have besides."""

    def next_point(self, space: Space, tried: Tried, valid: Callable[[Point], Point]) -> Point | None:
        """The best of what is not tried yet; None where all is. Trials beside other values do not count.

        valid: a point as a trial has it, with values that have to be multiples moved.
        """
        alike = [
            ([math.log(point[key]) for key in self.keys], cost)
            for point, cost in tried
            if all(key in point for key in self.keys) and all(point.get(key) == value for key, value in self.beside.items())
        ]
        for candidate in self._candidates(space, len(alike), [(at, cost) for at, cost in alike if cost is not None]):
            point = valid({**self.beside, **candidate})
            place = [math.log(point[key]) for key in self.keys]
            if all(max(abs(a - b) for a, b in zip(place, at, strict=True)) > TOLD_APART for at, _ in alike):
                return point
        return None

    def _candidates(self, space: Space, tried: int, ended: Sequence[tuple[list[float], float]]) -> Iterator[Point]:
        """The best first: a neighbour of the prediction along each parameter; then the lowest point of the surface, and the nearest to it
        of a lattice around the prediction."""
        expected = Surface(**self.surface)
        if tried <= len(self.keys):
            yield from neighbours(space, {key: math.exp(x) for key, x in zip(self.keys, expected.lowest, strict=True)})
        lowest = expected.lowest
        if ended:
            ends = [(min(xs), max(xs)) for xs in zip(*(at for at, _ in ended), strict=True)]
            found = moved_optimum(expected, self.errors, [at for at, _ in ended], [cost for _, cost in ended])
            if found is not None:  # not further than a step from what was tried: no surface is quadratic far away
                step = math.log(FACTOR)
                lowest = [min(max(x, low - step), high + step) for x, (low, high) in zip(found, ends, strict=True)]
        reach = max(1, HALVES // max(1, len(lowest) - 1))  # fewer in many dimensions, whose lattices are large
        halves = [place * math.log(FACTOR) / 2 for place in range(-reach, reach + 1)]
        lattice = map(list, itertools.product(*([x + half for half in halves] for x in expected.lowest)))
        for place in (lowest, *sorted(lattice, key=lambda point: math.dist(point, lowest))):
            yield {key: space[key].nearest(math.exp(x)) for key, x in zip(self.keys, place, strict=True)}


def neighbours(space: Space, centre: dict[str, float]) -> Iterator[Point]:
    """The centre, then the points around it on a lattice of factors of √2, the nearest first; each once, moved into the space."""
    reach = range(-2, 3)
    steps = sorted(itertools.product(reach, repeat=len(centre)), key=lambda step: (sum(x * x for x in step), tuple(-x for x in step)))
    seen = set()
    for step in steps:
        point = {key: space[key].nearest(value * FACTOR**x) for (key, value), x in zip(centre.items(), step, strict=True)}
        if tuple(point.values()) not in seen:
            seen.add(tuple(point.values()))
            yield point
