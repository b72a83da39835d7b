"""Changes of which a part is kept before they are summed: by magnitude (ties, breadcrumbs) or by chance (dare, della).

Signs may be elected besides: of each element only the changes with the sign of the weighted sum count, and the sum is divided by their
weights (ties, arXiv 2306.01708; dare_ties, della).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.merging.largest import Bits, Cut, find_cut, magnitude_bits
from harness.merging.methods.sums import weighted_sum
from harness.merging.operands import Floats, Operand, Operands
from harness.merging.options import Options

Mask = npt.NDArray[np.bool_]
Keep = Callable[[int, Floats], Mask]
"""Which elements of an ingredient's change in a block are kept; its arguments are the block's first row and the change. Blocks come in
order, once."""


@dataclass(frozen=True)
class Kept:
    """What is kept of one ingredient's changes."""

    keep: Keep
    factor: float = 1.0
    """What they are multiplied by."""


def ties(operands: Operands, options: Options, cuts: Sequence[Cut] | None = None) -> Iterator[Floats]:
    """The largest changes, exactly int(density · n) of each tensor, or one; signs are elected.

    cuts: of each ingredient, where one selection goes over all tensors (`scope: model`); they are asked tensor by tensor, in order.
    """
    found = [largest_cut(operands, index) for index in range(len(operands.ingredients))] if cuts is None else cuts
    kept = [Kept(_by_cut(cut)) for cut in found]
    return _merged(operands, options, kept, elect=True, normalize=options.normalize is not False)


def breadcrumbs(operands: Operands, options: Options, *, elect: bool = False) -> Iterator[Floats]:
    """Without the int(gamma · n) largest changes, the int(density · n) next ones (arXiv 2312.06795)."""
    kept = [Kept(_between(operands, index)) for index in range(len(operands.ingredients))]
    return _merged(operands, options, kept, elect=elect, normalize=bool(options.normalize))


def dare(operands: Operands, options: Options, *, elect: bool) -> Iterator[Floats]:
    """Each change is kept with the chance `density` (arXiv 2311.03099), and scaled as `rescale` says."""
    kept = [_scaled(operands, options, index, _by_chance(operands, options, one)) for index, one in enumerate(operands.ingredients)]
    return _merged(operands, options, kept, elect=elect, normalize=bool(options.normalize))


def della(operands: Operands, options: Options, *, elect: bool) -> Iterator[Floats]:
    """Like dare, but the chance grows with the rank of a change in its row, from density − ε to density + ε (arXiv 2406.11617)."""
    kept = [_scaled(operands, options, index, _by_rank(operands, options, one)) for index, one in enumerate(operands.ingredients)]
    normalize = elect if options.normalize is None else options.normalize
    return _merged(operands, options, kept, elect=elect, normalize=normalize)


def largest_cut(operands: Operands, index: int) -> Cut:
    """The cut behind the int(density · n) largest changes of an ingredient: at least one, unless the density is 0."""
    size, density = _size(operands), operands.ingredients[index].density
    count = max(1, int(density * size)) if density > 0.0 else 0
    return find_cut(lambda: change_bits(operands, index), count, size)


def change_bits(operands: Operands, index: int) -> Iterator[Bits]:
    """Bits of the magnitudes of an ingredient's changes, block by block."""
    return (magnitude_bits(change) for _, change in operands.changes_of(index))


def della_chances(change: Floats, density: float, epsilon: float) -> npt.NDArray[np.float64]:
    """The chance of each element of float32 [rows, elements of a row] to be kept, by the rank of its magnitude in its row, the later of
    equal ones above the earlier."""
    columns = change.shape[1]
    if columns == 1:
        return np.full(change.shape, density)
    order = np.argsort(np.abs(change), axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(columns)[None, :], axis=1)
    chances: npt.NDArray[np.float64] = density - epsilon + 2.0 * epsilon * ranks / (columns - 1)
    return chances


def _merged(operands: Operands, options: Options, kept: Sequence[Kept], *, elect: bool, normalize: bool) -> Iterator[Floats]:
    weights = [one.weight for one in operands.ingredients]
    for block in operands.blocks():
        assert block.base is not None, "checked: this method has a base"
        changes = []
        for part, change in zip(kept, block.changes, strict=True):
            change *= part.keep(block.start, change)
            if part.factor != 1.0:
                change *= np.float32(part.factor)
            changes.append(change)
        merged = _elected(weights, changes, normalize=normalize) if elect else weighted_sum(weights, changes)
        if normalize and not elect:
            merged /= np.float32(sum(weights))
        merged *= np.float32(options.scale)
        yield block.base + merged


def _elected(weights: Sequence[float], changes: Sequence[Floats], *, normalize: bool) -> Floats:
    """The weighted sum of the changes whose sign is that of the weighted sum of all, where 0 counts as positive."""
    positive = weighted_sum(weights, changes) >= 0.0
    total, divisor = np.zeros_like(changes[0]), np.zeros_like(changes[0])
    for weight, change in zip(weights, changes, strict=True):
        weighted = np.float32(weight) * change
        agrees = np.where(positive, weighted > 0.0, weighted < 0.0)
        total += weighted * agrees
        if normalize:
            divisor += np.float32(weight) * agrees
    return np.divide(total, divisor, out=total, where=divisor != 0.0) if normalize else total


def _by_cut(cut: Cut) -> Keep:
    return lambda start, change: cut.select(magnitude_bits(change))


def _between(operands: Operands, index: int) -> Keep:
    size, one = _size(operands), operands.ingredients[index]
    kept = int(one.density * size)
    dropped = min(int(one.gamma * size), size - kept)
    outer = find_cut(lambda: change_bits(operands, index), dropped + kept, size)
    inner = find_cut(lambda: change_bits(operands, index), dropped, size)

    def keep(start: int, change: Floats) -> Mask:
        bits = magnitude_bits(change)
        return outer.select(bits) & ~inner.select(bits)

    return keep


def _by_chance(operands: Operands, options: Options, one: Operand) -> Keep:
    return lambda start, change: _uniform(operands, options, one, start, change) < one.density


def _by_rank(operands: Operands, options: Options, one: Operand) -> Keep:
    if not 0.0 < one.density < 1.0:
        return lambda start, change: np.full(change.shape, one.density > 0.0)
    return lambda start, change: _uniform(operands, options, one, start, change) < della_chances(change, one.density, one.epsilon)


def _uniform(operands: Operands, options: Options, one: Operand, start: int, change: Floats) -> npt.NDArray[np.float64]:
    columns = change.shape[1]
    return options.noise.uniform(one.name, operands.tensor, start * columns, change.size).reshape(change.shape)


def _scaled(operands: Operands, options: Options, index: int, keep: Keep) -> Kept:
    """With the factor by which what is kept makes up for what is not."""
    match options.rescale:
        case "none":
            return Kept(keep)
        case "density":
            density = operands.ingredients[index].density
            return Kept(keep, 1.0 / density if density > 0.0 else 1.0)
        case "l1":
            whole = part = 0.0
            for start, change in operands.changes_of(index):
                magnitudes = np.abs(change)
                whole += float(magnitudes.sum(dtype=np.float64))
                part += float(magnitudes.sum(dtype=np.float64, where=keep(start, change)))
            return Kept(keep, whole / part if part > 0.0 else 1.0)


def _size(operands: Operands) -> int:
    rows, columns = operands.shape
    return rows * columns
