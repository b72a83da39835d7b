"""metrics.jsonl: a row per logged step. A resumed run writes some steps again; readers keep the last row of each step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.runs.files import append_json_line, read_json_lines

Row = dict[str, Any]


class MetricsFile:
    """The metrics of one run, on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Row) -> None:
        """Append a row; it must hold `step`. JSON has no NaN: values that are not finite become null."""
        append_json_line(
            self.path, {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
        )

    def rows(self) -> list[Row]:
        """One row a step, in the order of steps."""
        by_step: dict[int, Row] = {row["step"]: row for row in self._in_order()}
        return [by_step[step] for step in sorted(by_step)]

    def last(self) -> Row | None:
        """The row of the deepest step reached, or None before the first."""
        rows = self.rows()
        return rows[-1] if rows else None

    def newest(self) -> Row | None:
        """The row that was written last: of a step before the deepest one where an attempt went over its predecessor's steps again."""
        newest = None
        for row in self._in_order():
            newest = row
        return newest

    def _in_order(self) -> Iterator[Row]:
        """The rows as they were written; what is no row of numbers is damage, and left out."""
        for row in read_json_lines(self.path):
            if isinstance(row.get("step"), int) and all(value is None or isinstance(value, int | float) for value in row.values()):
                yield row


def last_values(rows: list[Row]) -> dict[str, float]:
    """The last logged value of every metric, by its logged name (`step` and `tokens` are not metrics); none where it was not finite."""
    values: dict[str, Any] = {}
    for row in rows:
        values.update({key: value for key, value in row.items() if key not in ("step", "tokens")})
    return {key: value for key, value in values.items() if value is not None}
