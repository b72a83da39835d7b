"""What `harness merge` does: a plan from words or from a recipe of mergekit, and the model that it makes."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.checks.merge import KEY, merge_problems
from harness.config.documents import as_mapping
from harness.config.errors import InputError
from harness.config.load import load, with_overrides
from harness.config.merge_methods import METHODS
from harness.config.nested import flat
from harness.config.overrides import GroupOverride, ValueOverride, hydra_text, parse
from harness.config.schema import Config
from harness.config.trust import config_wishes, is_own, refuse
from harness.config.user_yaml import read_mapping

if TYPE_CHECKING:
    from harness.merging.adapter import AdapterPlan, AdapterSummary
    from harness.merging.plan import Plan

RECIPE_ENDINGS = (".yml", ".yaml")
INGREDIENT = re.compile(r"(?P<name>[^\W\d]\w*)=(?P<model>.+?)(:(?P<weight>[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?))?", re.ASCII)
OF_INGREDIENT = re.compile(rf"{re.escape(KEY)}\.ingredients\.(\w+)\.")
NOT_INGREDIENTS = tuple(field.name for field in fields(Config))
"""Sections of a configuration, and its groups."""
OWN_KEYS = ("seed", "model.merge.")
"""What a merge that is written reads of a configuration."""


def merge_plan_of(words: list[str]) -> Plan:
    """The plan for ingredients (NAME=MODEL:WEIGHT) and overrides (model.merge.…=, seed=), or for a YAML file: a recipe of mergekit, or of
    a model card of ours; with seed=.

    Nothing but headers is read. Raises InputError for what cannot be merged.
    """
    from harness.merging.mergekit import read_mergekit
    from harness.merging.plan import plan_merge
    from harness.models.ingredients import sources_of
    from harness.models.merged import merge_plan

    files = [word for word in words if word.endswith(RECIPE_ENDINGS) and "=" not in word]
    overrides = [override for word in words if word not in files for override in as_overrides(word)]
    if len(files) > 1:
        raise InputError(f"{files[1]}: a second recipe; valid: one recipe of mergekit")
    _refuse_other_keys(overrides, of_a_recipe=bool(files))
    if files and _is_mergekits(Path(files[0])):
        recipe = read_mergekit(Path(files[0]), seed=load(overrides, checked_by=_nothing).config.seed)
        return plan_merge(recipe, sources_of(recipe))
    if files:
        return _of_file(Path(files[0]), overrides)
    config = load(["model=merge", *overrides], checked_by=_check).config
    return merge_plan(config.model.merge, seed=config.seed)


def ingredients_of(words: list[str]) -> list[str]:
    """Names of the ingredients that words of the command name."""
    overrides = [override for word in words for override in as_overrides(word)]
    return list(dict.fromkeys(match[1] for override in overrides if (match := OF_INGREDIENT.match(override))))


def as_overrides(word: str) -> list[str]:
    """NAME=MODEL or NAME=MODEL:WEIGHT as overrides; other words as they are."""
    match = INGREDIENT.fullmatch(word)
    if match is None or match["name"] in NOT_INGREDIENTS:
        return [word]
    key = f"{KEY}.ingredients.{match['name']}"
    weight = [] if match["weight"] is None else [f"{key}.weight={match['weight']}"]
    return [f"{key}.path={hydra_text(match['model'])}", *weight]


def _is_mergekits(path: Path) -> bool:
    """Whether a recipe is in mergekit's words; those of a model card are a configuration's."""
    return "model" not in read_mapping(path, holds="a recipe of mergekit, or model.merge")


def _of_file(path: Path, overrides: list[str]) -> Plan:
    """The plan of a configuration with model.merge alone, as a model card has it; it may be a stranger's."""
    from harness.models.merged import merge_plan

    values = dict(read_mapping(path, holds="model.merge"))
    fingerprints = as_mapping(values.pop("fingerprints", {}), path)
    if not is_own(path):
        refuse(path, config_wishes(flat(values), path, what="a recipe"), "a recipe")
    config = with_overrides(values, overrides, origin=str(path), checked_by=_check)
    plan = merge_plan(config.model.merge, seed=config.seed)
    for name, source in plan.sources.items():
        if fingerprints.get(name, source.fingerprint) != source.fingerprint:
            valid = f"the model as it was then, or a recipe without fingerprints.{name}"
            raise InputError(f"{path}: {name} ({source.label}) changed since this recipe was written; valid: {valid}")
    return plan


def plan_summary(plan: Plan) -> dict[str, Any]:
    """The document of `harness merge --json`."""
    roles = {part.model for one in plan.recipe.slices for part in one.parts}
    return {
        "method": plan.recipe.method,
        "models": {
            name: {
                "path": plan.recipe.words[name],
                "role": "ingredient" if name in roles else "base",
                "tensors": len(source.tensors),
                "fingerprint": source.fingerprint,
                "licence": source.licence,
            }
            for name, source in plan.sources.items()
        },
        "configuration_of": plan.frame.label,
        "tokenizer_of": plan.tokens.label,
        "tensors": len(plan.targets),
        "parameters": sum(target.bytes // target.item_bytes for target in plan.targets),
        "dtypes": sorted({target.dtype for target in plan.targets}),
        "bytes": plan.bytes,
        "bytes_read": plan.bytes_read,
        "notes": list(plan.notes),
    }


def adapter_summary(made: AdapterPlan) -> dict[str, Any]:
    """What the document of `harness merge --json` says of an adapter before it is made."""
    return {"rank": made.rank, "exact": made.exact, "base": made.path}


def adapter_result(written: AdapterSummary) -> dict[str, Any]:
    """And what it says of it afterwards."""
    return {"modules": written.modules, "share": written.share}


def _refuse_other_keys(overrides: list[str], *, of_a_recipe: bool) -> None:
    """Words that say nothing of a merge."""
    valid = ("seed",) if of_a_recipe else OWN_KEYS
    for text, override in zip(overrides, parse(overrides, Config), strict=True):
        is_own = isinstance(override, ValueOverride) and override.key.startswith(valid)
        is_choice = not of_a_recipe and isinstance(override, GroupOverride) and override.group == "model"
        if not is_own and not is_choice:
            if of_a_recipe:
                raise InputError(f"{text}: not beside a recipe, which says all; valid: seed=N")
            valid_words = "NAME=MODEL:WEIGHT, model.merge.…=…, seed=N, or a recipe of mergekit (*.yml)"
            raise InputError(f"{text}: says nothing of a merge; valid: {valid_words}")


def _check(config: Config) -> None:
    problems = [*merge_problems(config.model)]
    if config.model.merge.method is None:
        problems.append(f"model.merge.method: required (--method); valid: {', '.join(METHODS)}")
    if problems:
        raise InputError("\n".join(problems))


def _nothing(config: Config) -> None:
    """A seed alone agrees with everything."""
