"""From a method's name to the merged rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import assert_never

from harness.config.merge_methods import MergeMethod
from harness.merging.largest import Cut
from harness.merging.methods import span, sparse, sums
from harness.merging.methods.sce import sce
from harness.merging.operands import Floats, Operands
from harness.merging.options import Options


def merged_rows(method: MergeMethod, operands: Operands, options: Options, cuts: Sequence[Cut] | None = None) -> Iterator[Floats]:
    """The rows of the result, block by block: float32 [some rows, elements of a row].

    cuts: of ties over the whole model, see `sparse.ties`.
    """
    match method:
        case "linear":
            return sums.linear(operands, options)
        case "task_arithmetic":
            return sums.task_arithmetic(operands, options)
        case "slerp":
            return span.slerp(operands, options)
        case "nuslerp":
            return span.nuslerp(operands, options)
        case "multislerp":
            return span.multislerp(operands, options)
        case "karcher":
            return span.karcher(operands, options)
        case "model_stock":
            return span.model_stock(operands, options)
        case "ties":
            return sparse.ties(operands, options, cuts)
        case "dare_linear" | "dare_ties":
            return sparse.dare(operands, options, elect=method == "dare_ties")
        case "della" | "della_linear":
            return sparse.della(operands, options, elect=method == "della")
        case "breadcrumbs" | "breadcrumbs_ties":
            return sparse.breadcrumbs(operands, options, elect=method == "breadcrumbs_ties")
        case "sce":
            return sce(operands, options)
        case "passthrough":
            return sums.passthrough(operands)
        case _:
            assert_never(method)
