"""Rows of Parquet and Arrow files; only the columns that somebody needs are read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from harness.config.errors import InputError
from harness.data.row import Row

BATCH = 1024
ARROW_FILE = b"ARROW1"


def parquet_rows(file: Path, key: str, columns: Sequence[str]) -> Iterator[Row]:
    with pq.ParquetFile(file) as table:
        names = table.schema_arrow.names
        batches = table.iter_batches(batch_size=BATCH, columns=[name for name in names if name in columns])
        yield from _rows(((batch, None) for batch in batches), file, key, names, table.metadata.num_rows)


def arrow_rows(file: Path, key: str, columns: Sequence[str]) -> Iterator[Row]:
    """A stream of record batches, as Hugging Face datasets writes them, or Arrow's file format."""
    with pa.memory_map(str(file)) as content:
        if content.read(len(ARROW_FILE)) == ARROW_FILE:
            with pa.ipc.open_file(content) as table:
                wholes = [table.get_batch(number) for number in range(table.num_record_batches)]  # mapped, not read
                batches = ((_selected(whole, columns), None) for whole in wholes)
                yield from _rows(batches, file, key, table.schema.names, sum(whole.num_rows for whole in wholes))
            return
        content.seek(0)
        with pa.ipc.open_stream(content) as stream:
            streamed = ((_selected(batch, columns), content.tell()) for batch in stream)
            yield from _rows(streamed, file, key, stream.schema.names, None)


def _selected(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    return batch.select([name for name in batch.schema.names if name in columns])


def _rows(
    batches: Iterator[tuple[pa.RecordBatch, int | None]], file: Path, key: str, names: Sequence[str], total: int | None
) -> Iterator[Row]:
    """The rows of batches of any size; each comes with the position in the file, None: told from the `total` of rows."""
    size, done = file.stat().st_size, 0
    for whole, position in batches:
        unread = tuple(name for name in names if name not in whole.schema.names)
        for start in range(0, whole.num_rows, BATCH):
            values = _values(whole.slice(start, BATCH), done, file, key)
            for row in values:
                done += 1
                yield Row(row, f"{key}: {file}, row {done}", size * done // total if position is None and total else position or 0, unread)


def _values(batch: pa.RecordBatch, before: int, file: Path, key: str) -> list[dict[str, Any]]:
    if not batch.num_columns:
        return [{} for _ in range(batch.num_rows)]
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except UnicodeDecodeError as error:
        raise InputError(f"{key}: {file}: not UTF-8, between rows {before + 1} and {before + batch.num_rows}") from error
    except (ValueError, OverflowError, pa.ArrowException) as error:  # times that Python has no values for
        raise InputError(
            f"{key}: {file}: a value between rows {before + 1} and {before + batch.num_rows} cannot be read ({error}); "
            "valid: text, numbers, booleans, and lists and structs of them"
        ) from error
    if any(pa.types.is_nested(field.type) for field in batch.schema):
        rows = [{name: _without_absent(value) for name, value in row.items()} for row in rows]
    return rows


def _without_absent(value: Any) -> Any:
    """A nested value without the nulls in its structs: all rows share one type, and have null for fields that only others have."""
    if isinstance(value, dict):
        return {name: _without_absent(item) for name, item in value.items() if item is not None}
    return [_without_absent(item) for item in value] if isinstance(value, list) else value
