"""Read texts from one file: a field of each of its rows, or a whole text file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from harness.config.errors import InputError, did_you_mean
from harness.data.row import BadRows, Row, decoded, described
from harness.data.rows import holds_rows, read_rows, reported
from harness.data.text_rows import opened


class Document(NamedTuple):
    """A text, and how many bytes of its file were read up to its end."""

    text: str
    position: int

    @property
    def characters(self) -> int:
        return len(self.text)


def read_file(file: Path, field: str, *, key: str, bad: BadRows | None = None) -> Iterator[Document]:
    """The documents of one file, as a stream: one a row (the text in `field`), or the whole of a text file.

    Raises InputError, naming the source's configuration `key`, the file and the place, for whatever cannot be read; bad: what becomes of
    rows without text in `field`, instead.
    """
    bad = bad or BadRows()
    if holds_rows(file):
        for row in read_rows(file, [field], key=key, bad=bad):
            try:
                text = _field_of(row, field)
            except InputError as problem:
                bad.add(problem)
                continue
            yield Document(text, row.position)
        return
    with reported(file, key), opened(file) as (stream, _):
        content = stream.read()
    yield Document(decoded(content, f"{key}: {file}"), file.stat().st_size)


def _field_of(row: Row, field: str) -> str:
    if field not in row.values:
        hint = did_you_mean(field, row.fields)
        key = row.where.partition(":")[0]
        raise InputError(f"{row.where}: no field {field!r} ({key}.field={field}).{hint} Fields there: {', '.join(row.fields) or 'none'}.")
    text = row.values[field]
    if not isinstance(text, str):
        raise InputError(f"{row.where}: field {field!r} is {described(text)}, not a string")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            place = f"half a surrogate pair at character {error.start}"
            raise InputError(f"{row.where}: field {field!r} is not Unicode text ({place})") from error
    return text
