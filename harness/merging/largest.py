"""The k largest of a tensor, exactly k: among equal ones the first. Two passes of a radix sort find the k-th value, whatever the size.

Checkpoints in half precision have many changes of one magnitude: a threshold alone would take too many, an unstable sort others each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.merging.operands import Floats

Bits = npt.NDArray[np.uint32]
HALF = 16
ALL = 1 << 32
"""More than the bits of any number."""


def magnitude_bits(values: Floats) -> Bits:
    """The bits of magnitudes, uint32 of the same shape: they are ordered as the magnitudes are."""
    return np.abs(values).view(np.uint32)


@dataclass
class Cut:
    """Where the selection ends. Blocks are asked in order, once: what is equal to the last one is taken as long as there is room."""

    above: int
    """Numbers whose bits are larger are selected…"""
    equal: int
    """…and so many of those with exactly these bits."""

    def select(self, bits: Bits) -> npt.NDArray[np.bool_]:
        """Which of the next block are selected, bool of its shape."""
        if self.above < 0:
            return np.ones(bits.shape, dtype=np.bool_)
        if self.above >= ALL:
            return np.zeros(bits.shape, dtype=np.bool_)
        limit = np.uint32(self.above)
        chosen: npt.NDArray[np.bool_] = bits > limit
        if self.equal > 0:
            same = np.flatnonzero(bits == limit)[: self.equal]
            chosen.reshape(-1)[same] = True
            self.equal -= len(same)
        return chosen


def find_cut(blocks: Callable[[], Iterator[Bits]], count: int, size: int) -> Cut:
    """The cut behind the `count` largest of `size` numbers, whose bits `blocks` gives, each time anew."""
    if count >= size:
        return Cut(-1, 0)
    if count <= 0:
        return Cut(ALL, 0)
    upper = np.zeros(1 << HALF, dtype=np.int64)
    for bits in blocks():
        upper += np.bincount(bits.reshape(-1) >> HALF, minlength=1 << HALF)
    high, left = _bin(upper, count)
    lower = np.zeros(1 << HALF, dtype=np.int64)
    for bits in blocks():
        flat = bits.reshape(-1)
        lower += np.bincount(flat[flat >> HALF == high] & ((1 << HALF) - 1), minlength=1 << HALF)
    low, left = _bin(lower, left)
    return Cut((high << HALF) | low, left)


def _bin(counts: npt.NDArray[np.int64], count: int) -> tuple[int, int]:
    """The bin, from the top, in which the `count`-th number lies, and how many are taken from it."""
    from_top = np.cumsum(counts[::-1])
    index = int(np.searchsorted(from_top, count))
    before = int(from_top[index - 1]) if index else 0
    return len(counts) - 1 - index, count - before
