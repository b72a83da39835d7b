"""What a merge's method, base and ingredients must agree on. Whether models fit each other is seen when their headers are opened."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.config.errors import did_you_mean
from harness.config.merge_methods import METHODS, MethodFacts
from harness.config.merge_words import COUNTED, KEY, SEVERAL
from harness.config.schema import IngredientConfig, MergeConfig, ModelConfig

OF_ALL = ("scale", "normalize", "scope", "topk", "rescale", "gamma", "epsilon")
OF_INGREDIENTS = ("weight", "density")


def merge_problems(model: ModelConfig) -> Iterator[str]:
    """One line a problem."""
    merge = model.merge
    if merge.method is None:
        given = [name for name, default in vars(MergeConfig()).items() if getattr(merge, name) != default]
        if given:
            yield f"{KEY}.{given[0]}: has no effect without {KEY}.method; valid: model=merge {KEY}.method={', '.join(METHODS)}"
        return
    if model.path is not None:
        yield f"model.path={model.path}: not beside {KEY}.method={merge.method}, which makes the model of its ingredients; valid: null"
    facts = METHODS[merge.method]
    yield from _several_problems(merge)
    yield from _count_problems(merge, facts)
    yield from _unread(merge, facts)
    yield from _group_problems(merge)
    if merge.method == "slerp":
        for name, one in merge.ingredients.items():
            if not 0.0 <= one.weight <= 1.0:
                yield f"{KEY}.ingredients.{name}.weight={one.weight}: how far slerp goes from the base; valid: 0 to 1"
    if merge.method.startswith("della"):
        for name, one in merge.ingredients.items():
            if 0.0 < one.density < 1.0 and not merge.epsilon < min(one.density, 1.0 - one.density):
                wide = f"density={one.density} ± epsilon={merge.epsilon} leaves (0, 1)"
                yield f"{KEY}.ingredients.{name}.{wide}; valid: an epsilon below {min(one.density, 1.0 - one.density):.4g}"


def merged_paths(merge: MergeConfig) -> dict[str, str]:
    """What the base and the ingredients are, by the key that says so."""
    base = {} if merge.base is None else {f"{KEY}.base": merge.base}
    return base | {f"{KEY}.ingredients.{name}.path": one.path for name, one in merge.ingredients.items()}


def _several_problems(merge: MergeConfig) -> Iterator[str]:
    for name, one in merge.ingredients.items():
        for field, prefixes in COUNTED.items():
            value = getattr(one, field)
            if value is not None and not one.path.startswith(prefixes):
                key = f"{KEY}.ingredients.{name}"
                words = " and ".join(f"{prefix}NAME" for prefix in prefixes)
                yield f"{key}.{field}={value}: has no effect with {key}.path={one.path}, only with {words}"


def _count_problems(merge: MergeConfig, facts: MethodFacts) -> Iterator[str]:
    count = len(merge.ingredients)
    if any(one.path.startswith(SEVERAL) for one in merge.ingredients.values()) and merge.method != "passthrough" and facts.most is None:
        return  # how many these are is seen when they are looked up
    if merge.method == "passthrough":
        yield f"{KEY}.method=passthrough: stacks ranges of layers, which a recipe of mergekit names; valid: harness merge OUT mergekit.yml"
    elif count < facts.fewest or (facts.most is not None and count > facts.most):
        wanted = str(facts.fewest) if facts.most == facts.fewest else f"at least {facts.fewest}"
        names = ", ".join(merge.ingredients) or "none"
        yield f"{KEY}.ingredients: {merge.method} takes {wanted}, besides the base; given: {names}"
    if facts.base == "required" and merge.base is None:
        yield f"{KEY}.base: required by {merge.method}, whose changes are from it"


def _unread(merge: MergeConfig, facts: MethodFacts) -> Iterator[str]:
    """Values that the method does not read."""
    read, plain, one = facts.of_all | facts.of_ingredients, MergeConfig(), IngredientConfig(path="-")
    for name in OF_ALL:
        if name not in read and getattr(merge, name) != getattr(plain, name):
            yield f"{KEY}.{name}={_shown(getattr(merge, name))}: has no effect with {KEY}.method={merge.method}, only with {_readers(name)}"
    for ingredient, given in merge.ingredients.items():
        for name in OF_INGREDIENTS:
            if name not in read and getattr(given, name) != getattr(one, name):
                key = f"{KEY}.ingredients.{ingredient}.{name}"
                yield f"{key}={getattr(given, name)}: has no effect with {KEY}.method={merge.method}, only with {_readers(name)}"


def _group_problems(merge: MergeConfig) -> Iterator[str]:
    for name, group in merge.groups.items():
        if group.layers is not None and not group.layers[0] < group.layers[1]:
            yield f"{KEY}.groups.{name}.layers={list(group.layers)}: valid: two shares of the depth, the smaller first"
        if group.part == "embeddings" and group.layers is not None:
            yield f"{KEY}.groups.{name}.layers={list(group.layers)}: embeddings are outside of the layers; valid: null"
    for ingredient, given in merge.ingredients.items():
        for wanted in given.weights:
            if wanted not in merge.groups:
                valid = ", ".join(merge.groups) or f"none: give {KEY}.groups.NAME.part, say"
                hint = did_you_mean(wanted, merge.groups)
                yield f"{KEY}.ingredients.{ingredient}.weights.{wanted}: no group of that name.{hint} Valid: {valid}"


def _readers(name: str) -> str:
    return ", ".join(method for method, facts in METHODS.items() if name in facts.of_all | facts.of_ingredients)


def _shown(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value
