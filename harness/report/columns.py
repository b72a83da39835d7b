"""The columns of a comparison: parameters by their configuration keys, metrics by their logged names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.config.errors import wrong_value
from harness.config.nested import flat
from harness.evaluation.kinds import main_metrics
from harness.report.text import ABSENT
from harness.runs.record import RunRecord, StudyRecord
from harness.runs.space_values import is_active, value_of

Space = dict[str, dict[str, Any]]
"""The `space` of a sweep: {key: {low, high, log, step} or {choices}, with when}."""


def joint_space(studies: list[StudyRecord]) -> Space:
    """The spaces of all studies; where several have a key, the first one counts."""
    joint: Space = {}
    for study in studies:
        joint = {**joint, **{key: domain for key, domain in space_of(study).items() if key not in joint}}
    return joint


def space_of(study: StudyRecord) -> Space:
    space = study.sweep.get("space") or {}
    if not isinstance(space, dict) or not all(isinstance(domain, dict) for domain in space.values()):
        raise wrong_value("space", space, "a mapping of configuration keys to {low, high} or {choices}", where=str(study.directory.sweep))
    return space


def run_params(run: RunRecord, parameters: list[str], space: Space, own: Space) -> dict[str, Any]:
    """A run's values of `parameters`; keys outside of its study's space come from its configuration.

    own: the space of the run's study; a key of it that the trial lacks was not active.
    """
    params = {key: value for key, value in run.params.items() if key in parameters}
    absent = [key for key in parameters if key not in own and key not in params]
    found = {key: value_of(run.config, key) for key in absent}
    found = {key: value for key, value in found.items() if value is not None or None in space.get(key, {}).get("choices", [])}
    known = {**params, **found}
    inactive = {key for key in found if not is_active(space.get(key, {}), known)}
    return {key: known[key] for key in parameters if key in known and key not in inactive}


def differing_keys(runs: list[RunRecord]) -> list[str]:
    """The configuration keys in which the runs differ, sorted."""
    configs = [dict(flat(run.config)) for run in runs]
    keys = sorted({key for config in configs for key in config})
    return [key for key in keys if any(config.get(key) != configs[0].get(key) for config in configs)]


def parameter_columns(studies: list[StudyRecord], runs: list[RunRecord]) -> list[str]:
    """The studies' spaces, then the other configuration keys in which the studies and the single runs differ.

    Trials of a study differ in its space alone, so one configuration a study is read: a thousand would take seconds.
    """
    space = joint_space(studies)
    examples = [next((run for run in study.runs if run.config), None) for study in studies]
    # A searched group covers its keys: schedule covers schedule.floor.
    apart = [key for key in differing_keys([*(run for run in examples if run), *runs]) if not _is_covered(key, space)]
    return [*space, *apart]


def _is_covered(key: str, space: Space) -> bool:
    return any(key == known or key.startswith(f"{known}.") for known in space)


def varying(parameters: list[str], values: list[Mapping[str, Any]]) -> list[str]:
    """The parameters in which the runs differ; all of them for fewer than two runs. values: {parameter: value} by run."""
    if len(values) < 2:
        return parameters
    return [key for key in parameters if any(of_run.get(key, ABSENT) != values[0].get(key, ABSENT) for of_run in values)]


def metric_columns(studies: list[StudyRecord], runs: list[RunRecord]) -> list[str]:
    """The objective metrics, then the metrics under constraints, then the main metrics of all other evaluation sets."""
    objectives = [objective.metric for study in studies for objective in study.objectives]
    constrained = [metric for study in studies for metric in study.constraints]
    logged = {metric for run in runs for metric in run.result.metrics}
    return list(dict.fromkeys([*objectives, *constrained, *main_metrics(sorted(logged))]))
