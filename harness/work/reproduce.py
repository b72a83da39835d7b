"""Running a recipe or a run again: the original, what differs here, and the new run."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from pathlib import Path
from typing import Any

from harness.config.errors import InputError
from harness.config.nested import flat
from harness.config.overrides import hydra_text
from harness.config.recipe import load_recipe, recipe_values
from harness.config.schema import Config
from harness.config.state_key import logged_values
from harness.config.user_yaml import read_mapping
from harness.config.validate import to_plain, to_section
from harness.evaluation.kinds import main_metrics
from harness.runs.bundle import PLAIN_NAME, Bundle, BundleDirectory, find_bundle, unknown_recipe
from harness.runs.directory import RunDirectory, find_run, run_called
from harness.runs.files import read_yaml
from harness.runs.record import RunRecord, load_run, load_study
from harness.runs.reproduction import Difference, Original
from harness.runs.result import Result, read_result
from harness.runs.run_config import load_run_config
from harness.work.start_run import start_run


def original_of(what: str, overrides: list[str]) -> tuple[Original, Config, dict[str, Any]]:
    """The original, its configuration here, and its own configuration."""
    bundle = find_bundle(what)
    if bundle is not None:
        return _of_bundle(bundle, overrides)
    if run_called(what) is None and PLAIN_NAME.fullmatch(what.removeprefix("best/")):
        raise unknown_recipe(what)
    run = find_run(what)
    record = load_run(run)
    if record.state != "complete":
        raise InputError(f"{run.name}: {record.state}; only a complete run can be compared with")
    there = read_yaml(run.config)
    config = load_run_config(run, with_threads(overrides, record.result, there))
    return _of_run(record), config, there


def _of_bundle(bundle: BundleDirectory, overrides: list[str]) -> tuple[Original, Config, dict[str, Any]]:
    recipe = bundle.read()
    values = recipe_values(bundle.config, template=bundle.chat_template)
    result = Result(
        metrics=recipe.metrics,
        versions=recipe.versions,
        git_commit=recipe.git_commit,
        fingerprints=recipe.fingerprints,
        hardware=recipe.hardware,
    )
    given = [*_own_paths(bundle, recipe), *with_threads(overrides, result, values)]
    config = load_recipe(values, given, origin=str(bundle.config), to_give=recipe.to_give)
    noise = recipe.noise or {}
    original = Original(
        name=recipe.name,
        seed=recipe.seed,
        result=result,
        rows=bundle.rows,
        metric=recipe.metric,
        mean=recipe.objective if recipe.interval else None,
        seeds=len(recipe.seeds),
        sd=noise.get("sd"),
        degrees=noise.get("degrees", 1.0),
    )
    return original, config, values


def _own_paths(bundle: BundleDirectory, recipe: Bundle) -> list[str]:
    """Overrides for the files whose paths are noted beside the bundle; fingerprints check them anyway."""
    owners = bundle.owners
    if owners is None or not owners.is_file():
        return []
    noted = dict(flat(read_mapping(owners, holds="paths of a recipe")))
    return [f"{key}={hydra_text(noted[key])}" for key in recipe.to_give if noted.get(key) is not None]


def _of_run(record: RunRecord) -> Original:

    run = record.directory
    metric = next(iter(main_metrics(record.result.metrics)), None)
    mean, seeds, sd, degrees = None, 0, None, 1.0
    if run.study is not None:
        study = load_study(run.study)
        metric, confirmation = study.objective.metric, study.confirmation
        if confirmation and confirmation.is_complete and confirmation.noise:
            sd, degrees = confirmation.noise.sd, float(confirmation.degrees)
            candidate = confirmation.candidate(record.number)
            if candidate and candidate.interval:
                mean, seeds = candidate.interval.mean, len(candidate.values)
    return Original(
        name=record.name,
        seed=record.config["seed"],
        result=record.result,
        rows=record.rows,
        metric=metric,
        mean=mean,
        seeds=seeds,
        sd=sd,
        degrees=degrees,
    )


def with_threads(overrides: list[str], result: Result, values: dict[str, Any]) -> list[str]:
    """On a CPU the last bits depend on the number of threads: use the original's, unless overridden."""
    threads = result.hardware.get("threads")
    given = any(override.lstrip("+").startswith("trainer.threads=") for override in overrides)
    if given or result.hardware.get("gpus") or not isinstance(threads, int) or values.get("trainer", {}).get("threads"):
        return overrides
    return [f"trainer.threads={threads}", *overrides]


