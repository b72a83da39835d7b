"""The tensors of one name that are merged, read a few rows at a time: memory depends neither on the model nor on its largest tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from harness.merging.ahead import ahead

Floats = npt.NDArray[np.float32]
BLOCK_ELEMENTS = 1 << 17
"""Of each operand at a time, at most; a row is never split. Few enough that what is computed of them stays in a core's cache."""


class Rows(Protocol):
    """A tensor as rows: its last dimension is a row; a vector is one row."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and elements of a row."""

    def read(self, start: int, stop: int) -> Floats:
        """Rows start to stop, float32 [stop - start, elements of a row]: an array of one's own, that may be written to."""


@dataclass(frozen=True)
class ArrayRows:
    """Rows that are in memory: float32 [rows, elements of a row]."""

    array: Floats

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.array.shape
        return rows, columns

    def read(self, start: int, stop: int) -> Floats:
        return self.array[start:stop].astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Operand:
    """An ingredient's tensor, and what the recipe says of it there."""

    name: str
    """The ingredient's, which its random mask depends on."""
    rows: Rows
    weight: float = 1.0
    density: float = 1.0
    """Share of the change that is kept, in [0, 1]."""
    gamma: float = 0.01
    """breadcrumbs: share of the largest changes that is dropped."""
    epsilon: float = 0.15
    """della: by how much the chance to be kept is below and above the density."""


@dataclass(frozen=True)
class Block:
    """Some rows of all operands: float32 [rows, elements of a row] each."""

    start: int
    """The first row."""
    base: Floats | None
    values: list[Floats]
    """The ingredients', in order."""

    @property
    def changes(self) -> list[Floats]:
        """The ingredients' differences from the base."""
        assert self.base is not None, "checked: this method has a base"
        return [value - self.base for value in self.values]


@dataclass(frozen=True)
class Operands:
    """All that one tensor of the result is made of."""

    tensor: str
    ingredients: Sequence[Operand]
    base: Rows | None = None
    block_elements: int = BLOCK_ELEMENTS

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and elements of a row."""
        return self.ingredients[0].rows.shape if self.ingredients else self._base.shape

    @property
    def _base(self) -> Rows:
        assert self.base is not None, "checked: there is something to merge"
        return self.base

    def spans(self) -> Iterator[tuple[int, int]]:
        """First row, and the row after the last one, of every block."""
        rows, columns = self.shape
        step = max(1, self.block_elements // max(1, columns))
        return ((start, min(rows, start + step)) for start in range(0, rows, step))

    def blocks(self) -> Iterator[Block]:
        """All rows once, in order; the next ones are read while the last are used."""
        spans = list(self.spans())
        blocks = (self._block(start, stop) for start, stop in spans)
        return ahead(blocks) if len(spans) > 1 else blocks

    def _block(self, start: int, stop: int) -> Block:
        base = None if self.base is None else self.base.read(start, stop)
        return Block(start, base, [one.rows.read(start, stop) for one in self.ingredients])

    def changes_of(self, index: int) -> Iterator[tuple[int, Floats]]:
        """First row and differences from the base, of one ingredient alone, block by block."""
        rows = self.ingredients[index].rows
        for start, stop in self.spans():
            yield start, rows.read(start, stop) - self._base.read(start, stop)
