"""A table of learning curves, asked for runs that it may not hold: between its points it interpolates.

Curves are told apart by their texts and truth values (the schedule, the packing, …), which have to match, and by their numbers and their
length, between which is interpolated: every number on an axis of its own, logarithmic where all its values are positive and the largest
is at least ten times the smallest; the length always so. Where the curves fill a grid, the answer is the product of one-dimensional
interpolations over the axes; where they are scattered, or the grid has holes, the mean of the nearest ones, weighted by 1 / distance².
A number beyond the table's is answered by its end. All of this makes an answer a weighted sum of curves, over shares of the run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, assert_never

import numpy as np
from numpy.typing import NDArray

from harness.config.errors import InputError, unknown

Float64 = NDArray[np.float64]
Interpolation = Literal["quadratic", "linear", "nearest"]
"""quadratic: two parabolas through neighbouring points, blended: a smooth curve through all of them."""
LOG_FROM = 10.0
"""An axis whose largest value is so many times its smallest is logarithmic."""
NEIGHBOURS = 8
"""So many scattered curves make an answer."""
BEYOND = 1.1
"""A run may be longer than the longest curve by this factor, or shorter than the shortest: padding makes runs a little shorter."""
PLACES = np.linspace(0.0, 1.0, 65)
"""Shares of the run at which curves are kept."""
LENGTH = "length"
SECONDS = "seconds"


@dataclass(frozen=True)
class Curve:
    """A run that was trained for real."""

    params: dict[str, Any]
    """By configuration key or group; without those that this run did not have."""
    length: float | None
    """In the table's unit; None in a table of results alone."""
    shares: Float64
    """[rows]: how much of the run was done, 0 to 1, rising."""
    values: dict[str, Float64]
    """[rows] by metric."""


@dataclass(frozen=True)
class Answer:
    """A run as the table tells it."""

    metrics: tuple[str, ...]
    curve: Float64
    """[places, metrics]"""

    def at(self, share: float) -> dict[str, float]:
        """The metrics when this share of the run is done."""
        values = [float(np.interp(share, PLACES, self.curve[:, column])) for column in range(len(self.metrics))]
        return {metric: value for metric, value in zip(self.metrics, values, strict=True) if metric != SECONDS and math.isfinite(value)}

    @property
    def seconds(self) -> float | None:
        """How long the run takes, where the table knows."""
        return float(self.curve[-1, self.metrics.index(SECONDS)]) if SECONDS in self.metrics else None


