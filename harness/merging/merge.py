"""A plan carried out: the tensors of the result one after another, as blocks of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from harness.config.errors import InputError
from harness.merging.largest import Bits, Cut, find_cut
from harness.merging.methods.build import merged_rows
from harness.merging.methods.sparse import change_bits
from harness.merging.operands import Floats, Operands
from harness.merging.plan import Plan, Target
from harness.merging.source import LARGEST


def merged_tensors(plan: Plan) -> Iterator[tuple[Target, Iterator[Floats]]]:
    """Every target that is merged, with its rows block by block, float32. Each has to be read to its end before the next.

    Raises InputError for values that are not finite: of a model, or too large for the type that they are stored in.
    """
    cuts = _cuts_over_all(plan) if plan.recipe.method == "ties" and plan.recipe.scope == "model" else None
    for target in plan.targets:
        if target.operands is not None:
            yield target, _finite(target, merged_rows(plan.recipe.method, target.operands, target.options, cuts))


def refuse_other_buffers(plan: Plan) -> None:
    """Raise InputError where what is no floating point number differs between the models."""
    for target in plan.targets:
        if target.operands is not None:
            continue
        (first, tensor), *others = target.sources
        for source, other in others:
            if any(one != two for one, two in zip(tensor.raw(), other.raw(), strict=True)):
                raise InputError(
                    f"{source.label}: {target.name} ({target.dtype}) is another than in {first.label}; valid: the same in all models"
                )


def _cuts_over_all(plan: Plan) -> list[Cut]:
    """Of every ingredient the cut behind its largest changes in the whole model."""
    operands = [target.operands for target in plan.targets if target.operands is not None]
    size = sum(math.prod(one.shape) for one in operands)
    cuts = []
    for index, ingredient in enumerate(operands[0].ingredients):
        if any(one.ingredients[index].density != ingredient.density for one in operands):
            raise InputError(f"density of {ingredient.name}: it depends on the tensor; valid with scope=model: one number")
        cuts.append(find_cut(_bits_of(operands, index), int(ingredient.density * size), size))
    return cuts


def _bits_of(operands: list[Operands], index: int) -> Callable[[], Iterator[Bits]]:
    return lambda: (bits for one in operands for bits in change_bits(one, index))


def _finite(target: Target, blocks: Iterator[Floats]) -> Iterator[Floats]:
    for block in blocks:
        largest = float(max(block.max(initial=0.0), -block.min(initial=0.0)))
        if not largest <= LARGEST[target.dtype]:
            raise _not_finite(target, largest)
        yield block


def _not_finite(target: Target, largest: float) -> InputError:
    for source, tensor in target.sources:
        rows = tensor.shape[0]
        step = max(1, (1 << 20) // max(1, tensor.shape[1]))
        if any(not np.isfinite(tensor.read(start, min(rows, start + step))).all() for start in range(0, rows, step)):
            return InputError(f"{source.label}: its weights hold NaN or infinite values (in {target.name}); valid: whole weight files")
    return InputError(
        f"{target.name}: the merge has values up to {largest:.3g}, more than {target.dtype} holds; valid: another dtype, or smaller weights"
    )
