"""Runs read back from W&B for `harness compare wandb:…`, through `wandb.Api` alone.

A trial and a single run of the harness come back as they were logged: the nested configuration, the rows by optimizer step, the summary's
flat keys. Runs that something else has logged are read as well; what they did not log is missing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.errors import InputError
from harness.runs.confirmation import Confirmation, confirmation_of
from harness.runs.confirmation_plan import SUFFIX, ConfirmationPlan, confirmation_directory, launch_of, plan_of
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.metrics import Row
from harness.runs.record import RunRecord, StudyRecord
from harness.runs.result import Result, State, Tokens
from harness.runs.space_values import values_in
from harness.runs.trial import Trial
from harness.tracking.remote_path import RemotePath
from harness.tracking.study_overview import ORDERED_SECTIONS, PLAN_KEY
from harness.tracking.wandb_run import TrackingError, has_login, refuse_unreachable, tracking_errors

if TYPE_CHECKING:
    import wandb
    from wandb.apis.public import Run

TIMEOUT_SECONDS = 20
"""For one request."""
PER_PAGE = 200
"""Runs a request: with their configuration and summary, which is what a table needs."""
STATES: dict[str, State] = {
    "finished": "complete",
    "running": "running",
    "preempting": "waiting",
    "preempted": "waiting",
    "pending": "waiting",
}
"""What W&B's states mean where the run's summary does not say more; the others (failed, crashed, killed) are failed."""


@dataclass(frozen=True)
class WandbRunRecord(RunRecord):
    """A run in W&B. Of its `directory` only the name is used."""

    logged: Run = field(kw_only=True)
    own_name: str = field(kw_only=True)

    @property
    def name(self) -> str:
        return self.own_name

    @property
    def location(self) -> str:
        return str(self.logged.url)

    @property
    def page(self) -> str | None:
        return self.location

    @cached_property
    def config(self) -> dict[str, Any]:
        return {key: value for key, value in self.logged.config.items() if key != "_wandb"}

    @cached_property
    def rows(self) -> list[Row]:
        """One row a step, the last one logged. Read lazily: a request a run."""
        by_step: dict[int, Row] = {}
        with input_errors(str(self.logged.url)):
            for logged in self.logged.scan_history(page_size=10_000, use_cache=False):
                row = {key: _number(value) for key, value in logged.items() if not key.startswith("_") and _is_number(value)}
                step = row.get("step", logged.get("_step"))
                if row and step is not None:
                    by_step[int(step)] = {**by_step.get(int(step), {}), **row, "step": int(step)}
        return [by_step[step] for step in sorted(by_step)]


def read_runs(
    path: RemotePath, *, tags: list[str] | None = None, filters: Mapping[str, Any] | None = None
) -> tuple[list[StudyRecord], list[RunRecord]]:
    """The studies and single runs at a place in W&B. tags: that a run must have; filters: MongoDB-like, as `wandb.Api().runs` takes them.

    A study is a group of trials together with the run that shows the study as a whole, which holds its sweep file; trials without it are
    single runs. Raises InputError where there is no server, no login, no such project, or no such run.
    """
    api, entity_project = open_api(path)
    conditions: list[Mapping[str, Any]] = [{"tags": {"$in": [tag]}} for tag in tags or []]
    conditions += [filters] if filters else []
    conditions += [{"name": path.run}] if path.run else [{"group": path.group}] if path.group else []
    found = _listed(api, entity_project, {"$and": conditions} if conditions else {}, path)
    if not found:
        raise InputError(f"{path}: no run there{_conditions_text(path, tags, filters)}")
    groups = {run.group for run in found if run.job_type == "trial" and run.group}
    # Tags and filters say which runs to compare; what a study asks is known by its own run all the same.
    asked = sorted({*groups, *(group + SUFFIX for group in groups)})
    shown = _listed(api, entity_project, {"job_type": "study", "group": {"$in": asked}}, path) if groups else []
    sweeps = {run.group: _sweep(run.config) for run in shown if isinstance(run.config.get("sweep"), dict)}
    # A confirmation's own run says of its trials which is which.
    plans = {run.group: plan for run in shown if (plan := plan_of(dict(run.summary_metrics or {}).get(PLAN_KEY))) is not None}
    studies: dict[str, StudyRecord] = {}
    singles: list[RunRecord] = []
    for run in found:
        if run.job_type == "study":
            continue
        sweep = sweeps.get(run.group) if run.job_type == "trial" else None
        if sweep is None or path.run:
            singles.append(_record(run, None, {}))
            continue
        directory = StudyDirectory(Path(str(run.group)))
        confirms = plans[run.group].study if run.group in plans else None
        study = studies.setdefault(run.group, StudyRecord(directory, sweep, [], confirms=confirms))
        study.runs.append(_record(run, str(run.group), sweep))
    if not studies and not singles:
        raise InputError(f"{path}: no trial and no single run there{_conditions_text(path, tags, filters)}")
    ordered = [
        replace(
            study,
            runs=sorted(study.runs, key=lambda run: run.number or 0),
            confirmation=_confirmation(api, entity_project, study, plans.get(study.name + SUFFIX), path),
        )
        for study in studies.values()
    ]
    return ordered, singles


def _confirmation(
    api: wandb.Api, entity_project: str, study: StudyRecord, plan: ConfirmationPlan | None, path: RemotePath
) -> Confirmation | None:
    """The study's confirmation, from a group of its own; tags and filters do not apply."""
    if plan is None or plan.launched != launch_of(study.sweep):
        return None
    directory = confirmation_directory(study.directory)
    runs = [
        _record(run, directory.name, {}) for run in _listed(api, entity_project, {"job_type": "trial", "group": study.name + SUFFIX}, path)
    ]
    results = {run.number: run.result for run in runs}
    return confirmation_of(directory, plan, study.sweep, lambda number: results.get(number, Result()))


