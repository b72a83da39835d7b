"""Exact best-fit decreasing, in bulk.

Best-fit decreasing takes pieces from the longest to the shortest and puts each into the fullest row that still has room for it, or into a
new row. Pieces of one length are interchangeable, and so are rows with the same free space. So a whole group of pieces is placed at once:

    for every length, longest first:
        while pieces of this length wait:
            take the rows with the smallest free space >= length (new rows, whose space is the whole row, when there are none)
            put space // length pieces into each of them: after its first piece, such a row is the fullest with room for the next one

The result is the textbook algorithm's, at the cost of (distinct lengths x spaces touched) instead of (pieces x rows).
"""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np

from harness.data.ragged import Int64, stable_order


class _OpenRows:
    """Rows with room left, by their free space."""

    def __init__(self) -> None:
        self._rows: dict[int, list[Int64]] = {}
        self._spaces: list[int] = []  # the keys of _rows, sorted

    def tightest(self, length: int) -> int | None:
        """The smallest free space that holds `length` tokens, or None."""
        at = bisect_left(self._spaces, length)
        return self._spaces[at] if at < len(self._spaces) else None

    def put(self, space: int, rows: Int64) -> None:
        if space == 0 or len(rows) == 0:
            return
        if space not in self._rows:
            insort(self._spaces, space)
            self._rows[space] = []
        self._rows[space].append(rows)

    def take(self, space: int, wanted: int) -> Int64:
        """Up to `wanted` rows with exactly this space; they are open no longer."""
        blocks, taken = self._rows[space], []
        while blocks and wanted:
            block = blocks.pop()
            if len(block) > wanted:
                blocks.append(block[wanted:])
                block = block[:wanted]
            taken.append(block)
            wanted -= len(block)
        if not blocks:
            del self._rows[space]
            self._spaces.remove(space)
        return np.concatenate(taken)


def best_fit_rows(lengths: Int64, capacity: int) -> Int64:
    """The row of each piece under best-fit decreasing.

    Args: lengths int64[p], each in 1..capacity. Returns int64[p], row numbers 0, 1, … in the order in which rows were opened.
    """
    rows = np.empty(len(lengths), dtype=np.int64)  # in the order of placement, longest piece first
    counts = np.bincount(lengths, minlength=capacity + 1)
    open_rows = _OpenRows()
    placed = opened = 0
    for length in np.flatnonzero(counts)[::-1].tolist():
        waiting = int(counts[length])
        while waiting:
            found = open_rows.tightest(length)
            space = capacity if found is None else found
            each = space // length
            wanted = -(-waiting // each)
            if found is None:
                chosen = np.arange(opened, opened + wanted, dtype=np.int64)
                opened += wanted
            else:
                chosen = open_rows.take(space, wanted)
            now = min(waiting, len(chosen) * each)
            rows[placed : placed + now] = np.repeat(chosen, each)[:now]
            full, rest = divmod(now, each)  # only the last row may take fewer than `each`
            open_rows.put(space - each * length, chosen[:full])
            open_rows.put(space - rest * length, chosen[full:])
            placed += now
            waiting -= now
    by_piece = np.empty_like(rows)
    by_piece[stable_order(capacity - lengths)] = rows
    return by_piece
