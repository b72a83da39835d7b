"""A table of learning curves, asked for runs that it may not hold: between its curves it interpolates.

A table is a .csv file with a row for each evaluation of each run:

    optim.lr,schedule,schedule.decay_fraction,trainer.max_steps,step,val/target/loss,val/general/forgetting
    0.001,wsd,0.2,50,0,6.02,0.0
    0.001,wsd,0.2,50,50,3.11,0.12
    0.001,cosine,,50,0,6.02,0.0

Columns named by a configuration key or group are parameters, blank where a run has none; columns with a slash are metrics; others are
ignored, but for `tokens`, which says how many a step has. The last step of a run is its length. trainer.max_steps and
trainer.max_tokens are no parameters: they tell runs apart that differ in nothing but their length. Without a column `step` they are the
length, and each row is the end of its run.

Texts (the schedule, a shape) have to match. Over the numbers and the length, the curves of the same texts fill a grid, and an answer is the
product of one-dimensional quadratic interpolations: logarithmic for the length, and for numbers that are positive and whose largest value
is at least ten times the smallest. A number beyond the table's is answered by its end; a length is refused, and so is what a run had before
its first row: a table of results alone cannot answer a search that stops runs early.

Lengths are in steps. Where the batch is a parameter and the curves fill a grid with lengths in tokens alone (rate x batch at equal
tokens), they are in tokens. Runs are whole batches: one that is less than one of its batches away from a length of the table has that.

A column of another name or unit is taken for a parameter or metric of ours by `Column`: bs*2048=trainer.batch_tokens.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulation.columns import POSITIONS, Column, Row, is_parameter, read_rows
from harness.config.aliases import alias_of
from harness.config.errors import InputError, unknown
from harness.search.parameter import Parameter

Float64 = NDArray[np.float64]
LOG_FROM = 10.0
"""An axis whose largest value is so many times its smallest is logarithmic."""
PLACES = np.linspace(0.0, 1.0, 65)
"""Shares of the run at which curves are kept."""
ROUNDING = 1e-9
"""Of a share."""
LENGTH, IN_TOKENS, BATCH = "trainer.max_steps", "trainer.max_tokens", "trainer.batch_tokens"
OTHER_BATCH = 0.05
"""A table whose steps have so many more or fewer tokens than the sweep's, as a share, is of another batch."""


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

    def __init__(self, name: str, curves: Sequence[Curve], tokens_per_step: float | None = None) -> None:
        """Args: name: of its file, for messages; tokens_per_step: None where it does not say.

        Raises InputError where curves of the same texts fill no grid.
        """
        self.name, self.tokens_per_step = name, tokens_per_step
        self.metrics = curves[0].metrics
        self.params = tuple(dict.fromkeys(key for curve in curves for key in curve.params if key != LENGTH))
        members: dict[tuple[tuple[str, str], ...], list[Curve]] = {}
        for curve in curves:
            members.setdefault(tuple((key, value) for key, value in curve.params.items() if isinstance(value, str)), []).append(curve)
        self._grids = self._in_steps_or_tokens(members)

    def _in_steps_or_tokens(
        self, members: Mapping[tuple[tuple[str, str], ...], Sequence[Curve]]
    ) -> dict[tuple[tuple[str, str], ...], _Grid]:
        try:
            return {texts: _Grid(self.name, texts, curves, LENGTH) for texts, curves in members.items()}
        except InputError as in_steps:
            if not all(isinstance(curve.params.get(BATCH), int | float) for curves in members.values() for curve in curves):
                raise
            try:
                return {texts: _Grid(self.name, texts, curves, IN_TOKENS) for texts, curves in members.items()}
            except InputError as in_tokens:
                raise InputError(f"{in_steps}; with lengths in tokens: {in_tokens}") from None

    def axes(self, texts: Mapping[str, str]) -> dict[str, list[float]]:
        """The numbers of the curves that have these texts, by parameter, their lengths under LENGTH, or IN_TOKENS."""
        return {key: axis.values for key, axis in self._grids[tuple(texts.items())].axes.items()}

    def range(self, key: str) -> tuple[float, float] | None:
        """The smallest and the largest number of a parameter; None where it has none."""
        values = [value for grid in self._grids.values() if key in grid.axes for value in grid.axes[key].values]
        return (min(values), max(values)) if values else None

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