@dataclass
class Table:
    """Learning curves over one set of parameters."""

    name: str
    """Its file, for messages."""
    curves: Sequence[Curve]
    unit: Literal["tokens", "steps"] | None
    """Of lengths; None in a table of results alone."""
    interpolation: Interpolation = "quadratic"
    outside: set[str] = field(default_factory=set)
    """The parameters that were asked for beyond the table's ends."""

    @cached_property
    def params(self) -> tuple[str, ...]:
        """The parameters that curves are told apart by."""
        return tuple(dict.fromkeys(key for curve in self.curves for key in curve.params))

    @cached_property
    def metrics(self) -> tuple[str, ...]:
        return tuple(self.curves[0].values)

    @cached_property
    def _families(self) -> dict[tuple[tuple[str, Any], ...], _Family]:
        members: dict[tuple[tuple[str, Any], ...], list[Curve]] = {}
        for curve in self.curves:
            texts = tuple((key, value) for key, value in curve.params.items() if not _is_number(value))
            members.setdefault(texts, []).append(curve)
        return {texts: _Family(self.name, dict(texts), curves, self.metrics) for texts, curves in members.items()}

    def answer(self, params: Mapping[str, Any], length: float) -> Answer:
        """The run of these parameters and this length, in the table's unit.

        params: values of all that the table tells curves apart by; those that a family of curves has not are not looked at.
        Raises InputError for texts that no curve has, and for lengths that none comes near.
        """
        family = self._family(params)
        family.refuse_length(length, self.unit)
        weights, outside = family.weights({**params, LENGTH: length}, self.interpolation)
        self.outside |= outside
        used = np.flatnonzero(weights)
        return Answer(self.metrics, np.tensordot(weights[used], family.values[used], axes=1))

    def _family(self, params: Mapping[str, Any]) -> _Family:
        fitting = [texts for texts in self._families if all(_same(params.get(key), value) for key, value in texts)]
        if fitting:
            return self._families[max(fitting, key=len)]
        keys = dict.fromkeys(key for texts in self._families for key, _ in texts)
        asked = ", ".join(f"{key}={params.get(key)}" for key in keys)
        held = "; ".join(", ".join(f"{key}={value}" for key, value in texts) for texts in self._families)
        raise InputError(f"{self.name}: has no curves with {asked}; valid: {held}")

    def check(self, key: str, choices: Sequence[Any]) -> None:
        """Raise InputError where a parameter is none of the table's, or one of its choices is unknown to it."""
        if key not in self.params:
            raise unknown("parameter", key, self.params, where=f"space: {self.name} cannot tell what it does")
        known = {curve.params[key] for curve in self.curves if key in curve.params}
        if any(_is_number(value) for value in known):
            return
        for choice in choices:
            if not any(_same(choice, value) for value in known):
                raise unknown("choice", str(choice), [str(value) for value in known], where=f"space.{key}: {self.name}")


class _Family:
    """The curves that have the same texts: points in a space of numbers."""

    def __init__(self, table: str, texts: dict[str, Any], curves: Sequence[Curve], metrics: Sequence[str]) -> None:
        self.table, self.texts = table, texts
        keys = {key for key, value in curves[0].params.items() if _is_number(value)}
        for curve in curves:
            own = {key for key, value in curve.params.items() if _is_number(value)}
            if own != keys:
                where = ", ".join(f"{key}={value}" for key, value in texts.items()) or "the curves"
                raise InputError(f"{table}: of {where}, some have {', '.join(sorted(own ^ keys))} and some do not")
        self.lengths = sorted({curve.length for curve in curves if curve.length is not None})
        columns = {key: np.array([float(curve.params[key]) for curve in curves]) for key in sorted(keys)}
        if len(self.lengths) > 1:  # constant where they are alike, and then no axis
            alike = _alike(self.lengths)
            columns[LENGTH] = np.array([alike[curve.length] for curve in curves if curve.length is not None])
        self.axes = {key: _Axis(column, always_log=key == LENGTH) for key, column in columns.items() if len(set(column)) > 1}
        self.values = np.stack([np.stack([np.interp(PLACES, curve.shares, curve.values[m]) for m in metrics], axis=1) for curve in curves])
        """[curves, places, metrics]"""
        self._points = np.stack([axis.column for axis in self.axes.values()], axis=1) if self.axes else np.zeros((len(curves), 0))
        self._cells = self._grid(len(curves))
        """Curve by cell; None where the curves fill no grid."""
        if len({tuple(point) for point in self._points}) < len(curves):
            raise InputError(f"{table}: has several curves of the same parameters; what differs between them is no column")

    def _grid(self, curves: int) -> NDArray[np.int64] | None:
        shape = tuple(len(axis.places) for axis in self.axes.values())
        if math.prod(shape) != curves:  # far more cells than there is memory for, where many numbers are scattered
            return None
        if not shape:
            return np.zeros((), dtype=np.int64)  # one curve
        cells = np.full(shape, -1)
        cells[tuple(axis.index for axis in self.axes.values())] = np.arange(curves)
        return cells if (cells >= 0).all() else None

    def refuse_length(self, length: float, unit: str | None) -> None:
        if self.lengths and not self.lengths[0] / BEYOND <= length <= self.lengths[-1] * BEYOND:
            raise InputError(
                f"{self.table}: has no runs of about {length:g} {unit}; valid: from {self.lengths[0]:g} to {self.lengths[-1]:g} {unit}"
            )

    def weights(self, values: Mapping[str, Any], interpolation: Interpolation) -> tuple[Float64, set[str]]:
        """Of each curve in the answer, [curves]; and the parameters that lie beyond the table's ends."""
        at, outside = [], set()
        for key, axis in self.axes.items():
            value = values.get(key)
            if value is None or not _is_number(value):
                raise InputError(f"{self.table}: {key}={value} is no number, as it is in the table")
            place, is_outside = axis.place(float(value))
            at.append(place)
            if is_outside and key != LENGTH:
                outside.add(key)
        weights: Float64 = np.zeros(len(self.values))
        if self._cells is not None:
            product: Float64 = np.ones(())
            for axis, place in zip(self.axes.values(), at, strict=True):
                product = np.multiply.outer(product, axis.weights(place, interpolation))
            weights[self._cells.ravel()] = product.ravel()
            return weights, outside
        distances = ((self._points - np.array(at)) ** 2).sum(axis=1)
        nearest = np.argsort(distances, kind="stable")[: 1 if interpolation == "nearest" else NEIGHBOURS]
        if distances[nearest[0]] == 0:
            weights[nearest[0]] = 1.0
        else:
            weights[nearest] = 1.0 / distances[nearest]
        return weights / weights.sum(), outside


