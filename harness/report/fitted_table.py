"""A table that fits into the terminal: whole columns are left out, and named, where rich would squeeze numbers to "2.3…"."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Column:
    """A heading and its cells."""

    name: str
    cells: list[Text]
    bound: str = ""
    expendable: float = 0.0
    """On a narrow terminal the columns with the highest numbers are left out; 0 is always shown."""
    is_text: bool = False
    """Words are aligned to the left, numbers to the right."""

    @property
    def _pieces(self) -> list[str]:
        return [*re.findall(r"[^._/]+[._/]*", self.name), *([f" {self.bound}"] if self.bound else [])]

    @property
    def minimum(self) -> int:
        return max(cell.cell_len for cell in [*self.cells, *(Text(piece.strip()) for piece in self._pieces)])

    @property
    def maximum(self) -> int:
        """With its heading on one line, plus one space."""
        return 1 + max(self.minimum, len("".join(self._pieces)))

    def heading(self, width: int) -> str:
        """The name, broken behind . _ / where it is longer than `width`, never inside a word."""
        lines = [""]
        for piece in self._pieces:
            if lines[-1] and len(lines[-1] + piece) > width:
                lines.append("")
            lines[-1] += piece
        return "\n".join(line.strip() for line in lines)


@dataclass(frozen=True)
class FittedTable:
    """Rows of numbers under headings that break behind . _ / alone."""

    columns: list[Column]
    caption: str = field(default="")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        between = len(self.columns) - 1
        narrowest = sum(column.minimum for column in self.columns) + between
        return Measurement(narrowest, sum(column.maximum for column in self.columns) + between).with_maximum(options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns = list(self.columns)
        left_out = []
        while (
            sum(column.minimum + 1 for column in columns) - 1 > options.max_width
            and (most := max(columns, key=lambda c: c.expendable)).expendable
        ):
            columns.remove(most)
            left_out.append(most.name)
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0)
        for column, width in zip(columns, _widths(columns, options.max_width), strict=True):
            table.add_column(column.heading(width), justify="left" if column.is_text else "right", width=width, header_style="bold")
        for row in zip(*(column.cells for column in columns), strict=True):
            table.add_row(*row)
        yield table
        missing = f"Left out in this width: {', '.join(left_out)}." if left_out else ""
        if self.caption or missing:
            yield Text("\n".join(filter(None, (self.caption, missing))), style="dim")


def _widths(columns: list[Column], room: int) -> list[int]:
    widths = [column.minimum for column in columns]
    spare = room - sum(widths) - len(columns) + 1
    for wanted in ([width + 1 for width in widths], [column.maximum for column in columns]):
        for index, width in enumerate(wanted):
            more = max(0, min(width - widths[index], spare))
            widths[index] += more
            spare -= more
    return widths


def show(renderable: RenderableType, console: Console) -> None:
    """Print in the terminal's width; into a pipe or a file, in full width."""
    if not console.is_terminal:
        unbounded = console.options.update(max_width=10_000)
        console.width = max(console.width, Measurement.get(console, unbounded, renderable).maximum)
    console.print(renderable)
