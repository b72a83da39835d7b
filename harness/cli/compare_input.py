"""The input of `harness compare`: studies, runs and trials by name or path, and paths in W&B."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.config.errors import InputError, unknown, wrong_value
from harness.evaluation.kinds import higher_is_better
from harness.runs.directory import find_run, study_called
from harness.runs.record import Objective, RunRecord, StudyRecord, load_run, load_study


@dataclass(frozen=True)
class Compared:
    """Studies (with all trials, or those named) and single runs."""

    studies: list[StudyRecord] = field(default_factory=list)
    runs: list[RunRecord] = field(default_factory=list)


def read_compared(names: list[str], *, tags: list[str], filters: str | None) -> Compared:
    """Read what is named. Raises InputError for what does not exist, and for a W&B server that does not answer."""
    from harness.tracking.remote_path import is_remote

    # A directory of that name comes first.
    remote = [name for name in names if is_remote(name) and not Path(name).exists()]
    for option, value in (("--tag", tags), ("--filter", filters)):
        if value and not remote:
            raise wrong_value(option, value, "only runs in W&B have them: harness compare wandb:ENTITY/PROJECT")
    studies, runs = _read_files([name for name in names if name not in remote])
    if remote:
        from harness.tracking.remote import read_runs
        from harness.tracking.remote_path import parse_remote

        for name in remote:
            more_studies, more_runs = read_runs(parse_remote(name), tags=tags, filters=_filters(filters))
            studies += more_studies
            runs += more_runs
    return Compared(studies, runs)


def _filters(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    valid = """JSON as wandb.Api().runs takes it, e.g. '{"config.optim.value.lr": {"$gte": 1e-4}}'"""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise wrong_value("--filter", text, f"{valid} ({error})") from error
    if not isinstance(found, dict):
        raise wrong_value("--filter", text, valid)
    return found


def _read_files(names: list[str]) -> tuple[list[StudyRecord], list[RunRecord]]:
    studies: dict[Path, StudyRecord] = {}
    runs: list[RunRecord] = []
    for name in names:
        study = study_called(name)
        if study is not None:
            whole = load_study(study)
            studies[whole.directory.path.resolve()] = whole
            continue
        run = find_run(name)
        if run.study is None:
            runs.append(load_run(run))
            continue
        # A trial is judged by its study's objective and constraints.
        record = studies.setdefault(run.study.path.resolve(), replace(load_study(run.study), runs=[]))
        if all(trial.directory.path.resolve() != run.path.resolve() for trial in record.runs):
            record.runs.append(load_run(run, study=run.study.name))
    return list(studies.values()), runs


def asked_objective(metric: str | None, maximize: bool, compared: Compared) -> Objective | None:
    """The objective that the user ranks by. Raises InputError for a metric that no run has logged."""
    if metric is None:
        if maximize:
            raise InputError("--maximize: says how --objective ranks; name the metric, e.g. --objective val/qa/accuracy")
        return None
    runs = [*compared.runs, *(run for study in compared.studies for run in study.runs)]
    logged = sorted({name for run in runs for name in run.result.metrics})
    if metric not in logged:
        raise unknown("metric", metric, logged, where="--objective")
    return Objective(metric, "maximize" if maximize or higher_is_better(metric) else "minimize")