def read_table(path: Path, renamed: Sequence[Column] = ()) -> Table:
    """Read a table. Raises InputError for rows of which no table can be made, and for columns that cannot be renamed."""
    rows = read_rows(path, renamed)
    columns = list(rows[0].cells)
    params = [column for column in columns if is_parameter(column)]
    metrics = tuple(column for column in columns if "/" in column and column not in params)
    ignored = [column for column in columns if column not in (*params, *metrics, *POSITIONS)]
    meant = [f"{column} ({key} here: --rename {column}={key})" if (key := alias_of(column)) else column for column in ignored]
    told = f"parameters: {', '.join(params) or 'none'}; metrics: {', '.join(metrics) or 'none'}; ignored: {', '.join(meant) or 'none'}"
    has_end = "step" in columns or LENGTH in columns or {IN_TOKENS, BATCH} <= {*columns}
    if not metrics or not {*params} - {LENGTH, IN_TOKENS} or not has_end:
        raise InputError(
            f"{path.name}: needs a parameter such as optim.lr, a metric such as val/target/loss, and step; or, of results alone, {LENGTH}, "
            f"or {IN_TOKENS} and {BATCH}; columns: {told}"
        )
    runs: dict[tuple[float | str, ...], list[Row]] = {}
    for row in rows:
        runs.setdefault(tuple(row.value(column) for column in params), []).append(row)
    curves = [_curve(dict(zip(params, values, strict=True)), run, metrics, told) for values, run in runs.items()]
    # Padding and packing leave room in a batch: the fullest steps say how large it is.
    tokens_per_step = max((tokens for run in runs.values() if (tokens := _tokens_per_step(run)) is not None), default=None)
    try:
        return Table(path.name, curves, tokens_per_step)
    except InputError as error:
        raise InputError(f"{error}; columns: {told}") from None


def _curve(params: Mapping[str, float | str], rows: Sequence[Row], metrics: tuple[str, ...], told: str) -> Curve:
    """Args: told: what the columns of the table were taken for."""
    by_step = sorted(((_step(row), row) for row in rows), key=lambda pair: pair[0])
    values = {key: value for key, value in params.items() if value != "" and key not in (LENGTH, IN_TOKENS)}
    for (step, row), (next_step, other) in itertools.pairwise(by_step):
        if step == next_step:
            raise InputError(
                f"{row.table}, lines {row.line} and {other.line}: two rows of one run ({_listed(values)}) at step {step}; valid: one, and "
                f"parameters or {LENGTH} that tell runs apart; columns: {told}"
            )
    steps = np.array([step for step, _ in by_step])
    if steps[-1] == 0:
        raise InputError(f"{rows[0].table}, line {rows[0].line}: the run {_listed(values)} has no row after step 0; valid: one at its end")
    columns = [np.interp(PLACES, steps / steps[-1], [row.number(metric) for _, row in by_step]) for metric in metrics]
    return Curve({**values, LENGTH: float(steps[-1])}, metrics, np.stack(columns, axis=1), steps[0] / steps[-1])


def _step(row: Row) -> int:
    """At which a row stands: without a column of that name, the run's last one."""
    if "step" in row.cells:
        return row.count("step")
    ends = [row.count(LENGTH, least=1)] if row.cells.get(LENGTH) else []
    if row.cells.get(IN_TOKENS) and row.cells.get(BATCH):
        ends.append(row.count(IN_TOKENS) // row.count(BATCH, least=1))
    if not ends:
        raise InputError(f"{row.table}, line {row.line}: has no length; valid: {LENGTH}, or {IN_TOKENS} and {BATCH}")
    return min(ends)


def _tokens_per_step(rows: Sequence[Row]) -> float | None:
    end = max(rows, key=_step)
    return end.number("tokens") / _step(end) if end.cells.get("tokens") else None


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in values.items())


