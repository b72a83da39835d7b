"""Arithmetic on ragged arrays (rows of different lengths, stored flat), without a Python loop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


def spans(starts: Int64 | int, counts: Int64) -> Int64:
    """The ranges start, start + 1, …, start + count - 1, one after the other.

    Args: starts int64[n] (or one start for all), counts int64[n]. Returns int64[counts.sum()].
    """
    first = np.cumsum(counts) - counts
    return np.repeat(starts - first, counts) + np.arange(int(counts.sum()), dtype=np.int64)


def offsets_of(counts: Int64 | NDArray[np.bool_]) -> Int64:
    """Where each row begins in the flat array, and where the last one ends: int64[n + 1]."""
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def stable_order(keys: Int64) -> Int64:
    """Indices that sort non-negative integers, equal ones in their order: int64[n].

    Sorting (key, index) pairs as plain integers is several times faster than numpy's stable argsort. Keys and indices together must
    fit into 63 bits, as lengths and row numbers do.
    """
    shift = len(keys).bit_length()
    pairs = (keys << shift) | np.arange(len(keys), dtype=np.int64)
    pairs.sort()
    return pairs & ((1 << shift) - 1)
