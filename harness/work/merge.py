"""What `harness merge` does: a plan from words or from a recipe of mergekit, and the model that it makes."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.checks.merge import merge_problems
from harness.config.checks.trainer import trains
from harness.config.documents import as_mapping
from harness.config.errors import InputError
from harness.config.load import load, with_overrides
from harness.config.merge_methods import METHODS
from harness.config.merge_words import COUNTED, KEY, SEVERAL, named_now, prefix_of, renamed_since
from harness.config.nested import flat
from harness.config.overrides import GroupOverride, ValueOverride, hydra_text, parse
from harness.config.schema import Config
from harness.config.trust import config_wishes, is_own, refuse
from harness.config.user_yaml import read_mapping
from harness.evaluation.kinds import main_metrics
from harness.report.text import metric_text
from harness.runs.directory import RunDirectory, run_called
from harness.runs.on_report import on_report, report_lines
from harness.runs.record import load_run, load_study
from harness.runs.result import read_result
from harness.runs.run_config import load_run_config

if TYPE_CHECKING:
    from harness.merging.adapter import AdapterPlan, AdapterSummary
    from harness.merging.plan import Plan

RECIPE_ENDINGS = (".yml", ".yaml")
INGREDIENT = re.compile(r"((?P<name>[^\W\d]\w*)=)?(?P<model>.+?)(:(?P<weight>[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?))?", re.ASCII)
PATH = re.compile(rf"{re.escape(KEY)}\.ingredients\.(\w+)\.path=")
NOT_INGREDIENTS = ("experiment", *(field.name for field in fields(Config)))
"""Sections of a configuration, and its groups."""
RANDOM = ("dare", "della")
"""What begins the names of methods whose masks depend on the ingredients' names."""
NO_METHOD = f"{KEY}.method: required (--method) unless models have no names; valid: {', '.join(METHODS)}"
OWN_KEYS = ("seed", "model.merge.")
"""What a merge that is written reads of a configuration."""


def merge_plan_of(words: list[str]) -> Plan:
    """The plan for ingredients (NAME=MODEL:WEIGHT) and overrides (model.merge.…=, seed=); for a YAML file: a recipe of mergekit, or of
    a model card of ours; with seed=; or for a run that merged.

    Nothing but headers is read. Raises InputError for what cannot be merged.
    """
    from harness.merging.mergekit import read_mergekit
    from harness.merging.plan import plan_merge
    from harness.models.ingredients import sources_of
    from harness.models.merged import merge_plan

    files = [word for word in words if _is_recipe(word)]
    if not files and (run := merge_run(words)) is not None:
        return _of_run(run)
    overrides = as_overrides([word for word in words if word not in files])
    if len(files) > 1:
        raise InputError(f"{files[1]}: a second recipe; valid: one recipe of mergekit")
    _refuse_other_keys(overrides, of_a_recipe=bool(files))
    if files and _is_mergekits(Path(files[0])):
        recipe = read_mergekit(Path(files[0]), seed=load(overrides, checked_by=_nothing).config.seed if overrides else None)
        return plan_merge(recipe, sources_of(recipe))
    if files:
        return _of_file(Path(files[0]), overrides)
    config = merge_config_of(overrides)
    return merge_plan(config.model.merge, seed=config.seed)


def merge_config_of(overrides: list[str]) -> Config:
    """The configuration with model.merge alone that overrides say. Raises InputError."""
    if not any(text.lstrip("+").startswith(f"{KEY}.method=") for text in overrides):
        raise InputError(NO_METHOD)
    return load(["model=merge", *overrides], checked_by=_check).config


def in_short(words: list[str], *, density: float | None = None, top: int | None = None, last: int | None = None, **keys: Any) -> list[str]:
    """The words, and the options of the command as overrides: density, top and last are of every ingredient that may have one.

    last makes of a run the word for its checkpoints. keys: of model.merge. Raises InputError for an option that no ingredient has.
    """
    if last is not None:
        words = [_of_checkpoints(word) for word in words]
    parsed = parse([text for text in as_overrides(words) if PATH.match(text)], Config)
    paths = {one.key.split(".")[-2]: str(one.value) for one in parsed if isinstance(one, ValueOverride)}
    short = {f"ingredients.{name}.density": density for name in paths}
    for key, value in (("top", top), ("last", last)):
        named = [name for name, path in paths.items() if path.startswith(COUNTED[key])]
        if value is not None and not named:
            valid = " or ".join(f"{prefix}NAME" for prefix in COUNTED[key])
            raise InputError(f"--{key} {value}: no ingredient stands for several models; valid: {valid}")
        short |= {f"ingredients.{name}.{key}": value for name in named}
    return [*words, *(f"{KEY}.{name}={hydra_text(value)}" for name, value in {**keys, **short}.items() if value is not None)]


