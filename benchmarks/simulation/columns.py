"""The rows of a .csv table: columns taken under other names and units, and cells whose file, line and column a refusal names."""

from __future__ import annotations

import csv
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.errors import InputError, did_you_mean, unknown
from harness.config.introspect import alternatives, find
from harness.config.locations import groups
from harness.config.schema import Config
from harness.config.validate import unknown_key

POSITIONS = ("step", "tokens")
"""How far the run of a row is."""
SEPARATORS = {";": "semicolons", "\t": "tabs"}


@dataclass(frozen=True)
class Column:
    """A column of a table, and what it is here."""

    name: str
    factor: float
    becomes: str

    @classmethod
    def read(cls, text: str) -> Column:
        """Of bs*2048=trainer.batch_tokens, or loss=val/target/loss. Raises InputError."""
        found = re.fullmatch(r"([^*=]+)(?:\*([^=]+))?=(.+)", text)
        if found is None:
            raise InputError(f"--rename {text}: expected COLUMN=KEY or COLUMN*FACTOR=KEY, e.g. bs*2048=trainer.batch_tokens")
        name, factor, becomes = found.groups()
        number = _number(factor or "1")
        if number is None or number <= 0:
            raise InputError(f"--rename {text}: the factor {factor} is no finite number > 0, e.g. bs*2048=trainer.batch_tokens")
        if not is_parameter(becomes) and "/" not in becomes and becomes not in POSITIONS:
            meant = did_you_mean(becomes, POSITIONS) or f" {unknown_key(Config, becomes)}"
            raise InputError(
                f"--rename {text}: {becomes} is none of a configuration key or group, a metric (with a slash, e.g. val/target/loss), "
                f"{', '.join(POSITIONS)}.{meant}"
            )
        return cls(name, number, becomes)

    def value(self, text: str) -> str:
        """Of a cell; texts and blanks stay as they are."""
        value = _number(text)
        return text if value is None or self.factor == 1 else f"{value * self.factor:.12g}"


@dataclass(frozen=True)
class Row:
    """A row, whose numbers are read when they are asked for. All raise InputError."""

    table: str
    line: int
    """In the file, from 1."""
    cells: dict[str, str]

    def number(self, column: str) -> float:
        value = _number(self.cells[column])
        if value is None:
            raise self._wrong(column, "a finite number, with a decimal point")
        return value

    def count(self, column: str, least: int = 0) -> int:
        value = self.number(column)
        if value < least or value != int(value):
            raise self._wrong(column, f"a whole number from {least} on")
        return int(value)

    def value(self, column: str) -> float | str:
        """Of a parameter: a number, or a text where its key takes one."""
        text = self.cells[column]
        value = _number(text)
        item = find(Config, column)
        if text and value is None and (_is_infinite(text) or (item is not None and _takes_numbers_alone(item.annotation))):
            raise self._wrong(column, "a finite number, with a decimal point, or nothing where the run had none")
        return text if value is None else value

    def _wrong(self, column: str, valid: str) -> InputError:
        return InputError(f"{self.table}, line {self.line}, column {column}: {self.cells[column][:80]!r}; valid: {valid}")


def is_parameter(column: str) -> bool:
    """Whether it is a configuration key or group."""
    return column in groups() or find(Config, column) is not None


def read_rows(path: Path, renamed: Sequence[Column] = ()) -> list[Row]:
    """The rows of a file, at least one. Raises InputError."""
    try:
        # Spreadsheets begin their files with a byte order mark.
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if cells]
    except OSError as error:
        raise InputError(f"--table {path}: {error.strerror}; valid: a .csv file") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path.name}: is no text in UTF-8, from byte {error.start} on; valid: a .csv file in UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{path.name}: is no .csv file: {error}") from None
    if len(lines) < 2:
        raise InputError(f"{path.name}: has no rows; valid: a line of column names, and a row for each evaluation of each run")
    (_, header), *rows = lines
    for separator, name in SEPARATORS.items():
        if len(header) == 1 and separator in header[0]:
            raise InputError(f"{path.name}: its columns are separated by {name}; valid: commas")
    _check_names(path.name, header, renamed)
    by_name = {column.name: column for column in renamed}
    for line, cells in rows:
        if len(cells) != len(header):
            raise InputError(
                f"{path.name}, line {line}: {len(cells)} cells, and the table has {len(header)} columns; last cell: {cells[-1]!r}"
            )
    unchanged = {name: Column(name, 1.0, name) for name in header}
    columns = [{**unchanged, **by_name}[name] for name in header]
    return [
        Row(path.name, line, {column.becomes: column.value(text) for column, text in zip(columns, cells, strict=True)})
        for line, cells in rows
    ]


def _check_names(table: str, header: Sequence[str], renamed: Sequence[Column]) -> None:
    """Raise InputError where a column to rename is not there, or two columns would have one name."""
    names = [column.name for column in renamed]
    for name in names:
        if name not in header:
            raise unknown("column", name, header, where=f"{table}, --rename")
        if names.count(name) > 1:
            raise InputError(f"--rename: the column {name} is given twice; valid: once")
    became = [(name, name) for name in header if name not in names] + [(column.name, column.becomes) for column in renamed]
    for key, times in Counter(key for _, key in became).items():
        if key and times > 1:
            those = ", ".join(name for name, other in became if other == key)
            raise InputError(f"{table}: {times} columns are {key}: {those}; valid: one (--rename gives a column another name)")


def _number(text: str) -> float | None:
    """None for what is no finite number."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _is_infinite(text: str) -> bool:
    """Whether a text is nan or inf."""
    try:
        return not math.isfinite(float(text))
    except ValueError:
        return False


def _takes_numbers_alone(annotation: object) -> bool:
    return all(part in (int, float, type(None)) for part in alternatives(annotation))
