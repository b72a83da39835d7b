"""Reading a table of learning curves.

A table is a .csv, .jsonl (both also .gz) or .parquet file with a row for each evaluation of each run:

    optim.lr,schedule,schedule.decay_fraction,step,tokens,val/target/loss,val/general/forgetting
    0.001,wsd,0.2,0,0,6.02,0.0
    0.001,wsd,0.2,50,51200,3.11,0.12
    0.001,cosine,,0,0,6.02,0.0

Columns named by a configuration key or group are parameters; blank where a run has none. `tokens` or `step` says how far the run was, and
the last row how long it is: the length is no parameter of its own. (Without either, the table has one row a run: its result.) `seconds`
is the time since its start; `run` and `index` name runs. All other columns of numbers are metrics. Other columns of text have to be
settled: `where` keeps the rows that have a value there.

Two published tables are known by their columns: the learning-rate schedules of MultiPowerLaw (size, schedule, step, lr, loss; its schedules
that have a counterpart here), and RegMix's mixtures (w_<domain>, <domain>_loss).
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from harness.config.errors import InputError, unknown
from harness.config.introspect import find
from harness.config.locations import groups
from harness.config.schema import Config
from harness.search.simulation.table import SECONDS, Curve, Interpolation, Table

Row = dict[str, Any]
SUFFIXES = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".parquet")
NAMES = ("run", "index")
LENGTHS = ("trainer.max_tokens", "trainer.max_steps")


def read_table(
    path: Path,
    *,
    where: Mapping[str, str] | None = None,
    rename: Mapping[str, str] | None = None,
    interpolation: Interpolation = "quadratic",
) -> Table:
    """Read a table. where: keep the rows with these values, by column; rename: columns by their name in the file.

    Raises InputError for files that cannot be read, columns that are absent, and rows that contradict each other.
    """
    rows = _read(path)
    if not rows:
        raise InputError(f"{path}: holds no rows")
    for published in (_multi_power_law, _reg_mix):
        rows = published(rows)
    rows = _kept(path, rows, where or {})
    for old, new in (rename or {}).items():
        if old not in rows[0]:
            raise unknown("column", old, list(rows[0]), where=f"--rename {old}={new}")
        rows = [{new if key == old else key: value for key, value in row.items()} for row in rows]
    return _table(path, rows, set(where or {}), interpolation)


def _read(path: Path) -> list[Row]:
    if not path.is_file():
        raise InputError(f"--table={path}: no such file")
    if not path.name.endswith(SUFFIXES):
        raise InputError(f"--table={path}: cannot be read as a table; valid: {', '.join(SUFFIXES)}")
    try:
        if path.suffix == ".parquet":
            import pyarrow.parquet

            found: list[Row] = pyarrow.parquet.read_table(path).to_pylist()
            return found
        with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as stream:
            if ".jsonl" in path.suffixes:
                return _whole([json.loads(line) for line in stream if line.strip()])
            return [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(stream, strict=True)]
    except (OSError, ValueError, csv.Error, EOFError, TypeError, AttributeError) as error:
        raise InputError(f"--table={path}: cannot be read: {error}") from None


def _whole(rows: list[Row]) -> list[Row]:
    """Rows of JSON leave keys out."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return [{key: row.get(key) for key in keys} for row in rows]


def _value(text: str) -> Any:
    if text == "":
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return float(text)
    except ValueError:
        return text


def _kept(path: Path, rows: list[Row], where: Mapping[str, str]) -> list[Row]:
    for column, value in where.items():
        if column not in rows[0]:
            raise unknown("column", column, list(rows[0]), where=f"--where {column}={value}")
        held = list(dict.fromkeys(row[column] for row in rows))
        rows = [row for row in rows if row[column] == _value(value)]
        if not rows:
            raise InputError(f"--where {column}={value}: no row of {path} has it; valid: {', '.join(map(str, held[:20]))}")
    return rows


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_parameter(column: str) -> bool:
    return column in groups() or find(Config, column) is not None


