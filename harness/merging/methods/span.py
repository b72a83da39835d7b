"""Methods whose result lies in the span of its operands: all that they need to know are inner products, in float64.

One pass over the tensors finds the Gram matrix, a function of it the coefficients, a second pass adds the operands up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from harness.merging.methods.sums import weighted_sum
from harness.merging.operands import Block, Floats, Operands
from harness.merging.options import Options

Doubles = npt.NDArray[np.float64]
Vectors = Callable[[Block], list[Floats]]
"""Which vectors of a block are combined."""
NEARLY_PARALLEL = 0.9995
"""slerp: the cosine from which on it is a straight line, as in mergekit."""
SMALLEST_SINE = 1e-8
"""nuslerp: the sine up to which it is one."""
KARCHER_STEPS = 10
KARCHER_TOLERANCE = 1e-5


def slerp(operands: Operands, options: Options) -> Iterator[Floats]:
    """On the arc from the base (weight 0) to the one ingredient (weight 1), doi 10.1145/325165.325242."""
    t = operands.ingredients[0].weight
    for _, combined in _combined(operands, _base_and_values, lambda gram: slerp_coefficients(gram, t)):
        yield combined


def slerp_coefficients(gram: Doubles, t: float) -> list[float]:
    """Of two vectors, by their Gram matrix [2, 2]. The angle is between their directions; they themselves stay as long as they are."""
    cosine = _cosines(gram)[0, 1]
    if abs(cosine) > NEARLY_PARALLEL or not gram.diagonal().all():
        return [1.0 - t, t]
    angle = float(np.arccos(cosine))
    return [float(np.sin((1.0 - t) * angle) / np.sin(angle)), float(np.sin(t * angle) / np.sin(angle))]


def nuslerp(operands: Operands, options: Options) -> Iterator[Floats]:
    """slerp of two ingredients by t = w₂ / (w₁ + w₂); with a base, of their changes from it. A generalisation of mergekit's."""
    first, second = operands.ingredients
    t = second.weight / (first.weight + second.weight)
    if options.by_row:
        for block in operands.blocks():
            yield _on_base(block, _nuslerp_rows(_values_or_changes(block), t))
        return
    for block, combined in _combined(operands, _values_or_changes, lambda gram: nuslerp_coefficients(gram, t)):
        yield _on_base(block, combined)


def nuslerp_coefficients(gram: Doubles, t: float) -> list[float]:
    """Of two vectors, by their Gram matrix [2, 2]: those of slerp, and a straight line only where there is no arc."""
    cosine = float(np.clip(_cosines(gram)[0, 1], -1.0, 1.0))
    sine = float(np.sqrt(1.0 - cosine * cosine))
    if sine < SMALLEST_SINE or not gram.diagonal().all():
        return [1.0 - t, t]
    angle = float(np.arccos(cosine))
    return [float(np.sin((1.0 - t) * angle)) / sine, float(np.sin(t * angle)) / sine]


def _nuslerp_rows(vectors: list[Floats], t: float) -> Floats:
    one, other = (vector.astype(np.float64) for vector in vectors)
    products = [np.einsum("rc,rc->r", a, b) for a, b in ((one, one), (one, other), (other, other))]
    rows = [nuslerp_coefficients(np.array([[aa, ab], [ab, bb]]), t) for aa, ab, bb in zip(*products, strict=True)]
    coefficients = np.array(rows)
    return (coefficients[:, :1] * one + coefficients[:, 1:] * other).astype(np.float32)


def multislerp(operands: Operands, options: Options) -> Iterator[Floats]:
    """The weighted mean of the directions, as long as the weighted mean of the lengths; with a base, of the changes from it.

    That is all that is left of mergekit's multislerp, whose step in the tangent space is 0.
    """
    weights = [one.weight for one in operands.ingredients]
    total = sum(weights) if options.normalize is not False else 1.0
    shares = np.array(weights) / total
    for block, combined in _combined(operands, _values_or_changes, lambda gram: multislerp_coefficients(gram, shares)):
        yield _on_base(block, combined)


def multislerp_coefficients(gram: Doubles, weights: Doubles) -> list[float]:
    """Of vectors with these weights, by their Gram matrix [N, N]."""
    return _of_length(gram, _unit(gram, weights), weights)


def karcher(operands: Operands, options: Options) -> Iterator[Floats]:
    """The point on the sphere that is nearest to all directions (their Karcher mean), as long as the mean of the lengths."""
    for _, combined in _combined(operands, _values, karcher_coefficients):
        yield combined


