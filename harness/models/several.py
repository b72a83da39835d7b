"""Ingredients of a merge that are several models: the best trials of a study, the seeds of its confirmed winner, checkpoints of a run,
or of its trunk."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from harness.config.errors import InputError, wrong_value
from harness.config.merge_methods import METHODS
from harness.config.merge_words import SEVERAL
from harness.config.schema import IngredientConfig, MergeConfig
from harness.runs.confirmation_plan import SUFFIX
from harness.runs.directory import RunDirectory, find_run, find_study
from harness.runs.record import load_study


def one_by_one(merge: MergeConfig) -> MergeConfig:
    """The merge with every model as an ingredient of its own. Those that one word stands for share its weight: their mean counts as one.

    Raises InputError for studies and runs that lack what is asked for.
    """
    if not any(one.path.startswith(SEVERAL) for one in merge.ingredients.values()):
        return merge
    found: dict[str, IngredientConfig] = {}
    for name, one in merge.ingredients.items():
        models = models_of(one, key=f"model.merge.ingredients.{name}")
        for label, word in models.items():
            if f"{name}{label}" in found:
                raise InputError(f"model.merge.ingredients.{name}{label}: two models of this name; valid: another name for {name}")
            found[f"{name}{label}"] = dataclasses.replace(
                one,
                path=word,
                weight=one.weight / len(models),
                weights={group: weight / len(models) for group, weight in one.weights.items()},
                top=None,
                last=None,
            )
    fewest = METHODS[merge.method].fewest if merge.method is not None else 1
    if len(found) < fewest:
        words = ", ".join(one.path for one in merge.ingredients.values())
        raise InputError(f"model.merge.ingredients: {merge.method} takes at least {fewest} models, and {words} stands for {len(found)}")
    return dataclasses.replace(merge, ingredients=found)


def models_of(one: IngredientConfig, *, key: str) -> Mapping[str, str]:
    """By what is added to the ingredient's name, the words of the models that it stands for: itself, or several. Raises InputError.

    Names with it are keys that can be typed, and words are what a user would type: a recipe names models by both.
    """
    prefix, _, name = one.path.partition(":")
    match f"{prefix}:":
        case "study:":
            return _best_trials(name, one.top or 1, key)
        case "confirm:":
            return _seeds_of_winner(name, key)
        case "run:":
            return _last_checkpoints(name, one.last, key)
        case "trunk:":
            return _last_trunk_states(name, one.last, key)
        case _:
            return {"": one.path}


def _best_trials(name: str, top: int, key: str) -> dict[str, str]:
    ranked = load_study(find_study(name)).ranked
    if len(ranked) < top:
        problem = f"{name} has {len(ranked)} complete trials within its constraints"
        raise wrong_value(f"{key}.top", top, f"{problem}; valid: at most {len(ranked)}" if ranked else problem)
    return {f"-{run.directory.path.name}": f"{name}/{run.number}" for run in ranked[:top]}


def _seeds_of_winner(name: str, key: str) -> dict[str, str]:
    found = load_study(find_study(name)).confirmation
    winner = None if found is None else found.winner
    if found is None or winner is None:
        raise wrong_value(f"{key}.path", f"confirm:{name}", f"it has no confirmed winner; first: harness confirm {name}")
    runs = {run["seed"]: number for number, run in enumerate(found.plan.runs) if run["candidate"] == winner.number}
    return {f"-seed-{seed}": f"{name.rstrip('/')}{SUFFIX}/{number}" for seed, number in sorted(runs.items())}


def _last_checkpoints(name: str, last: int | None, key: str) -> dict[str, str]:
    from harness.models.checkpoint_files import checkpoints  # imports torch

    run = find_run(name)
    steps = list(checkpoints(run.checkpoints))
    if not steps:
        raise wrong_value(f"{key}.path", f"run:{name}", f"{run.path} has no checkpoint (trainer.final_checkpoint decides what a run keeps)")
    return _last(name, run, steps, last, key, "trainer.keep_checkpoints and trainer.checkpoint_every_steps decide what a run keeps")


def _last_trunk_states(name: str, last: int | None, key: str) -> dict[str, str]:
    from harness.models.checkpoint_files import trunk_states  # imports torch

    run = find_run(name)
    steps = list(trunk_states(run))
    if not steps:
        found = f"{run.path} has no state of a trunk; search.trunks and search.trunk_disk_gb decide what its study keeps"
        raise wrong_value(f"{key}.path", f"trunk:{name}", f"{found}; of a single run: run:{name}")
    return _last(name, run, steps, last, key, "search.trunks and search.trunk_disk_gb decide what a study keeps")


def _last(name: str, run: RunDirectory, steps: list[int], last: int | None, key: str, why: str) -> dict[str, str]:
    if last is not None and last > len(steps):
        raise wrong_value(f"{key}.last", last, f"{run.path} has those of steps {', '.join(map(str, steps))} ({why})")
    return {f"-{step}": f"{name}@{step}" for step in (steps if last is None else steps[-last:])}
