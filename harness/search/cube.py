"""A space as a unit cube, for models: points as vectors, points drawn, points near others."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.search.parameter import Parameter
from harness.search.space import Space

INACTIVE = 0.5
"""The value of an inactive range: its condition tells such points apart."""
APART = math.sqrt(0.5)
"""Two choices without an order are 1 apart."""


class Cube:
    """The encoding of a space."""

    def __init__(self, space: Space) -> None:
        self.space = space
        sizes = [len(parameter.choices) if parameter.choices and not _has_order(parameter) else 1 for parameter in space.parameters]
        self.groups: NDArray[np.int64] = np.repeat(np.arange(len(sizes)), sizes)
        """[dimensions]: the parameter that each belongs to."""

    def encoded(self, points: Sequence[dict[str, Any]]) -> NDArray[np.float64]:
        """[points, dimensions]"""
        return np.array([self._vector(point) for point in points]).reshape(len(points), len(self.groups))

    def _vector(self, point: dict[str, Any]) -> list[float]:
        vector: list[float] = []
        for parameter in self.space.parameters:
            value = point.get(parameter.key)
            is_active = parameter.key in point
            if not parameter.choices:
                vector.append(_share(parameter, point[parameter.key]) if is_active else INACTIVE)
            elif _has_order(parameter):
                vector.append(_place(parameter, value) if is_active else INACTIVE)
            else:
                vector += [APART if is_active and value == choice else 0.0 for choice in parameter.choices]
        return vector

    def drawn(self, generator: random.Random, given: dict[str, Any] | None = None, free: Iterable[str] | None = None) -> dict[str, Any]:
        """A point: the parameters in `free` (default: all) drawn, the others as given; those that are active without being given, too."""
        if given is None or free is None:
            return self.space.drawn(generator)
        redrawn = set(free)
        return self.space.drawn(generator, {key: value for key, value in given.items() if key not in redrawn})

    def near(self, point: dict[str, Any], generator: random.Random, step: float) -> dict[str, Any]:
        """A point near another one: some parameters moved by about `step` of their range, and some choices redrawn."""
        parameters = self.space.parameters
        moved = {parameter.key for parameter in parameters if generator.random() < 0.5} or {generator.choice(parameters).key}
        found: dict[str, Any] = {}
        for parameter in parameters:
            if not parameter.is_active(found):
                continue
            if parameter.key not in point:
                found[parameter.key] = parameter.drawn(generator)
            elif parameter.key not in moved:
                found[parameter.key] = point[parameter.key]
            elif parameter.ordered:
                last = len(parameter.choices) - 1
                way = generator.gauss(0, step) * last
                # Small steps, too, lead to a neighbour.
                place = parameter.choices.index(point[parameter.key]) + math.copysign(max(1, round(abs(way))), way)
                found[parameter.key] = parameter.choices[int(min(max(place, 0), last))]
            elif parameter.choices:
                found[parameter.key] = generator.choice(parameter.choices) if generator.random() < 0.3 else point[parameter.key]
            else:
                share = _share(parameter, point[parameter.key]) + generator.gauss(0, step)
                found[parameter.key] = parameter.nearest(parameter.at(min(max(share, 0.0), 1.0)))
        return found


def cube_without_seed(space: Space) -> Cube:
    """Of a space whose trials run again with other seeds: the search's is what is replaced."""
    return Cube(replace(space, parameters=tuple(parameter for parameter in space.parameters if parameter.key != "seed")))


def _place(parameter: Parameter, choice: Any) -> float:
    """Of a choice among those that have an order: 0 for the first, 1 for the last."""
    ranked = parameter.choices if parameter.ordered else sorted(parameter.choices)
    return ranked.index(choice) / max(1, len(ranked) - 1)


def _has_order(parameter: Parameter) -> bool:
    return parameter.ordered or all(isinstance(choice, int | float) and not isinstance(choice, bool) for choice in parameter.choices)


def _share(parameter: Parameter, value: float) -> float:
    low, high = parameter.bounds
    if low == high:
        return INACTIVE
    return math.log(value / low) / math.log(high / low) if parameter.log else (value - low) / (high - low)