def changed(there: dict[str, Any], config: Config) -> list[Difference]:
    """Configuration keys that differ from the recipe's, of all that what a run logs depends on; files are compared by fingerprint."""
    # What an older harness had no key for was at its default.
    before, now = logged_values(to_section(Config, there)), logged_values(config)
    compared_otherwise = ("trainer.threads", "data.chat_template")
    return [
        Difference(key, str(before.get(key, "absent")), str(now.get(key, "absent")), "configuration")
        for key in dict.fromkeys([*before, *now])
        if key not in compared_otherwise and now.get(key, ...) != before.get(key, ...)
    ]


def inputs_here(config: Config) -> Result:
    """Fingerprints, versions and hardware here, as a run records them."""
    from harness.data.tokenization_progress import TokenizationProgress
    from harness.training import provenance
    from harness.training.inputs import load_inputs

    hardware = provenance.hardware()
    if config.trainer.threads is not None:
        hardware["threads"] = config.trainer.threads
    fingerprints = load_inputs(config, progress=TokenizationProgress().update).fingerprints
    return Result(versions=provenance.versions(), fingerprints=fingerprints, hardware=hardware)


def other_input_text(what: str, other: list[str], config: Config) -> str:
    """The message for files that differ from the recipe's, each with its path here."""
    paths = dict(flat(to_plain(config)))
    named = {
        "model": "model.path",
        "checkpoint": "model.checkpoint",
        "tokenizer": "tokenizer.path",
        "teacher": "objective.teacher",
        "chat_template": "data.chat_template",
    }
    sources = [name for name in other if name.startswith("data.")] or [name for name in other if name == "data"]
    lines = []
    # What a merge is made of says more than that the merge is another.
    parts = [name for name in other if name.startswith("model.merge.")]
    for name in [*sources, *parts, *(name for name in other if name in named and not (parts and name == "model"))]:
        key = name if name == "model.merge.base" else named.get(name, f"{name}.path")
        given = paths.get(key)
        lines.append(
            f"{key}={given}: not the {name} that {what} was trained with, by its fingerprint" if given else f"{name}: not the same"
        )
    return "\n".join([*lines, "valid: the same content, given by its key; or --anyway, to train on what is here"])


def noise_here(config: Config, original: Original, seeds: int) -> dict[str, Any]:
    """Seed noise on this machine, over fresh seeds. Their mean is not used: a run is compared with the original's."""
    values = []
    fresh = (seed for seed in itertools.count(original.seed + 1) if seed != config.seed)
    for seed in itertools.islice(fresh, seeds):
        result = train_again(dataclasses.replace(config, seed=seed), original)[1]
        if original.metric and result.state == "complete":
            values.append(result.metrics[original.metric])
    if len(values) < 2:
        raise InputError(f"--seeds={seeds}: fewer than two of them came to their end")
    return {"sd": statistics.stdev(values), "degrees": float(len(values) - 1)}


def train_again(config: Config, original: Original, directory: Path | None = None) -> tuple[RunDirectory, Result]:
    """Train it in this process; returns run and result. Raises InputError for input that cannot be used."""
    attempted = start_run(config, label=f"reproduce-{original.name}", directory=directory)
    if attempted is None:
        raise InputError("not under torchrun or srun: the ranks of one machine are started from here")
    return attempted.run, read_result(attempted.run)