def _sweep(config: Mapping[str, Any]) -> dict[str, Any]:
    """The sweep of a study's own run. W&B keeps no order of keys: that of the space and of the constraints was logged beside it."""
    sweep: dict[str, Any] = dict(config["sweep"])
    for section in ORDERED_SECTIONS:
        found = sweep.get(section) or {}
        order = {key: place for place, key in enumerate((config.get("order") or {}).get(section) or [])}
        sweep[section] = {key: found[key] for key in sorted(found, key=lambda key: (order.get(key, len(order)), key))}
    return sweep


def _conditions_text(path: RemotePath, tags: list[str] | None, filters: Mapping[str, Any] | None) -> str:
    parts = [*(f"tag {tag!r}" for tag in tags or []), *([f"filter {json.dumps(filters)}"] if filters else [])]
    parts += [f"group {path.group!r}"] if path.group else []
    return f" with {', '.join(parts)}" if parts else ""


def open_api(path: RemotePath) -> tuple[wandb.Api, str]:
    """A client with a login on a server that answers, and "entity/project"."""
    import wandb

    address = str(wandb.setup(wandb.Settings(silent=True)).settings.base_url)
    try:
        refuse_unreachable()
    except TrackingError as error:
        raise InputError(f"{error}. WANDB_BASE_URL names another server; own files need none: harness compare STUDY") from error
    # The client would ask for a key, on a terminal.
    if not has_login():
        raise InputError(
            f"{path}: no login for {address}. Run `wandb login`, or set WANDB_API_KEY (and WANDB_BASE_URL for a server of your own)."
        )
    project = path.project or os.environ.get("WANDB_PROJECT")
    if not project:
        raise InputError(f"{path}: no project. Valid: wandb:ENTITY/PROJECT[/GROUP], or set WANDB_PROJECT")
    with input_errors(address):
        api = wandb.Api(timeout=TIMEOUT_SECONDS)
        entity = path.entity or os.environ.get("WANDB_ENTITY") or api.default_entity
    if not entity:
        raise InputError(f"{path}: no entity. Valid: wandb:ENTITY/PROJECT[/GROUP], or set WANDB_ENTITY")
    return api, f"{entity}/{project}"


