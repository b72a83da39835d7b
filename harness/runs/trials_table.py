"""All runs of a study as one table, in Parquet: the form in which a recipe hands its evidence on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.config.errors import InputError
from harness.runs.files import replacing

Row = dict[str, Any]
PARAMS, METRICS = "params.", "metrics."


def write_trials(path: Path, rows: Sequence[Row]) -> None:
    """rows: plain values by column; columns that a row lacks are null there, columns of mixed kinds become JSON texts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(dict.fromkeys(name for row in rows for name in row))
    table = pa.table({name: _column([row.get(name) for row in rows]) for name in names})
    with replacing(path) as stream:
        pq.write_table(table, stream)


def _column(values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float}:
        return [None if value is None else float(value) for value in values] if float in kinds else values
    return values if kinds <= {bool} or kinds <= {str} else [None if value is None else json.dumps(value) for value in values]


def read_trials(path: Path) -> list[Row]:
    """The rows; of a stranger's file, too: Parquet holds values alone. Raises InputError where it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows: list[Row] = pq.read_table(path).to_pylist()
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {str(error).partition(chr(10))[0]}") from None
    return rows


def numbers_of(rows: Sequence[Row], column: str) -> list[float | None]:
    """A column of numbers; None where it has none."""
    return [float(value) if isinstance(value := row.get(column), int | float) and not isinstance(value, bool) else None for row in rows]


def prefixed(prefix: str, values: Mapping[str, Any]) -> Row:
    return {f"{prefix}{key}": value for key, value in values.items()}
