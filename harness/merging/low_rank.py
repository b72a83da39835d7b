"""A matrix as the product of two thin ones that is nearest to it, from rows that are read a few at a time.

Small matrices are decomposed as a whole, large ones in the space that a few random vectors are taken to (arXiv 0909.4061): exact where the
rank suffices, else within about a thousandth of the best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.merging.operands import Floats

Doubles = npt.NDArray[np.float64]
Blocks = Callable[[], Iterator[tuple[int, Floats]]]
"""First row and values of every block of a matrix, each time anew."""
WHOLE_ELEMENTS = 1 << 20
"""Up to so many a matrix is decomposed as a whole."""
MORE_VECTORS = 10
"""Than the rank."""
STEPS = 4
"""Times that the vectors are taken through the matrix and back."""


@dataclass(frozen=True)
class Factors:
    """up @ down."""

    up: Floats
    """[rows, rank]."""
    down: Floats
    """[rank, columns]."""
    squares: float
    """Sum of the matrix's squares."""
    kept: float
    """Sum of the product's squares."""


def nearest_factors(blocks: Blocks, shape: tuple[int, int], rank: int) -> Factors:
    """The product of this rank that is nearest to a matrix of this shape in the sum of squares; of a smaller rank where its sides are."""
    rank = min(rank, *shape)
    if shape[0] * shape[1] <= WHOLE_ELEMENTS:
        whole = np.concatenate([block for _, block in blocks()]).astype(np.float64)
        left, values, right = np.linalg.svd(whole, full_matrices=False)
        squares = float(np.square(values).sum())
    else:
        left, values, right, squares = _in_few_dimensions(blocks, shape, min(rank + MORE_VECTORS, *shape))
    root = np.sqrt(values[:rank])
    up, down = (left[:, :rank] * root).astype(np.float32), (root[:, None] * right[:rank]).astype(np.float32)
    return Factors(up, down, squares, float(np.square(values[:rank]).sum()))


def _in_few_dimensions(blocks: Blocks, shape: tuple[int, int], count: int) -> tuple[Doubles, Doubles, Doubles, float]:
    """Left vectors [rows, count], singular values [count] and right vectors [count, columns], and the sum of the matrix's squares."""
    vectors = np.random.default_rng(0).normal(size=(shape[1], count))
    for _ in range(STEPS):
        images = _orthonormal(np.concatenate([block @ vectors for _, block in blocks()]))
        vectors = _orthonormal(_taken_back(blocks, images, shape[1]))
    images = _orthonormal(np.concatenate([block @ vectors for _, block in blocks()]))
    left, values, right = np.linalg.svd(_taken_back(blocks, images, shape[1]).T, full_matrices=False)
    squares = sum(float(np.square(block, dtype=np.float64).sum()) for _, block in blocks())
    return images @ left, values, right, squares


def _taken_back(blocks: Blocks, images: Doubles, columns: int) -> Doubles:
    """The transposed matrix times vectors [rows, count]."""
    total = np.zeros((columns, images.shape[1]))
    for start, block in blocks():
        total += block.T @ images[start : start + len(block)]
    return total


def _orthonormal(vectors: Doubles) -> Doubles:
    basis: Doubles = np.linalg.qr(vectors)[0]
    return basis