@contextmanager
def input_errors(what: str) -> Iterator[None]:
    """Turn the client's errors into an InputError."""
    try:
        with tracking_errors(f"{what}: W&B refuses"):
            yield
    except TrackingError as error:
        raise InputError(str(error)) from error


def _listed(api: wandb.Api, entity_project: str, filters: Mapping[str, Any], path: RemotePath) -> list[Run]:
    with input_errors(str(path)):
        # Lazy runs would ask for their configuration one by one.
        return list(api.runs(entity_project, filters=dict(filters), order="+created_at", per_page=PER_PAGE, lazy=False))


def _record(run: Run, study: str | None, sweep: Mapping[str, Any]) -> WandbRunRecord:
    summary = dict(run.summary_metrics or {})
    result = _result(run, summary)
    name = str(run.name or run.id)
    trial = _trial(run, summary, sweep, result) if study else None
    return WandbRunRecord(RunDirectory(Path(name)), result, study, trial, result.state, logged=run, own_name=name)


def _result(run: Run, summary: Mapping[str, Any]) -> Result:
    metrics = {key: float(value) for key, value in summary.items() if _is_metric(key, value)}
    tokens = {kind: int(_first(summary, key)) for kind, key in TOKENS.items()}
    # A run that another tool logged says at most how much it trained.
    tokens["budgeted"] = tokens["budgeted"] or tokens["trained"]
    logged = summary.get("state")
    state: State = logged if logged in ("complete", "pruned", "failed", "waiting", "running") else STATES.get(str(run.state), "failed")
    objective, feasible = summary.get("objective"), summary.get("feasible")
    return Result(
        state=state,
        reason=summary.get("reason"),
        objective=float(objective) if isinstance(objective, int | float) else None,
        feasible=feasible if isinstance(feasible, bool) else None,
        metrics=metrics,
        step=int(_first(summary, "step", "_step")),
        tokens=Tokens(**tokens),
        shared_from=summary.get("shared_from"),
        seconds=_first(summary, "seconds", "_runtime"),
        attempts=int(_first(summary, "attempts", default=1)),
    )


def _first(summary: Mapping[str, Any], *keys: str, default: float = 0.0) -> float:
    """The first of these that is a finite number."""
    return next((float(summary[key]) for key in keys if key in summary and _is_finite(summary[key])), default)


TOKENS = {"trained": "tokens", "shared": "tokens_shared", "budgeted": "tokens_budgeted", "read": "tokens_read"}
_NOT_METRICS = ("objective", "feasible", "forgetting", "step", "seconds", "attempts", "epoch", "rung", "parent", *TOKENS.values())


def _is_metric(key: str, value: Any) -> bool:
    return _is_finite(value) and key not in _NOT_METRICS and not key.startswith(("_", "best/"))


def _trial(run: Run, summary: Mapping[str, Any], sweep: Mapping[str, Any], result: Result) -> Trial:
    """The trial of a run: number from its name, parameters from its configuration."""
    number = str(run.name or "").rpartition("/")[2]
    return Trial(
        number=int(number) if number.isdigit() else 0,
        params=values_in(run.config, sweep.get("space") or {}),
        tokens=result.tokens.budgeted,
        rung=int(summary["rung"]) if _is_finite(summary.get("rung")) else None,
        parent=int(summary["parent"]) if _is_finite(summary.get("parent")) else None,
        devices=int(_first(run.config.get("trainer") or {}, "devices", default=1)),
    )


def _is_number(value: Any) -> bool:
    """Also those that JSON does not have, as W&B spells them."""
    return (isinstance(value, int | float) and not isinstance(value, bool)) or value in ("NaN", "Infinity", "-Infinity")


def _is_finite(value: Any) -> bool:
    return _is_number(value) and not isinstance(value, str) and math.isfinite(value)


def _number(value: Any) -> float | None:
    """As our files have it: what is not finite is null."""
    return value if _is_finite(value) else None