def _alike(lengths: Sequence[float]) -> dict[float, float]:
    """Padding makes runs of one plan a little shorter or longer: for each length the longest of those that mean the same."""
    alike: dict[float, float] = {}
    group: list[float] = []
    for length in lengths:
        group = [*group, length] if group and length <= group[0] * BEYOND else [length]
        alike.update(dict.fromkeys(group, length))
    return alike


class _Axis:
    """One number, from 0 to 1 between its smallest and its largest value."""

    def __init__(self, values: Float64, *, always_log: bool) -> None:
        low, high = float(values.min()), float(values.max())
        self.log = low > 0 and (always_log or high >= LOG_FROM * low)
        self.low, self.high = self._scaled(low), self._scaled(high)
        self.column = np.array([self.place(float(value))[0] for value in values])
        self.places, self.index = np.unique(self.column, return_inverse=True)

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.log else value

    def place(self, value: float) -> tuple[float, bool]:
        """Where a value lies, within the ends; and whether it lay beyond them."""
        if self.log and value <= 0:
            return 0.0, True
        place = (self._scaled(value) - self.low) / (self.high - self.low)
        return min(max(place, 0.0), 1.0), not -1e-6 <= place <= 1 + 1e-6

    def weights(self, place: float, interpolation: Interpolation) -> Float64:
        """Of each value of the axis, [places]; they add up to 1."""
        places = self.places
        weights = np.zeros(len(places))
        left = min(max(int(np.searchsorted(places, place, side="right")) - 1, 0), len(places) - 2)
        share = (place - places[left]) / (places[left + 1] - places[left])
        match interpolation:
            case "nearest":
                weights[left + (share > 0.5)] = 1.0
            case "linear":
                weights[left], weights[left + 1] = 1 - share, share
            case "quadratic":
                if len(places) == 2:
                    return self.weights(place, "linear")
                first, second = max(left - 1, 0), min(left, len(places) - 3)
                weights += (1 - share) * _parabola(places, first, place)
                weights += share * _parabola(places, second, place)
            case _:
                assert_never(interpolation)
        return weights


def _parabola(places: Float64, first: int, place: float) -> Float64:
    """Lagrange's weights of the three places from `first` on, [places]."""
    weights = np.zeros(len(places))
    three = range(first, first + 3)
    for i in three:
        weights[i] = math.prod((place - places[j]) / (places[i] - places[j]) for j in three if j != i)
    return weights


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _same(asked: Any, held: Any) -> bool:
    return str(asked).lower() == str(held).lower()
