"""Methods of merging: what each needs and reads. Checked before any file is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MergeMethod = Literal[
    "linear",
    "task_arithmetic",
    "slerp",
    "nuslerp",
    "multislerp",
    "karcher",
    "model_stock",
    "ties",
    "dare_linear",
    "dare_ties",
    "della",
    "della_linear",
    "breadcrumbs",
    "breadcrumbs_ties",
    "sce",
    "passthrough",
]


@dataclass(frozen=True)
class MethodFacts:
    """What a method needs and reads, besides its ingredients' paths."""

    base: Literal["required", "optional", "none"]
    of_ingredients: frozenset[str]
    """Parameters that every ingredient may have a value of its own for."""
    of_all: frozenset[str]
    fewest: int = 1
    most: int | None = None
    """Ingredients besides the base."""


def _facts(base: Literal["required", "optional", "none"], own: str, shared: str, fewest: int = 1, most: int | None = None) -> MethodFacts:
    return MethodFacts(base, frozenset(own.split()), frozenset(shared.split()), fewest, most)


METHODS: dict[MergeMethod, MethodFacts] = {
    "linear": _facts("none", "weight", "normalize"),
    "task_arithmetic": _facts("required", "weight", "scale normalize"),
    "slerp": _facts("required", "weight", "", 1, 1),
    "nuslerp": _facts("optional", "weight", "by_row", 2, 2),
    "multislerp": _facts("optional", "weight", "normalize", 2),
    "karcher": _facts("none", "", "", 2),
    "model_stock": _facts("required", "", "", 2),
    "ties": _facts("required", "weight density", "scale normalize scope"),
    "dare_linear": _facts("required", "weight density", "scale normalize rescale"),
    "dare_ties": _facts("required", "weight density", "scale normalize rescale"),
    "della": _facts("required", "weight density epsilon", "scale normalize rescale"),
    "della_linear": _facts("required", "weight density epsilon", "scale normalize rescale"),
    "breadcrumbs": _facts("required", "weight density gamma", "scale normalize"),
    "breadcrumbs_ties": _facts("required", "weight density gamma", "scale normalize"),
    "sce": _facts("required", "", "scale topk"),
    "passthrough": _facts("none", "weight", "", 1, 1),
}