def _table(path: Path, rows: list[Row], settled: set[str], interpolation: Interpolation) -> Table:
    columns = [column for column in rows[0] if column not in settled]
    params = [column for column in columns if column not in LENGTHS and _is_parameter(column)]
    position = next((column for column in ("tokens", "step") if column in columns), None)
    others = [column for column in columns if column not in (*params, *LENGTHS, *NAMES, "tokens", "step")]
    metrics = [column for column in others if all(_is_number(row[column]) for row in rows)]
    for column in others:
        held = list(dict.fromkeys(row[column] for row in rows))
        if column not in metrics and len(held) > 1:
            raise InputError(
                f"{path}: column {column} holds text and is no configuration key; choose with --where {column}=VALUE, VALUE one of "
                f"{', '.join(map(str, held[:20]))}; or --rename {column}=KEY"
            )
    if not [metric for metric in metrics if metric != SECONDS]:
        raise InputError(f"{path}: has no column with a metric, such as val/target/loss; columns: {', '.join(rows[0])}")
    if not params:
        raise InputError(f"{path}: has no column named by a configuration key, such as optim.lr; columns: {', '.join(rows[0])}")
    told_apart = [*params, *(column for column in (*LENGTHS, *NAMES) if column in rows[0] and position)]
    runs: dict[tuple[Any, ...], list[Row]] = {}
    for number, row in enumerate(rows):
        key = tuple(row[column] for column in told_apart) if position else (number,)
        runs.setdefault(key, []).append(row)
    curves = [_curve(path, run, params, position, metrics) for run in runs.values()]
    return Table(path.name, curves, {"tokens": "tokens", "step": "steps", None: None}[position], interpolation)


def _curve(path: Path, rows: list[Row], params: list[str], position: str | None, metrics: list[str]) -> Curve:
    values = {key: rows[0][key] for key in params if rows[0][key] is not None}
    name = ", ".join(f"{key}={value}" for key, value in values.items())
    if position is None:
        at = np.ones(1)
    else:
        if not all(isinstance(row[position], int | float) and math.isfinite(row[position]) for row in rows):
            raise InputError(f"{path}: {name}: {position} is not a number in every row")
        rows = sorted(rows, key=lambda row: float(row[position]))
        at = np.array([float(row[position]) for row in rows])
        if len(set(at)) < len(at):
            raise InputError(f"{path}: {name}: several rows at the same {position}; a column that tells runs apart is `run`")
        if at[-1] <= 0:
            raise InputError(f"{path}: {name}: ends at {position}={at[-1]:g}")
    columns = {metric: np.array([math.nan if row[metric] is None else float(row[metric]) for row in rows]) for metric in metrics}
    for metric, column in columns.items():
        known = np.isfinite(column)
        if not known[-1]:
            raise InputError(f"{path}: {name}: the last row has no {metric}; leave runs out that did not end")
        columns[metric] = np.interp(at, at[known], column[known])
    return Curve(values, None if position is None else float(at[-1]), at / at[-1], columns)


# Published tables.


def _multi_power_law(rows: list[Row]) -> list[Row]:
    """Loss curves by learning-rate schedule (arXiv 2503.12811): peak 3e-4, cosine and decays to a tenth of it."""
    if not {"size", "schedule", "step", "lr", "loss"} <= rows[0].keys():
        return rows
    kinds: list[tuple[str, Callable[[re.Match[str]], Row]]] = [
        (r"constant_(\d+)", lambda found: {"schedule": "constant"}),
        (r"cosine_(\d+)", lambda found: {"schedule": "cosine"}),
        (
            r"wsdld_(\d+)_(\d+)",
            lambda found: {
                "schedule": "wsd",
                "schedule.decay_shape": "linear",
                "schedule.decay_fraction": 1 - int(found[1]) / int(found[2]),
            },
        ),
    ]
    blank = {"schedule.decay_shape": None, "schedule.decay_fraction": None}
    read = []
    for row in rows:
        for pattern, params in kinds:
            found = re.fullmatch(pattern, str(row["schedule"]))
            if found:
                read.append(
                    {"size": row["size"], **blank, **params(found), "run": row["schedule"], "step": row["step"], "loss": row["loss"]}
                )
    return read


def _reg_mix(rows: list[Row]) -> list[Row]:
    """Losses of 1 M parameter models by the weights of their sources (arXiv 2407.01492)."""
    weights = [column for column in rows[0] if column.startswith("w_")]
    losses = [column for column in rows[0] if column.endswith("_loss")]
    if "index" not in rows[0] or not weights or set(rows[0]) != {"index", *weights, *losses}:
        return rows
    names = {column: f"data.sources.{column.removeprefix('w_')}.weight" for column in weights}
    names |= {column: f"val/{column.removesuffix('_loss')}/loss" for column in losses}
    return [{names.get(key, key): value for key, value in row.items()} for row in rows]


def assignments(option: str, given: Iterable[str]) -> dict[str, str]:
    """KEY=VALUE texts of an option. Raises InputError for others."""
    pairs = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise InputError(f"{option} {text}: expected COLUMN=VALUE")
        pairs[key] = value
    return pairs