class _Grid:
    """The curves that have the same texts, by their numbers."""

    def __init__(self, table: str, texts: tuple[tuple[str, str], ...], curves: Sequence[Curve], length: str) -> None:
        """Args: length: LENGTH or IN_TOKENS, the unit of the axis of that name."""
        self.table, self._length = table, length
        numbers = [{key: value for key, value in curve.params.items() if key not in dict(texts)} for curve in curves]
        if length == IN_TOKENS:
            numbers = _with_lengths_in_tokens(numbers)
        keys = sorted({key for point in numbers for key in point})
        names = f"{table}: the curves{f' with {_listed(dict(texts))}' if texts else ''}"
        for point in numbers:
            if sorted(point) != keys:
                missing = ", ".join(key for key in keys if key not in point)
                raise InputError(f"{names} have not all values for {', '.join(keys)}: that of {_listed(point)} has none of {missing}")
        self.axes = {key: _Axis([point[key] for point in numbers], always_log=key == length) for key in keys}
        cells = [tuple(axis.values.index(point[key]) for key, axis in self.axes.items()) for point in numbers]
        self._check_full(f"{names} fill no grid over {', '.join(keys)}", cells)
        self.values = np.empty((*(len(axis.values) for axis in self.axes.values()), *curves[0].values.shape))
        """[a dimension per axis, places, metrics]"""
        self.known_from = max(curve.known_from for curve in curves)
        for curve, cell in zip(curves, cells, strict=True):
            self.values[cell] = curve.values

    def _check_full(self, problem: str, cells: Sequence[tuple[int, ...]]) -> None:
        """Raise InputError where a cell of the grid has no curve, or several."""
        known = set(cells)
        missing = math.prod(len(axis.values) for axis in self.axes.values()) - len(known)
        wrong = next((cell for cell in known if cells.count(cell) > 1), None) if len(known) < len(cells) else None
        if missing and wrong is None:
            wrong = next(cell for cell in itertools.product(*(range(len(axis.values)) for axis in self.axes.values())) if cell not in known)
        if wrong is not None:
            point = _listed({key: axis.values[place] for (key, axis), place in zip(self.axes.items(), wrong, strict=True)})
            raise InputError(f"{problem}: {'several have' if wrong in known else f'{missing} missing, e.g. that of'} {point}")

    def answer(self, params: Mapping[str, Any]) -> Float64:
        """[places, metrics]"""
        for key in self.axes:
            if key != self._length and not isinstance(params[key], int | float):
                raise InputError(f"{self.table}: {key}={params[key]} is no number, as it is in the table")
        lengths = self.axes[self._length].values
        length = params[LENGTH]
        if self._length == IN_TOKENS:
            length = _nearest_within_a_batch(lengths, length * params[BATCH], params[BATCH])
        if not lengths[0] <= length <= lengths[-1]:
            unit = "tokens" if self._length == IN_TOKENS else "steps"
            raise InputError(f"{self.table}: has no runs of {length:.12g} {unit}; valid: from {lengths[0]:.12g} to {lengths[-1]:.12g}")
        values = self.values
        for key, axis in self.axes.items():
            values = np.tensordot(axis.weights(length if key == self._length else params[key]), values, axes=1)
        return values


def _with_lengths_in_tokens(points: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """Points whose length is in tokens. Runs of the same tokens are as many whole batches, the smallest of which tell them best."""
    smallest = min(point[BATCH] for point in points)
    lengths = [point[LENGTH] * smallest for point in points if point[BATCH] == smallest]
    return [
        {key: value for key, value in point.items() if key != LENGTH}
        | {IN_TOKENS: _nearest_within_a_batch(lengths, point[LENGTH] * point[BATCH], point[BATCH])}
        for point in points
    ]


def _nearest_within_a_batch(lengths: Sequence[float], tokens: float, batch: float) -> float:
    """The nearest of some lengths if it is less than a batch away, as runs of whole batches are; else `tokens`."""
    nearest = min(lengths, key=lambda length: abs(length - tokens))
    return nearest if abs(nearest - tokens) < batch else tokens


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


def beyond(table: Table, parameters: Sequence[Parameter]) -> list[str]:
    """What a space asks for beyond the numbers of the table, in words. Raises InputError where that is all it asks for."""
    found = []
    for parameter in parameters:
        known = table.range(parameter.key)
        numbers = [value for value in parameter.extremes if isinstance(value, int | float) and not isinstance(value, bool)]
        if known is None or not numbers:
            continue
        low, high = min(numbers), max(numbers)
        asked, has = f"space.{parameter.key}: from {low:g} to {high:g}", f"{table.name} has {known[0]:g} to {known[1]:g}"
        if high < known[0] or low > known[1]:
            raise InputError(f"{asked}, and {has}; valid: a range that overlaps it")
        if low < known[0] or high > known[1]:
            found.append(f"{asked}; {has}: what lies beyond is answered by its ends")
    return found


def check_batch(table: Table, batch_tokens: int) -> None:
    """Raise InputError where the table's steps have another number of tokens, and it cannot tell what that does."""
    has = table.tokens_per_step
    if has is not None and BATCH not in table.params and abs(has - batch_tokens) > OTHER_BATCH * batch_tokens:
        raise InputError(
            f"{BATCH}={batch_tokens}: the column tokens of {table.name} says {has:.0f} a step; valid: within {OTHER_BATCH:.0%} of it, or a "
            f"table with a column {BATCH}"
        )
