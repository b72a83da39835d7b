"""A configuration's merge in mergekit's words, where it can be said in them."""

from __future__ import annotations

from typing import Any

from harness.config.errors import InputError
from harness.config.merge_methods import METHODS, MergeMethod
from harness.config.schema import IngredientConfig, MergeConfig


def to_mergekit(merge: MergeConfig) -> dict[str, Any]:
    """The content of a mergekit_config.yml that makes the same merge, but for masks that are drawn by chance.

    Raises InputError for what mergekit has no words for.
    """
    assert merge.method is not None, "asked only where there is something to merge"
    _refuse_what_it_lacks(merge)
    facts = METHODS[merge.method]
    own = sorted(facts.of_ingredients & vars(IngredientConfig(path="-")).keys())
    listed = [{"model": one.path, **_parameters({name: getattr(one, name) for name in own})} for one in merge.ingredients.values()]
    # mergekit would take a gamma or epsilon of each ingredient; ours have one.
    ours = (facts.of_all | facts.of_ingredients) - {*own, "scope", "by_row", *(["scale"] if merge.method == "sce" else [])}
    named = {_name(merge.method, name): getattr(merge, name) for name in sorted(ours)}
    shared = {name: value for name, value in named.items() if value is not None}
    if "rescale" in shared:
        shared["rescale"] = shared["rescale"] == "l1"
    if merge.method == "slerp":
        (only,) = merge.ingredients.values()
        listed, shared = [{"model": merge.base}, {"model": only.path}], {"t": only.weight}
    return {
        "merge_method": merge.method,
        # Of the others a base would be one more ingredient.
        **({"base_model": merge.base} if merge.base is not None and facts.base != "none" else {}),
        "models": listed,
        **_parameters(shared),
        "dtype": "float32",
        **({} if merge.dtype is None else {"out_dtype": merge.dtype}),
    }


def _name(method: MergeMethod, ours: str) -> str:
    match method, ours:
        case _, "scale":
            return "lambda"
        case _, "topk":
            return "select_topk"
        case "multislerp", "normalize":
            return "normalize_weights"
        case _:
            return ours


def _parameters(values: dict[str, Any]) -> dict[str, Any]:
    return {"parameters": values} if values else {}


def _refuse_what_it_lacks(merge: MergeConfig) -> None:
    lacks = {
        "weights of groups": any(one.weights for one in merge.ingredients.values()),
        "model.merge.scope=model": merge.method == "ties" and merge.scope == "model",
        "model.merge.rescale=density": merge.rescale == "density",
        "model.merge.scale of sce": merge.method == "sce" and merge.scale not in (None, 1.0),
    }
    for what, is_so in lacks.items():
        if is_so:
            raise InputError(f"mergekit has no words for {what}")
