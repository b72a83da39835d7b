"""Read texts from one file: a field of each row of jsonl, parquet and arrow, or a whole text file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from harness.config.errors import InputError, did_you_mean
from harness.data.rows import decoded, kind, read_rows, reported

ROW_ENDINGS = (".jsonl", ".jsonl.gz", ".parquet", ".arrow")
ENDINGS = (*ROW_ENDINGS, ".txt", ".md")


class Document(NamedTuple):
    """A text, and how many bytes of its file were read up to its end."""

    text: str
    position: int

    @property
    def characters(self) -> int:
        return len(self.text)


def read_file(file: Path, field: str, *, key: str) -> Iterator[Document]:
    """The documents of one file, as a stream: one a row of jsonl, parquet and arrow (the text in `field`), the whole of a text file.

    Raises InputError, naming the source's configuration `key`, the file and the place, for whatever cannot be read.
    """
    if file.name.endswith(ROW_ENDINGS):
        for values, where, position in read_rows(file, key=key, column=field):
            yield Document(_field_of(values, field, where), position)
        return
    with reported(file, key):
        content = file.read_bytes()
    yield Document(decoded(content, f"{key}: {file}"), len(content))


def _field_of(row: dict[str, Any], field: str, where: str) -> str:
    if field not in row:
        raise _no_field(field, list(row), where)
    text = row[field]
    if not isinstance(text, str):
        raise InputError(f"{where}: field {field!r} is a {kind(text)}, not a string")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{where}: field {field!r} is not Unicode text (half a surrogate pair at character {error.start})") from error
    return text


def _no_field(field: str, fields: list[str], where: str) -> InputError:
    hint = did_you_mean(field, fields)
    key = where.partition(":")[0]
    return InputError(f"{where}: no field {field!r} ({key}.field={field}).{hint} Fields there: {', '.join(fields) or 'none'}.")
