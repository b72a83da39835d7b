"""Read rows from one file, by its ending. Errors name the file and the line or row."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from harness.config.errors import InputError
from harness.data.arrow_rows import arrow_rows, parquet_rows
from harness.data.row import UTF8_MARK, BadRows, Row
from harness.data.text_rows import COMPRESSIONS, csv_rows, json_document, json_lines, opened, uncompressed_name
from harness.runs.git_lfs import git_lfs_problem

_TEXT_ROWS = (".jsonl", ".ndjson", ".json", ".csv")
_COLUMNS = (".parquet", ".arrow")
_TEXTS = (".txt", ".md")
_LIKE_ROWS = re.compile(rb'\s*(\[\s*)?\{\s*"')
VALID_ROW_ENDINGS = f"{', '.join(_TEXT_ROWS)} (each also with {' or '.join(COMPRESSIONS)}), {', '.join(_COLUMNS)}"
VALID_ENDINGS = f"{', '.join((*_TEXT_ROWS, *_TEXTS))} (each also with {' or '.join(COMPRESSIONS)}), {', '.join(_COLUMNS)}"


def holds_rows(file: Path) -> bool:
    """Whether a file's name says that it holds rows, in any letter case."""
    return uncompressed_name(file).endswith(_TEXT_ROWS) or file.name.lower().endswith(_COLUMNS)


def is_readable(file: Path) -> bool:
    """Whether a file's name says that it holds rows or text."""
    return holds_rows(file) or uncompressed_name(file).endswith(_TEXTS)


def told_by_name(file: Path) -> str | None:
    """What only a file's name says of its bytes, where another name would give them another meaning: csv, or text that looks like rows."""
    if holds_rows(file):
        return "csv" if uncompressed_name(file).endswith(".csv") else None
    try:
        with opened(file) as (stream, _):
            return "text" if _LIKE_ROWS.match(stream.read(64).removeprefix(UTF8_MARK)) else None
    except (OSError, EOFError, zlib.error, pa.ArrowException):  # whoever reads it all says what is wrong
        return None


def read_rows(file: Path, columns: Sequence[str], *, key: str, bad: BadRows | None = None) -> Iterator[Row]:
    """The rows of a file, as a stream; of Parquet and Arrow only the given columns, those of them that exist.

    Raises InputError, naming the source's configuration `key`, the file and the place, for whatever cannot be read; bad: what becomes of
    lines that are no row, instead.
    """
    bad = bad or BadRows()
    with reported(file, key):
        match Path(uncompressed_name(file)).suffix:
            case ".parquet":
                yield from parquet_rows(file, key, columns)
            case ".arrow":
                yield from arrow_rows(file, key, columns)
            case ".csv":
                yield from csv_rows(file, key, bad, columns)
            case ".json":
                yield from json_document(file, key, bad)
            case _:
                yield from json_lines(file, key, bad)


@contextmanager
def reported(file: Path, key: str) -> Iterator[None]:
    """Turn errors of reading a file into an InputError that names it."""
    if problem := git_lfs_problem(file):
        raise InputError(f"{key}: {problem}")
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{key}: {file}: broken gzip file ({error}); valid: a complete file made by gzip") from error
    except pa.ArrowException as error:
        raise InputError(f"{key}: {file}: not a readable {file.suffix.removeprefix('.')} file ({str(error).splitlines()[0]})") from error
    except OSError as error:
        raise InputError(f"{key}: {file}: cannot be read ({error.strerror or str(error).partition(chr(10))[0]})") from error


def nothing_in(files: Sequence[Path], what: str, *, key: str) -> InputError:
    """The error for files without a single `what`."""
    return InputError(f"{key}: no {what} in {', '.join(map(str, files[:3]))}{', …' if len(files) > 3 else ''}")
