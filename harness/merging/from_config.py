"""From model.merge of a configuration to a recipe."""

from __future__ import annotations

from functools import partial

from harness.config.schema import IngredientConfig, MergeConfig, TensorGroupConfig
from harness.config.validate import to_plain
from harness.merging.layers import ATTENTION, MLP
from harness.merging.recipe import Part, Place, Recipe, Setting, Slice, constant

BASE = "base"
"""What a base is called in a recipe, unless an ingredient has that name."""
SETTINGS = ("scale", "normalize", "topk", "rescale", "gamma", "epsilon")


def recipe_of(merge: MergeConfig, *, seed: int) -> Recipe:
    """The recipe of a configuration that has been checked. seed: of the random masks."""
    assert merge.method is not None, "asked only where there is something to merge"
    base = next(name for name in (BASE, "_base", "__base") if name not in merge.ingredients) if merge.base is not None else None
    words = {name: one.path for name, one in merge.ingredients.items()}
    keys = {name: f"model.merge.ingredients.{name}.path" for name in merge.ingredients}
    if base is not None and merge.base is not None:
        words[base], keys[base] = merge.base, "model.merge.base"
    needs_base = merge.method not in ("linear", "karcher")
    parts = tuple(Part(name, settings=_settings(one, merge)) for name, one in merge.ingredients.items())
    told = {name: value for name in SETTINGS if (value := getattr(merge, name)) is not None}
    return Recipe(
        method=merge.method,
        words=words,
        keys=keys,
        slices=(Slice(parts, Part(base) if base is not None and needs_base else None),),
        base=base,
        frame=base or parts[0].model,
        settings={name: constant(value) for name, value in told.items()},
        scope=merge.scope,
        dtype=merge.dtype,
        seed=seed,
        written={"model": {"merge": to_plain(merge)}, "seed": seed},
    )


def _settings(one: IngredientConfig, merge: MergeConfig) -> dict[str, Setting]:
    return {"weight": partial(_weight, one, merge), "density": constant(one.density)}


def _weight(one: IngredientConfig, merge: MergeConfig, place: Place) -> float:
    """Of the first group that the tensor is in and the ingredient has a weight for; else the ingredient's."""
    found = (one.weights[name] for name, group in merge.groups.items() if name in one.weights and is_in(group, place))
    return next(found, one.weight)


def is_in(group: TensorGroupConfig, place: Place) -> bool:
    """Whether the tensor of a place belongs to a group."""
    if group.layers is not None:
        first, stop = (share * place.layers for share in group.layers)
        if place.layer is None or not first <= place.layer < stop:
            return False
    match group.part:
        case "any":
            return True
        case "embeddings":
            return place.layer is None
        case "attention":
            return place.layer is not None and ATTENTION.search(place.tensor) is not None
        case "mlp":
            return place.layer is not None and MLP.search(place.tensor) is not None