def as_overrides(words: list[str]) -> list[str]:
    """MODEL, MODEL:WEIGHT, NAME=MODEL and NAME=MODEL:WEIGHT as overrides; other words as they are.

    Where models have no names, and no method is told, it is linear: their mean.
    """
    overrides = [override for word in words for override in _as_overrides(word)]
    is_mean = any(_model_alone(word) is not None for word in words) and not any(text.startswith(f"{KEY}.method=") for text in overrides)
    return [*([f"{KEY}.method=linear"] if is_mean else []), *overrides]


def _ingredient(word: str) -> re.Match[str] | None:
    """The parts of a word that is an ingredient; None of others."""
    match = INGREDIENT.fullmatch(word)
    is_other = match is None or match["name"] in NOT_INGREDIENTS or (match["name"] is None and ("=" in word or _is_recipe(word)))
    return None if is_other else match


def _as_overrides(word: str) -> list[str]:
    match = _ingredient(word)
    if match is None:
        return [word]
    key = f"{KEY}.ingredients.{match['name'] or _name_of(match['model'])}"
    weight = [] if match["weight"] is None else [f"{key}.weight={match['weight']}"]
    return [f"{key}.path={hydra_text(match['model'])}", *weight]


def _name_of(model: str) -> str:
    """What an ingredient without a name is called."""
    slug = re.sub(r"\W+", "_", model.removeprefix(prefix_of(model)), flags=re.ASCII).strip("_")
    return slug if slug[:1].isalpha() else f"model_{slug}"


def _model_alone(word: str) -> str | None:
    """The model of a word that has no name for it; None of other words."""
    match = _ingredient(word)
    return None if match is None or match["name"] is not None else match["model"]


def _of_checkpoints(word: str) -> str:
    match = _ingredient(word)
    if match is None or match["model"].startswith(SEVERAL):
        return word
    start = match.start("model")
    return f"{word[:start]}run:{word[start:]}"


def _is_recipe(word: str) -> bool:
    return word.endswith(RECIPE_ENDINGS) and "=" not in word


def merge_run(words: list[str]) -> RunDirectory | None:
    """The run that the only word names, where it merged and trained nothing: a trial of a merge study; None of other words."""
    run = run_called(words[0]) if len(words) == 1 and _model_alone(words[0]) == words[0] else None
    if run is None:
        return None
    config = load_run_config(run, checked_by=_nothing)
    return None if config.model.merge.method is None or trains(config.trainer) else run


def _of_run(run: RunDirectory) -> Plan:
    from harness.models.merged import merge_plan

    refuse_changed_models(run)
    config = load_run_config(run, checked_by=_nothing)
    return merge_plan(config.model.merge, seed=config.seed)


def refuse_changed_models(*runs: RunDirectory) -> None:
    """Raise InputError where a model that a run merged is missing, or another one by now: of a study's best, too, if these are others."""
    from harness.models.merged import ingredient_fingerprints

    known: dict[str, str] = {}
    seen: list[tuple[object, ...]] = []
    for run in runs:
        merge = load_run_config(run, checked_by=_nothing).model.merge
        fingerprints = read_result(run).fingerprints
        then = named_now(fingerprints)
        models = (merge.method, merge.base, {name: (one.path, one.top, one.last) for name, one in merge.ingredients.items()}, then)
        if merge.method is None or models in seen:
            continue
        seen.append(models)
        now = ingredient_fingerprints(merge, known)
        for key, fingerprint in now.items():
            if then and then.get(key) != fingerprint:
                raise InputError(f"{key}: it changed since {run.name} merged it; valid: the model as it was then")
        renamed = renamed_since(fingerprints, now)
        if renamed is not None and merge.method.startswith(RANDOM):
            valid = "a merge, or a study, that is begun anew; or that version"
            raise InputError(f"{run.name}: {renamed}, and the random masks of {merge.method} depend on it; valid: {valid}")


def scores_of(words: list[str]) -> list[str]:
    """What is known of how good the merge is, a sentence a line: of a trial of a merge study; [] of what nobody has measured."""
    run = None if any(_is_recipe(word) for word in words) else merge_run(words)
    if run is None:
        return []
    record, study = load_run(run), None if run.study is None else load_study(run.study)
    found = None if study is None else on_report(study, record)
    if found is not None and study is not None:
        lines = report_lines(found, metric_text)
        is_best = study.best is not None and study.best.number == record.number
        # What else is said is a verdict on a choice.
        return lines if is_best else [lines[0], f"it is not the best of {study.name}"]
    return [f"{name} {metric_text(record.result.metrics[name])}" for name in main_metrics(record.result.metrics)]


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
            valid_words = "[NAME=]MODEL[:WEIGHT], model.merge.…=…, seed=N, or a recipe of mergekit (*.yml)"
            raise InputError(f"{text}: says nothing of a merge; valid: {valid_words}")


def _check(config: Config) -> None:
    problems = [*merge_problems(config.model)]
    if config.model.merge.method is None:
        problems.append(NO_METHOD)
    if problems:
        raise InputError("\n".join(problems))


def _nothing(config: Config) -> None:
    """A seed alone agrees with everything."""
