"""Read rows from one file: jsonl, parquet or arrow. Errors name the file and the line or row."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from harness.config.errors import InputError

UTF8_MARK = b"\xef\xbb\xbf"


class Row(NamedTuple):
    """A row, its place (for messages), and how many bytes of its file were read up to its end."""

    values: dict[str, Any]
    where: str
    position: int


def read_rows(file: Path, *, key: str, column: str | None = None) -> Iterator[Row]:
    """The rows of a jsonl, parquet or arrow file, as a stream; of the latter two only the given column, where it exists.

    Raises InputError, naming the source's configuration `key`, the file and the place, for whatever cannot be read.
    """
    with reported(file, key):
        match file.suffix:
            case ".parquet":
                yield from _parquet(file, column, key)
            case ".arrow":
                yield from _arrow(file, column, key)
            case _:
                yield from _jsonl(file, key)


@contextmanager
def reported(file: Path, key: str) -> Iterator[None]:
    """Turn errors of reading a file into an InputError that names it."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{key}: {file}: broken gzip file ({error}); valid: a complete file made by gzip") from error
    except pa.ArrowException as error:
        raise InputError(f"{key}: {file}: not a readable {file.suffix.removeprefix('.')} file ({str(error).splitlines()[0]})") from error
    except OSError as error:
        raise InputError(f"{key}: {file}: cannot be read ({error.strerror or error})") from error


def nothing_in(files: Sequence[Path], what: str, *, key: str) -> InputError:
    """The error for files without a single `what`."""
    return InputError(f"{key}: no {what} in {', '.join(map(str, files[:3]))}{', …' if len(files) > 3 else ''}")


def decoded(content: bytes, where: str) -> str:
    """Bytes as text, without a byte order mark."""
    try:
        return content.removeprefix(UTF8_MARK).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 (byte {error.start} is 0x{content[error.start]:02x}); valid: UTF-8 text") from error


def kind(value: Any) -> str:
    """The JSON name of a value's type."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def described(value: Any) -> str:
    """The type of a value with its article: null, a string, an array."""
    name = kind(value)
    return name if value is None else f"an {name}" if name[0] in "ao" else f"a {name}"


def _jsonl(file: Path, key: str) -> Iterator[Row]:
    with file.open("rb") as raw:
        stream: Iterable[bytes] = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if file.suffix == ".gz" else raw
        for number, line in enumerate(stream, start=1):
            if not line.isspace():
                where = f"{key}: {file}, line {number}"
                yield Row(_parsed(line, where), where, raw.tell())


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(decoded(line.rstrip(), where))
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not valid JSON ({error.msg} at column {error.colno}); valid: one JSON object a line") from error
    except RecursionError as error:
        raise InputError(f"{where}: JSON nested too deeply") from error
    except ValueError as error:  # an integer of thousands of digits
        raise InputError(f"{where}: not valid JSON ({error})") from error
    if not isinstance(row, dict):
        raise InputError(f"{where}: a JSON {kind(row)}, not an object; valid: one JSON object a line, with its text in a field")
    return row


def _parquet(file: Path, column: str | None, key: str) -> Iterator[Row]:
    size, done = file.stat().st_size, 0
    with pq.ParquetFile(file) as table:
        rows = max(table.metadata.num_rows, 1)
        columns = [column] if column in table.schema_arrow.names else None
        for batch in table.iter_batches(batch_size=1024, columns=columns):
            for number, row in enumerate(_values(batch, done, file, key), start=done + 1):
                yield Row(row, f"{key}: {file}, row {number}", size * number // rows)
            done += batch.num_rows


def _arrow(file: Path, column: str | None, key: str) -> Iterator[Row]:
    """A stream of record batches, as Hugging Face datasets writes them."""
    done = 0
    with pa.memory_map(str(file)) as content, pa.ipc.open_stream(content) as stream:
        for whole in stream:
            position, before = content.tell(), done
            selected = whole.select([column]) if column in whole.schema.names else whole
            # Batches may be of any size.
            for start in range(0, whole.num_rows, 1024):
                batch = selected.slice(start, 1024)
                for number, row in enumerate(_values(batch, before + start, file, key), start=before + start + 1):
                    yield Row(row, f"{key}: {file}, row {number}", position)
            done += whole.num_rows


def _values(batch: pa.RecordBatch, before: int, file: Path, key: str) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except UnicodeDecodeError as error:
        raise InputError(f"{key}: {file}: not UTF-8, between rows {before + 1} and {before + batch.num_rows}") from error
    except (ValueError, OverflowError) as error:  # a time that Python has no name for
        raise InputError(f"{key}: {file}: cannot be read, between rows {before + 1} and {before + batch.num_rows} ({error})") from error
    return rows