def karcher_coefficients(gram: Doubles) -> list[float]:
    """Of vectors, by their Gram matrix [N, N]: by steps along the mean of the logarithms, at most 10, until one is shorter than 1e-5."""
    count = len(gram)
    shares = np.full(count, 1.0 / count)
    cosines, mean = _cosines(gram), _unit(gram, shares)
    for _ in range(KARCHER_STEPS):
        to_each = np.clip(cosines @ mean, -1.0, 1.0)
        angles = np.arccos(to_each)
        factors = np.where(angles > KARCHER_TOLERANCE, angles / np.maximum(np.sin(angles), np.finfo(np.float64).tiny), 1.0) * shares
        step = factors - float(factors @ to_each) * mean  # Σ f (u − cos·m), in coordinates of the directions
        length = float(np.sqrt(max(0.0, float(step @ cosines @ step))))
        if length < KARCHER_TOLERANCE:
            break
        mean = np.cos(length) * mean + np.sin(length) / length * step
    return _of_length(gram, mean, shares)


def model_stock(operands: Operands, options: Options) -> Iterator[Floats]:
    """base + t (mean − base), t by the mean cosine between the changes (arXiv 2403.19522), from 0 on.

    Changes that point away from each other would give t < 0, which leads away from all of them: there the base stays.
    """
    for block, combined in _combined(operands, _changes, _model_stock_coefficients):
        yield _on_base(block, combined)


def _model_stock_coefficients(gram: Doubles) -> list[float]:
    return [max(0.0, model_stock_share(gram)) / len(gram)] * len(gram)


def model_stock_share(gram: Doubles) -> float:
    """t = kc / (1 + (k − 1)c), c the mean cosine between k changes, by their Gram matrix [k, k]; 0 where one is zero."""
    count = len(gram)
    cosine = float(_cosines(gram)[np.triu_indices(count, 1)].mean())
    divisor = 1.0 + (count - 1) * cosine
    return count * cosine / divisor if divisor > 0.0 else 0.0


def gram_matrix(operands: Operands, vectors: Vectors) -> Doubles:
    """Inner products of the chosen vectors, float64 [N, N]."""
    total = np.zeros(())
    for block in operands.blocks():
        flat = [vector.reshape(-1).astype(np.float64) for vector in vectors(block)]
        total = total + np.array([[float(one @ other) for other in flat] for one in flat])
    return total


def _combined(operands: Operands, vectors: Vectors, rule: Callable[[Doubles], Sequence[float]]) -> Iterator[tuple[Block, Floats]]:
    """Every block, with the sum of its vectors by the coefficients that the rule gives for their Gram matrix."""
    coefficients = rule(gram_matrix(operands, vectors))
    for block in operands.blocks():
        yield block, weighted_sum(coefficients, vectors(block))


def _values(block: Block) -> list[Floats]:
    return block.values


def _changes(block: Block) -> list[Floats]:
    return block.changes


def _base_and_values(block: Block) -> list[Floats]:
    assert block.base is not None, "checked: this method has a base"
    return [block.base, *block.values]


def _values_or_changes(block: Block) -> list[Floats]:
    """Changes from the base, if there is one."""
    return block.values if block.base is None else block.changes


def _on_base(block: Block, merged: Floats) -> Floats:
    return merged if block.base is None else block.base + merged


def _lengths(gram: Doubles) -> Doubles:
    return np.sqrt(gram.diagonal())


def _cosines(gram: Doubles) -> Doubles:
    """Of the angles between vectors, [N, N]; 0 where one is zero."""
    lengths = _lengths(gram)
    products = np.outer(lengths, lengths)
    return np.divide(gram, products, out=np.zeros_like(gram), where=products > 0.0)


def _unit(gram: Doubles, weights: Doubles) -> Doubles:
    """The direction of Σ w·(direction), in coordinates of the directions; the sum itself where that is zero."""
    length = float(np.sqrt(max(0.0, float(weights @ _cosines(gram) @ weights))))
    return weights / length if length > 0.0 else weights


def _of_length(gram: Doubles, mean: Doubles, weights: Doubles) -> list[float]:
    """Coefficients of the vectors themselves, for a direction in coordinates of their directions and the mean of their lengths."""
    lengths = _lengths(gram)
    scaled = mean * float(weights @ lengths)
    return [float(value) for value in np.divide(scaled, lengths, out=np.zeros_like(lengths), where=lengths > 0.0)]
