"""Views in W&B of runs that are compared: a saved workspace, and a report, by wandb-workspaces (the extra `workspaces`)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.errors import InputError
from harness.tracking.identity import run_id

MOST_RUNS = 100
"""Runs per plot; W&B's default is ten."""
VIEW_ID_CHARACTERS = 11
"""As many as W&B gives views of its own."""


@dataclass(frozen=True, kw_only=True)
class ViewContent:
    """What a view shows."""

    entity: str
    project: str
    title: str
    groups: Sequence[str]
    """Studies whose trials are shown; () for all runs of the project."""
    objective: str | None
    """The metric that ranks runs, by its logged name."""
    minimize: bool
    parameters: Sequence[tuple[str, bool]]
    """(configuration key, whether it lies on a logarithmic axis)."""
    curves: Sequence[str]
    """Metrics over tokens."""
    against: Sequence[str]
    """Metrics that the objective is weighed against."""


def require_workspaces() -> None:
    """Raises InputError where wandb-workspaces is not installed."""
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise InputError("--workspace and --report need wandb-workspaces, which is not installed: pip install 'harness[workspaces]'")


def save_workspace(shown: ViewContent) -> str:
    """Save the view, in the place of the one that was saved of the same studies before; returns its address."""
    import wandb_workspaces.workspaces as ws

    workspace = ws.Workspace(
        entity=shown.entity,
        project=shown.project,
        name=shown.title,
        sections=[
            ws.Section(name="Search", panels=_search(shown), is_open=True),
            ws.Section(name="Training", panels=_curves(shown), is_open=True),
            ws.Section(name="Runs", panels=_comparers(), is_open=True),
        ],
        settings=ws.WorkspaceSettings(x_axis="tokens", max_runs=MOST_RUNS),
        runset_settings=ws.RunsetSettings(
            filters=_workspace_filters(shown),
            order=[ws.Ordering(ws.Summary(shown.objective), ascending=shown.minimize)] if shown.objective else [],
            pinned_columns=[f"summary:{shown.objective}"] if shown.objective else [],
        ),
    )
    view = run_id("workspace", shown.title, *shown.groups)[:VIEW_ID_CHARACTERS]
    # Named here, not by chance, so that it is found again; there is no public way to choose it.
    workspace._internal_name = f"nw-{view}-v"
    workspace._internal_id = _saved_as(shown, view)
    workspace.save()
    return str(workspace.url)


def _saved_as(shown: ViewContent, view: str) -> str:
    """The server's own id of the view; "" where it has not been saved yet."""
    import wandb_workspaces.workspaces as ws

    try:
        # Of the address, the host is not looked at.
        return str(ws.Workspace.from_url(f"https://wandb/{shown.entity}/{shown.project}?nw={view}")._internal_id)
    except ValueError:
        return ""


def _workspace_filters(shown: ViewContent) -> list[Any]:
    import wandb_workspaces.workspaces as ws

    trials = [ws.Metric("JobType").isin(["trial"])]
    return [*trials, ws.Metric("Group").isin(list(shown.groups))] if shown.groups else []


def save_report(shown: ViewContent, description: str, words: Sequence[str]) -> str:
    """Write a report with the same pictures below some words; returns its address."""
    import wandb_workspaces.reports.v2 as wr

    order = [wr.OrderBy(name=wr.SummaryMetric(shown.objective), ascending=shown.minimize)] if shown.objective else []
    names = ", ".join(f"'{group}'" for group in shown.groups)
    filters = f"Metric('group') in [{names}] and Metric('jobType') == 'trial'" if shown.groups else ""
    runs = wr.Runset(entity=shown.entity, project=shown.project, name=shown.title, filters=filters, order=order)
    blocks: list[Any] = [wr.P(text=line) for line in words]
    for title, panels in (("Search", _search(shown)), ("Training", _curves(shown)), ("Runs", _comparers())):
        blocks += [wr.H2(text=title), wr.PanelGrid(runsets=[runs], panels=panels)]
    report = wr.Report(entity=shown.entity, project=shown.project, title=shown.title, description=description, blocks=blocks)
    report.save(draft=False)
    return str(report.url)


def _search(shown: ViewContent) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    if shown.objective is None:
        return []
    objective = wr.SummaryMetric(shown.objective)
    columns = [wr.ParallelCoordinatesPlotColumn(metric=wr.Config(key), log=log or None) for key, log in shown.parameters]
    panels: list[Any] = []
    if columns:
        ends = [*columns, wr.ParallelCoordinatesPlotColumn(metric=objective)]
        panels += [
            wr.ParallelCoordinatesPlot(title="Parallel coordinates", columns=ends, layout=wr.Layout(0, 0, 16, 8)),
            wr.ParameterImportancePlot(with_respect_to=shown.objective, layout=wr.Layout(16, 0, 8, 8)),
        ]
    panels += [
        wr.ScatterPlot(
            title=f"{shown.objective} against {metric}", x=wr.SummaryMetric(metric), y=objective, layout=wr.Layout(8 * k, 8, 8, 6)
        )
        for k, metric in enumerate(shown.against)
    ]
    slices = [
        wr.ScatterPlot(
            title=f"{shown.objective} against {key}",
            x=wr.Config(key),
            y=objective,
            log_x=log or None,
            layout=wr.Layout(8 * (k % 3), 14 + 6 * (k // 3), 8, 6),
        )
        for k, (key, log) in enumerate(shown.parameters)
    ]
    return [*panels, *slices]


def _curves(shown: ViewContent) -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    return [
        wr.LinePlot(title=metric, x="tokens", y=[metric], max_runs_to_show=MOST_RUNS, layout=wr.Layout(12 * (k % 2), 8 * (k // 2), 12, 8))
        for k, metric in enumerate(shown.curves)
    ]


def _comparers() -> list[Any]:
    import wandb_workspaces.reports.v2 as wr

    return [wr.RunComparer(diff_only=True, layout=wr.Layout(0, 0, 24, 10))]
