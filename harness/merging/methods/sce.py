"""sce: select, calculate, erase (arXiv 2408.07990)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.merging.largest import Cut, find_cut, magnitude_bits
from harness.merging.methods.sums import weighted_sum
from harness.merging.operands import Block, Floats, Operands
from harness.merging.options import Options


def sce(operands: Operands, options: Options) -> Iterator[Floats]:
    """base + λ Σ wτ / Σ w over the changes with the sign of their unweighted sum, at the positions where ingredients differ most.

    Positions: int(topk · those that differ at all), by the variance between the ingredients. Weights: in proportion to the mean τ² of an
    ingredient at these positions, in float64 without a floor. A recipe's own weights are not read.
    """
    cut = _positions(operands, options.topk)
    squares = np.zeros(len(operands.ingredients))
    for block in operands.blocks():
        squares += [float(np.square(change, dtype=np.float64).sum()) for change in _selected(block, cut)]
    total = float(squares.sum())
    weights = [float(square) / total for square in squares] if total > 0.0 else [1.0 / len(squares)] * len(squares)
    cut = _positions(operands, options.topk)
    for block in operands.blocks():
        assert block.base is not None, "checked: this method has a base"
        changes = _selected(block, cut)
        positive = weighted_sum([1.0] * len(changes), changes) >= 0.0
        agree = [np.where(positive, change > 0.0, change < 0.0) for change in changes]
        merged = weighted_sum(weights, [change * agrees for change, agrees in zip(changes, agree, strict=True)])
        divisor = weighted_sum(weights, [agrees.astype(np.float32) for agrees in agree])
        np.divide(merged, divisor, out=merged, where=divisor > 0.0)
        yield block.base + np.float32(options.scale) * merged


def _positions(operands: Operands, topk: float) -> Cut | None:
    """The cut behind the positions that differ most; None where all are taken."""
    if topk >= 1.0:
        return None
    rows, columns = operands.shape
    differing = sum(int(np.count_nonzero(_variances(block))) for block in operands.blocks())
    return find_cut(lambda: (magnitude_bits(_variances(block)) for block in operands.blocks()), int(topk * differing), rows * columns)


def _variances(block: Block) -> Floats:
    """Of the changes at each position, float32."""
    changes = [change.astype(np.float64) for change in block.changes]
    mean = np.mean(changes, axis=0)
    variances: Floats = np.mean([np.square(change - mean) for change in changes], axis=0).astype(np.float32)
    return variances


def _selected(block: Block, cut: Cut | None) -> list[Floats]:
    changes = block.changes
    if cut is None:
        return changes
    chosen = cut.select(magnitude_bits(_variances(block)))
    return [change * chosen for change in changes]
