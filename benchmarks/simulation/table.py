"""A table of learning curves, asked for runs that it may not hold: between its curves it interpolates.

A table is a .csv file with a row for each evaluation of each run:

    optim.lr,schedule,schedule.decay_fraction,trainer.max_steps,step,val/target/loss,val/general/forgetting
    0.001,wsd,0.2,50,0,6.02,0.0
    0.001,wsd,0.2,50,50,3.11,0.12
    0.001,cosine,,50,0,6.02,0.0

Columns named by a configuration key or group are parameters, blank where a run has none; columns with a slash are metrics. The last step of
a run is its length; trainer.max_steps is needed only where runs differ in nothing but their length.

Texts (the schedule, a shape) have to match. Over the numbers and the length, the curves of the same texts fill a grid, and an answer is the
product of one-dimensional quadratic interpolations: logarithmic for the length, and for numbers that are positive and whose largest value
is at least ten times the smallest. A number beyond the table's is answered by its end; a length is refused, and so is what a run had before
its first row: a table of results alone cannot answer a search that stops runs early.

A column of another name or unit is taken for a parameter or metric of ours by `Column`: bs*2048=trainer.batch_tokens.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from harness.config.errors import InputError, unknown
from harness.config.introspect import find
from harness.config.locations import groups
from harness.config.schema import Config

Float64 = NDArray[np.float64]
LOG_FROM = 10.0
"""An axis whose largest value is so many times its smallest is logarithmic."""
PLACES = np.linspace(0.0, 1.0, 65)
"""Shares of the run at which curves are kept."""
ROUNDING = 1e-9
"""Of a share."""
LENGTH = "trainer.max_steps"


@dataclass(frozen=True)
class Curve:
    """A run that was trained for real, or what the table answers for one."""

    params: dict[str, Any]
    """By configuration key or group, without those that this run did not have; the length, in steps, under LENGTH."""
    metrics: tuple[str, ...]
    values: Float64
    """[places, metrics]"""
    known_from: float
    """The share of the run at which its first row stands."""

    def has(self, share: float) -> bool:
        """Whether a row stands there or before."""
        return share >= self.known_from - ROUNDING

    def at(self, share: float) -> dict[str, float]:
        """The metrics when this share of the run is done. Raises InputError before the first row."""
        if not self.has(share):
            asked = ", ".join(f"{key}={value}" for key, value in self.params.items())
            raise InputError(
                f"the table has no value after {share:.1%} of the run {asked}: its first row stands at {self.known_from:.1%}; valid: a "
                "search that does not stop runs (stopping=none), or a table with a row for each evaluation"
            )
        return {metric: float(np.interp(share, PLACES, self.values[:, column])) for column, metric in enumerate(self.metrics)}


class Table:
    """Learning curves over one set of parameters."""

    def __init__(self, name: str, curves: Sequence[Curve]) -> None:
        """Args: name: of its file, for messages. Raises InputError where curves of the same texts fill no grid."""
        self.name = name
        self.metrics = curves[0].metrics
        self.params = tuple(dict.fromkeys(key for curve in curves for key in curve.params if key != LENGTH))
        members: dict[tuple[tuple[str, str], ...], list[Curve]] = {}
        for curve in curves:
            members.setdefault(tuple((key, value) for key, value in curve.params.items() if isinstance(value, str)), []).append(curve)
        self._grids = {texts: _Grid(name, texts, grid) for texts, grid in members.items()}

    def axes(self, texts: Mapping[str, str]) -> dict[str, list[float]]:
        """The numbers of the curves that have these texts, by parameter, their lengths under LENGTH."""
        return {key: axis.values for key, axis in self._grids[tuple(texts.items())].axes.items()}

    def answer(self, params: Mapping[str, Any], steps: int) -> Curve:
        """The run of these parameters and this length. params: a value for each of `self.params`.

        Raises InputError for texts that no curve has, and for lengths beyond the table's.
        """
        for texts, grid in self._grids.items():
            if all(str(params[key]) == value for key, value in texts):
                asked_for = {**params, LENGTH: steps}
                return Curve(asked_for, self.metrics, grid.answer(asked_for), grid.known_from)
        asked = ", ".join(f"{key}={params[key]}" for key in dict.fromkeys(key for texts in self._grids for key, _ in texts))
        valid = "; ".join(", ".join(f"{key}={value}" for key, value in texts) for texts in self._grids)
        raise InputError(f"{self.name}: has no curves with {asked}; valid: {valid}")


@dataclass(frozen=True)
class Column:
    """A column of a table, and what it is here."""

    name: str
    factor: float
    becomes: str

    @classmethod
    def read(cls, text: str) -> Column:
        """Of bs*2048=trainer.batch_tokens, or loss=val/target/loss. Raises InputError."""
        found = re.fullmatch(r"([^*=]+)(?:\*([^=]+))?=(.+)", text)
        try:
            name, factor, becomes = found.groups() if found else (None, None, None)
            return cls(str(name), float(factor or 1), becomes) if becomes else cls._refuse(text)
        except ValueError:
            cls._refuse(text)

    @staticmethod
    def _refuse(text: str) -> NoReturn:
        raise InputError(f"--rename {text}: expected COLUMN=KEY or COLUMN*FACTOR=KEY, e.g. bs*2048=trainer.batch_tokens")

    def value(self, text: str) -> str:
        """Of a cell; texts and blanks stay as they are."""
        value = _value(text)
        return f"{value * self.factor:.12g}" if isinstance(value, float) and self.factor != 1 else text


def read_table(path: Path, renamed: Sequence[Column] = ()) -> Table:
    """Read a table. Raises InputError for rows of which no table can be made, and for columns to rename that it has not."""
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    by_name = {column.name: column for column in renamed}
    for name in by_name:
        if rows and name not in rows[0]:
            raise unknown("column", name, list(rows[0]), where=f"{path.name}, --rename")
    rows = [
        {
            by_name[name].becomes if name in by_name else name: by_name[name].value(text) if name in by_name else text
            for name, text in row.items()
        }
        for row in rows
    ]
    columns = list(rows[0]) if rows else []
    metrics = tuple(column for column in columns if "/" in column)
    params = [column for column in columns if column in groups() or find(Config, column) is not None]
    if not metrics or not params or "step" not in columns:
        raise InputError(f"{path}: needs step, a parameter such as optim.lr and a metric such as val/target/loss; columns: {columns}")
    runs: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        runs.setdefault(tuple(row[column] for column in params), []).append(row)
    return Table(path.name, [_curve(path, run, params, metrics) for run in runs.values()])


def _curve(path: Path, rows: list[dict[str, str]], params: list[str], metrics: tuple[str, ...]) -> Curve:
    rows = sorted(rows, key=lambda row: int(row["step"]))
    steps = np.array([int(row["step"]) for row in rows])
    values = {key: _value(rows[0][key]) for key in params if rows[0][key]}
    if len(set(steps)) < len(steps) or steps[-1] == 0:
        raise InputError(f"{path}: {values}: steps have to rise from row to row; {LENGTH} tells runs of several lengths apart")
    columns = [np.interp(PLACES, steps / steps[-1], [float(row[metric]) for row in rows]) for metric in metrics]
    return Curve({**values, LENGTH: float(steps[-1])}, metrics, np.stack(columns, axis=1), steps[0] / steps[-1])


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


class _Grid:
    """The curves that have the same texts, by their numbers."""

    def __init__(self, table: str, texts: tuple[tuple[str, str], ...], curves: Sequence[Curve]) -> None:
        self.table = table
        numbers = [{key: value for key, value in curve.params.items() if key not in dict(texts)} for curve in curves]
        keys = sorted({key for point in numbers for key in point})
        names = f"{table}: the curves of {dict(texts)}"
        if any(sorted(point) != keys for point in numbers):
            raise InputError(f"{names} have not all values for {', '.join(keys)}")
        self.axes = {key: _Axis([point[key] for point in numbers], always_log=key == LENGTH) for key in keys}
        cells = [tuple(axis.values.index(point[key]) for key, axis in self.axes.items()) for point in numbers]
        shape = tuple(len(axis.values) for axis in self.axes.values())
        if not len(cells) == len(set(cells)) == math.prod(shape):
            raise InputError(f"{names} fill no grid over {', '.join(keys)}")
        self.values = np.empty((*shape, *curves[0].values.shape))
        """[a dimension per axis, places, metrics]"""
        self.known_from = max(curve.known_from for curve in curves)
        for curve, cell in zip(curves, cells, strict=True):
            self.values[cell] = curve.values

    def answer(self, params: Mapping[str, Any]) -> Float64:
        """[places, metrics]"""
        lengths = self.axes[LENGTH].values
        if not lengths[0] <= params[LENGTH] <= lengths[-1]:
            raise InputError(f"{self.table}: has no runs of {params[LENGTH]} steps; valid: from {lengths[0]:g} to {lengths[-1]:g}")
        values = self.values
        for key, axis in self.axes.items():
            if not isinstance(params[key], int | float):
                raise InputError(f"{self.table}: {key}={params[key]} is no number, as it is in the table")
            values = np.tensordot(axis.weights(params[key]), values, axes=1)
        return values


class _Axis:
    """The values of one number."""

    def __init__(self, values: Sequence[float], *, always_log: bool) -> None:
        self.values = sorted(set(values))
        self._log = self.values[0] > 0 and (always_log or self.values[-1] >= LOG_FROM * self.values[0])
        self.places = np.array([self._place(value) for value in self.values])

    def _place(self, value: float) -> float:
        value = min(max(value, self.values[0]), self.values[-1])
        return math.log(value) if self._log else value

    def weights(self, value: float) -> Float64:
        """Of each value of the axis; they add up to 1. Two parabolas through neighbouring values, blended: a smooth curve through all."""
        places, place = self.places, self._place(value)
        if len(places) < 3:
            weights = np.ones(len(places))
            if len(places) == 2:
                weights[1] = (place - places[0]) / (places[1] - places[0])
                weights[0] = 1 - weights[1]
            return weights
        left = min(max(int(np.searchsorted(places, place, side="right")) - 1, 0), len(places) - 2)
        share: float = (place - places[left]) / (places[left + 1] - places[left])
        return (1 - share) * _parabola(places, max(left - 1, 0), place) + share * _parabola(places, min(left, len(places) - 3), place)


def _parabola(places: Float64, first: int, place: float) -> Float64:
    """Lagrange's weights of the three places from `first` on."""
    weights = np.zeros(len(places))
    three = range(first, first + 3)
    for i in three:
        weights[i] = math.prod((place - places[j]) / (places[i] - places[j]) for j in three if j != i)
    return weights


def check_table(table: Table, metrics: Sequence[str], parameters: Sequence[str]) -> None:
    """Raise InputError where the table does not know a metric, or a parameter of a space."""
    for metric in metrics:
        if metric not in table.metrics:
            raise unknown("metric", metric, table.metrics, where=table.name)
    for key in parameters:
        if key not in table.params:
            raise unknown("parameter", key, table.params, where=f"space: {table.name} cannot tell what it does")
