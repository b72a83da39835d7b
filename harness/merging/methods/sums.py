"""Weighted sums: of the models (linear), or of their changes from a base (task arithmetic, arXiv 2212.04089)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from harness.merging.operands import Floats, Operands
from harness.merging.options import Options


def linear(operands: Operands, options: Options) -> Iterator[Floats]:
    """Σ wθ / Σ w; without the division, where `normalize` is false."""
    weights = [one.weight for one in operands.ingredients]
    divisor = sum(weights) if options.normalize is not False else 1.0
    for block in operands.blocks():
        yield weighted_sum([weight / divisor for weight in weights], block.values)


def task_arithmetic(operands: Operands, options: Options) -> Iterator[Floats]:
    """base + λ Σ wτ, τ the change from the base; divided by Σ w, where `normalize` is true."""
    weights = [one.weight for one in operands.ingredients]
    factor = options.scale / (sum(weights) if options.normalize else 1.0)
    for block in operands.blocks():
        assert block.base is not None, "checked: this method has a base"
        yield block.base + weighted_sum([factor * weight for weight in weights], block.changes)


def passthrough(operands: Operands) -> Iterator[Floats]:
    """The one ingredient, times its weight."""
    weight = operands.ingredients[0].weight
    return (block.values[0] if weight == 1.0 else np.float32(weight) * block.values[0] for block in operands.blocks())


def weighted_sum(weights: Sequence[float], values: Sequence[Floats]) -> Floats:
    """Σ weight · value, float32 of their shape."""
    total = np.float32(weights[0]) * values[0]
    weighted = np.empty_like(total)
    for weight, value in zip(weights[1:], values[1:], strict=True):
        np.multiply(value, np.float32(weight), out=weighted)
        total += weighted
    return total
