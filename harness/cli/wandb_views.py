"""harness compare --workspace and --report: views of the runs in W&B."""

from __future__ import annotations

from collections.abc import Mapping

from harness.config.errors import InputError
from harness.config.nested import lookup
from harness.report.comparison import Comparison
from harness.report.notes import noise_note, sharing_note
from harness.report.text import bound_text, metric_text, value_text
from harness.tracking.remote_path import RemotePath, is_remote, parse_remote
from harness.tracking.views import ViewContent, require_workspaces, save_report, save_workspace

SLICES = 6
"""How many of the most important parameters get a plot."""


def save_views(comparison: Comparison, names: list[str], *, workspace: bool, report: bool) -> list[str]:
    """Save the views; returns their addresses. Raises InputError without wandb-workspaces, a server, a login, or any run in W&B."""
    require_workspaces()
    from harness.tracking.remote import input_errors, open_api

    path = _place(comparison, names)
    _, entity_project = open_api(path)
    entity, _, project = entity_project.partition("/")
    shown = _shown(comparison, entity, project)
    addresses = []
    with input_errors(f"{path}"):
        if workspace:
            addresses.append(save_workspace(shown))
        if report:
            addresses.append(save_report(shown, _question(comparison), list(_summary_lines(comparison))))
    return addresses


def _place(comparison: Comparison, names: list[str]) -> RemotePath:
    """Where the runs are in W&B: as named, else as the configuration of the first one says."""
    remote = [parse_remote(name) for name in names if is_remote(name)]
    if remote:
        return remote[0]
    from harness.config.schema import TrackingConfig
    from harness.config.validate import to_section
    from harness.tracking.wandb_run import WandbTarget

    configured = next((run.config["tracking"] for run in comparison.runs if "tracking" in run.config), None)
    if configured is None or configured.get("name") == "none":
        raise InputError("--workspace and --report show runs in W&B, and these were not tracked there (tracking=none)")
    target = WandbTarget.of(to_section(TrackingConfig, configured))
    return RemotePath(f"{target.entity or ''}/{target.project}", target.entity, target.project)


def _shown(comparison: Comparison, entity: str, project: str) -> ViewContent:
    objective = comparison.objective
    metrics = [objective.metric] if objective else comparison.metrics[:1]
    return ViewContent(
        entity=entity,
        project=project,
        title=", ".join(study.name for study in comparison.studies) or "harness: runs compared",
        groups=[study.name for study in comparison.studies],
        objective=objective.metric if objective else None,
        minimize=objective is None or objective.direction == "minimize",
        parameters=[(_logged_key(comparison, key), comparison.is_log(key)) for key in comparison.by_importance[:SLICES]],
        curves=[*metrics, "train/loss", *comparison.constraints, "lr"],
        against=[metric for metric in comparison.trade_offs if metric not in metrics],
    )


def _logged_key(comparison: Comparison, key: str) -> str:
    """The key of a parameter in W&B's configuration: schedule.name for the group schedule."""
    for run in comparison.runs:
        node = lookup(run.config, key)
        if node is not None:
            return f"{key}.name" if isinstance(node, Mapping) else key
    return key


def _question(comparison: Comparison) -> str:
    objective = comparison.objective
    if objective is None:
        return "Runs side by side"
    bounds = [f"{metric} {bound_text(bound)}" for metric, bound in comparison.constraints.items()]
    return f"{objective.direction} {objective.metric}{' subject to ' + ' and '.join(bounds) if bounds else ''}"


def _summary_lines(comparison: Comparison) -> list[str]:
    lines = [f"{_question(comparison)}. {len(comparison.runs)} runs."]
    best = comparison.best
    if best is not None:
        params = ", ".join(f"{key} = {value_text(value, log=comparison.is_log(key))}" for key, value in comparison.params(best).items())
        confidence = "confirmed over seeds" if comparison.winner else "not confirmed"
        lines.append(f"Best: {best.name}, {metric_text(comparison.value(best))} ({confidence}): {params}.")
    if comparison.noise:
        lines.append(noise_note(comparison.noise))
    if comparison.saved:
        lines.append(sharing_note(comparison))
    return lines
