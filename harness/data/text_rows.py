"""Rows of files of text: a JSON object a line, a JSON array of objects, or CSV with a header; compressed or not."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa

from harness.config.errors import InputError
from harness.data.row import UTF8_MARK, BadRows, Row, decoded, kind

COMPRESSIONS = (".gz", ".zst")
ONE_A_LINE = "valid: one JSON object a line"


def uncompressed_name(file: Path) -> str:
    """A file's name in lower case, without the ending of its compression."""
    name = file.name.lower()
    return name.removesuffix(next((ending for ending in COMPRESSIONS if name.endswith(ending)), ""))


@contextmanager
def opened(file: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """A file's bytes, decompressed, and the file itself, whose position says how much was read."""
    with file.open("rb") as raw:
        match file.suffix.lower():
            case ".gz":
                yield cast(BinaryIO, io.BufferedReader(gzip.GzipFile(fileobj=raw))), raw
            case ".zst":
                with pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd") as stream:
                    yield cast(BinaryIO, io.BufferedReader(stream)), raw
            case _:
                yield raw, raw


def json_lines(file: Path, key: str, bad: BadRows) -> Iterator[Row]:
    """One JSON object a line; blank lines are passed over."""
    with opened(file) as (stream, raw):
        for number, line in enumerate(stream, start=1):
            if not line.isspace():
                where = f"{key}: {file}, line {number}"
                try:
                    row = _parsed(line, where)
                except InputError as problem:
                    if number == 1:
                        _refuse_whole_document(line, file, key)
                    bad.add(problem)
                    continue
                yield Row(row, where, raw.tell())


def json_document(file: Path, key: str, bad: BadRows) -> Iterator[Row]:
    """A JSON array of objects, or one object a line, as either is found under the name .json."""
    with opened(file) as (stream, _):
        start = stream.read(4096).removeprefix(UTF8_MARK).lstrip()[:1]
    if start != b"[":
        yield from json_lines(file, key, bad)
        return
    with opened(file) as (stream, _):
        content = stream.read()
    rows = _json(decoded(content, f"{key}: {file}"), f"{key}: {file}", "valid: an array of objects, or one object a line")
    for number, row in enumerate(rows, start=1):
        where = f"{key}: {file}, row {number}"
        if isinstance(row, dict):
            yield Row(row, where, file.stat().st_size * number // len(rows))
        else:
            bad.add(InputError(f"{where}: a JSON {kind(row)}, not an object; valid: an array of objects"))


def csv_rows(file: Path, key: str, bad: BadRows, columns: Sequence[str]) -> Iterator[Row]:
    """CSV as RFC 4180 has it, with the names of the fields in its first row; all values are strings. columns: those that are needed."""
    csv.field_size_limit(sys.maxsize)  # a document may be longer than the module's 131,072 characters
    with opened(file) as (stream, raw):
        reader = csv.reader(io.TextIOWrapper(stream, encoding="utf-8-sig", newline=""), strict=True)
        try:
            header = next(reader, [])
            if twice := [name for name in columns if header.count(name) > 1]:
                raise InputError(f"{key}: {file}: its header has {twice[0]!r} more than once; valid: a name for each column")
            for number, values in enumerate(reader, start=1):
                where = f"{key}: {file}, row {number}"
                if len(values) == len(header):
                    yield Row(dict(zip(header, values, strict=True)), where, raw.tell())
                elif values:
                    bad.add(InputError(f"{where}: {len(values)} fields, where the header has {len(header)}; valid: as many"))
        except csv.Error as error:
            raise InputError(f"{key}: {file}, near line {reader.line_num}: not CSV ({error}); valid: RFC 4180, with a header") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{key}: {file}, near line {reader.line_num}: not UTF-8; valid: UTF-8 text") from error


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    row = _json(decoded(line.rstrip(), where), where, ONE_A_LINE)
    if not isinstance(row, dict):
        raise InputError(f"{where}: a JSON {kind(row)}, not an object; {ONE_A_LINE}, with its text in a field")
    return row


def _json(text: str, where: str, valid: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not valid JSON ({error.msg} at column {error.colno}); {valid}") from error
    except RecursionError as error:
        raise InputError(f"{where}: JSON nested too deeply") from error
    except ValueError as error:  # an integer of more digits than Python converts
        raise InputError(f"{where}: a number of too many digits") from error


def _refuse_whole_document(first_line: bytes, file: Path, key: str) -> None:
    """Refuse a file whose first line begins a JSON document that goes on in the next, or is a whole array."""
    match first_line.removeprefix(UTF8_MARK).strip()[:1], uncompressed_name(file).endswith(".json"):
        case b"[", False:
            raise InputError(f"{key}: {file}: a JSON array; {ONE_A_LINE}, or the array in a file that ends in .json")
        case b"{", True:
            if first_line.strip() == b"{":
                raise InputError(f"{key}: {file}: one JSON object over several lines; valid: an array of objects, or one object a line")
