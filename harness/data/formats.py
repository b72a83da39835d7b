"""One file to its documents: jsonl, parquet, plain text. Whatever is wrong in a file is reported with its name and place."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from harness.config.errors import InputError, nearest

ENDINGS = (".jsonl", ".jsonl.gz", ".parquet", ".txt", ".md")
UTF8_MARK = b"\xef\xbb\xbf"


class Document(NamedTuple):
    """A text, and how many bytes of its file were read when it was complete."""

    text: str
    position: int


def read_file(file: Path, field: str, *, key: str) -> Iterator[Document]:
    """The documents of one file, as a stream: one a row of jsonl and parquet (the text in `field`), the whole of a text file.

    Raises InputError, naming the source's configuration `key`, the file and the place, for whatever cannot be read.
    """
    try:
        match file.suffix:
            case ".parquet":
                yield from _parquet(file, field, key)
            case ".txt" | ".md":
                yield _plain(file, key)
            case _:
                yield from _jsonl(file, field, key)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{key}: {file}: broken gzip file ({error}); valid: a complete file made by gzip") from error
    except pa.ArrowException as error:
        raise InputError(f"{key}: {file}: not a readable parquet file ({str(error).splitlines()[0]})") from error
    except OSError as error:
        raise InputError(f"{key}: {file}: cannot be read ({error.strerror or error})") from error


def _plain(file: Path, key: str) -> Document:
    content = file.read_bytes()
    return Document(_decoded(content, f"{key}: {file}"), len(content))


def _decoded(content: bytes, where: str) -> str:
    try:
        return content.removeprefix(UTF8_MARK).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8 (byte {error.start} is 0x{content[error.start]:02x}); valid: UTF-8 text") from error


def _jsonl(file: Path, field: str, key: str) -> Iterator[Document]:
    with file.open("rb") as raw:
        stream: Iterable[bytes] = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if file.suffix == ".gz" else raw
        for number, line in enumerate(stream, start=1):
            if not line.isspace():
                where = f"{key}: {file}, line {number}"
                yield Document(_field_of(_parsed(line, where), field, where), raw.tell())


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(_decoded(line.rstrip(), where))
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not valid JSON ({error.msg} at column {error.colno}); valid: one JSON object a line") from error
    if not isinstance(row, dict):
        raise InputError(f"{where}: a JSON {_kind(row)}, not an object; valid: one JSON object a line, with its text in a field")
    return row


def _field_of(row: dict[str, Any], field: str, where: str) -> str:
    if field not in row:
        raise _no_field(field, list(row), where)
    text = row[field]
    if not isinstance(text, str):
        raise InputError(f"{where}: field {field!r} is a {_kind(text)}, not a string")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{where}: field {field!r} is not Unicode text (half a surrogate pair at character {error.start})") from error
    return text


def _kind(value: Any) -> str:
    """What JSON calls the type of a value."""
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


def _no_field(field: str, fields: list[str], where: str) -> InputError:
    guess = nearest(field, fields)
    hint = f" Did you mean {guess!r}?" if guess else ""
    key = where.partition(":")[0]
    return InputError(f"{where}: no field {field!r} ({key}.field={field}).{hint} Fields there: {', '.join(fields) or 'none'}.")


def _parquet(file: Path, field: str, key: str) -> Iterator[Document]:
    size, done = file.stat().st_size, 0
    with pq.ParquetFile(file) as table:
        where = f"{key}: {file}"
        if field not in table.schema_arrow.names:
            raise _no_field(field, table.schema_arrow.names, where)
        column_type = table.schema_arrow.field(field).type
        if not (pa.types.is_string(column_type) or pa.types.is_large_string(column_type) or pa.types.is_string_view(column_type)):
            raise InputError(f"{where}: column {field!r} holds {column_type}, not strings")
        rows = max(table.metadata.num_rows, 1)
        for batch in table.iter_batches(batch_size=1024, columns=[field]):
            try:
                texts = batch.column(0).to_pylist()
            except UnicodeDecodeError as error:
                raise InputError(f"{where}: column {field!r} is not UTF-8, between rows {done + 1} and {done + batch.num_rows}") from error
            for text in texts:
                done += 1
                if text is None:
                    raise InputError(f"{where}, row {done}: column {field!r} is null, not a string")
                yield Document(text, size * done // rows)
