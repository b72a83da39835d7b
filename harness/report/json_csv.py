"""A comparison for other programs: JSON and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harness.report.arms import arms
from harness.report.comparison import Comparison
from harness.runs.on_report import on_report
from harness.runs.record import RunRecord

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that spreadsheets run."""


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON types; NaN and infinity become null."""
    study = comparison.confirmed
    document: dict[str, Any] = plain(
        {
            "runs": [_run(comparison, run) for run in comparison.runs],
            "importances": comparison.importances.shares,
            "arms": [
                {"value": arm.value, "trials": arm.trials, "best": arm.best and arm.best.number, "expected_best": arm.expected}
                for arm in arms(comparison)
            ],
            "objective": asdict(comparison.objective) if comparison.objective else None,
            "constraints": comparison.constraints,
            "parameters": comparison.columns,
            "pareto": [run.name for run in comparison.pareto],
            "noise": asdict(comparison.noise) if comparison.noise else None,
            "tokens": {"trained": sum(run.result.tokens.trained for run in comparison.runs), "shared": comparison.saved},
            "teachers": asdict(comparison.teachers),
            "report": found.to_json() if len(comparison.studies) == 1 and (found := on_report(comparison.studies[0])) else None,
            "confirmation": study.confirmation.to_json() if study and study.confirmation else None,
        }
    )
    return document


def _run(comparison: Comparison, run: RunRecord) -> dict[str, Any]:
    origin = comparison.origin(run)
    return {
        "study": run.study,
        "number": run.number,
        "run": run.name,
        "directory": run.location,
        "state": run.state,
        "params": comparison.params(run),
        "objective": comparison.value(run),
        "feasible": comparison.feasible(run),
        "pareto": comparison.is_pareto(run),
        "within_noise": comparison.within_noise(run),
        "metrics": run.result.metrics,
        "seconds": run.result.seconds,
        "tokens": asdict(run.result.tokens),
        "teachers": asdict(run.result.teachers),
        "parent": origin.name if origin else run.result.shared_from,
        "rung": run.trial.rung if run.trial else None,
        "devices": run.devices,
        "attempts": run.result.attempts,
        "step": run.result.step,
        "reason": run.result.reason,
    }


def to_csv(comparison: Comparison) -> str:
    """One row a run, in rank order, with every parameter, and every metric that any of them logged.

    A text that a spreadsheet would take for a formula has a ' before it.
    """
    logged = {metric for run in comparison.runs for metric in run.result.metrics}
    metrics = list(dict.fromkeys([*comparison.metrics, *sorted(logged)]))
    before = ("study", "number", "run", "state", "feasible", "pareto", "within_noise", "objective")
    after = ("seconds", "devices", "attempts", "step", "rung", "parent", "reason", "directory")
    tokens = ("trained", "shared", "budgeted")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")

    def write(*cells: Any) -> None:
        writer.writerow(f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell for cell in cells)

    write(*before, *comparison.parameters, *metrics, *(f"tokens_{kind}" for kind in tokens), *after)
    for run in to_json(comparison)["runs"]:
        params = [run["params"].get(key) for key in comparison.parameters]
        values = [run["metrics"].get(metric) for metric in metrics]
        used = [run["tokens"][kind] for kind in tokens]
        write(*(run[key] for key in before), *params, *values, *used, *(run[key] for key in after))
    return stream.getvalue()


def plain(value: Any) -> Any:
    """JSON types alone: NaN and infinity become null, other types text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value)
