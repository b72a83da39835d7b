"""The content of a study's own W&B run: progress, summary, tables and page."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.report.comparison import Comparison
    from harness.runs.directory import StudyDirectory
    from harness.runs.record import StudyRecord
    from harness.search.status import Status
    from harness.tracking.study_overview import StudySnapshot
    from harness.tracking.wandb_run import WandbTarget


def publish_study(study: StudyDirectory, target: WandbTarget, *, wait_seconds: float) -> str | None:
    """Bring the study's run up to date, if anything has changed; returns where it is, None where there was nothing to do.

    wait_seconds: for a worker that does the same. Raises TrackingError where W&B cannot be reached or refuses.
    """
    from harness.search.status import read_status
    from harness.tracking.study_overview import publish, published_version

    status = read_status(study)
    if not status.study.runs or published_version(study, target) == version_of(status):
        return None
    with tempfile.TemporaryDirectory(prefix="harness-study-") as folder:
        return publish(study, target, snapshot(status, Path(folder)), wait_seconds=wait_seconds)


def version_of(status: Status) -> str:
    """A digest of what a snapshot shows."""
    trials = [(run.number, run.state, run.result.objective, run.result.attempts) for run in status.study.runs]
    confirmation = status.study.confirmation.to_json() if status.study.confirmation else None
    return hashlib.blake2b(json.dumps([trials, status.is_finished, confirmation]).encode(), digest_size=8).hexdigest()


def snapshot(status: Status, folder: Path) -> StudySnapshot:
    """The study now. folder: for the page of a finished study."""
    from harness.report.comparison import compare
    from harness.report.page import write_page
    from harness.tracking.identity import tracking_of_study
    from harness.tracking.study_overview import StudySnapshot

    study = status.study
    compared = compare([study], [])
    files = {"sweep": study.directory.sweep}
    if status.is_finished:
        # Five megabytes: only once, at the end.
        files["report"] = folder / "report.html"
        write_page(compared, files["report"])
    best = status.best if status.is_finished and tracking_of_study(study.directory).log_model == "best" else None
    importances = [[key, share] for key, share in compared.importances.shares.items()]
    return StudySnapshot(
        version=version_of(status),
        progress=progress(study),
        summary=_summary(status, compared),
        tables={"trials": _table(compared), **({"importances": (["parameter", "share"], importances)} if importances else {})},
        files=files,
        best=best.directory if best else None,
        is_finished=status.is_finished,
    )


def progress(study: StudyRecord) -> list[dict[str, float | int]]:
    """A row for every trial that has ended, in that order: its objective, and the best so far of full length."""
    from harness.report.history import ended_order
    from harness.runs.result import FINAL_STATES

    rows: list[dict[str, float | int]] = []
    best: float | None = None
    counts = dict.fromkeys(FINAL_STATES, 0)
    tokens, device_hours = 0, 0.0
    for run in ended_order([run for run in study.runs if run.state in FINAL_STATES]):
        counts[run.state] += 1
        tokens += run.result.tokens.spent
        device_hours += run.device_hours
        row: dict[str, float | int] = {
            "trial": run.number or 0,
            "trials/ended": sum(counts.values()),
            "tokens": tokens,
            "device_hours": device_hours,
            **{f"trials/{state}": count for state, count in counts.items()},
        }
        value = run.result.objective
        if run.state == "complete" and value is not None:
            row["objective"] = value
            is_ranked = run.result.feasible is not False and study.has_full_length(run)
            if is_ranked and (best is None or study.objective.better(value, best)):
                best = value
        if best is not None:
            row["best/objective"] = best
        rows.append(row)
    return rows


def _summary(status: Status, compared: Comparison) -> dict[str, Any]:
    best = status.best
    summary: dict[str, Any] = {f"importance/{key}": share for key, share in compared.importances.shares.items()}
    summary |= {f"trials/{state}": count for state, count in status.count().items()}
    summary["finished"] = status.is_finished
    for unit, account in status.budget.to_json().items():
        summary |= {f"budget/{unit}/{name}": value for name, value in account.items() if value is not None}
    if best is not None:
        summary |= {"best/trial": best.number, "best/objective": best.result.objective, "best/confirmed": status.study.is_confirmed(best)}
        summary |= {f"best/params/{key}": value for key, value in best.params.items()}
    return summary


def _table(compared: Comparison) -> tuple[list[str], list[list[Any]]]:
    """The trials by rank, as `harness compare` has them."""
    from harness.report.json_csv import to_json

    columns = ["trial", "state", "objective", "feasible", *compared.parameters, *compared.metrics, "tokens", "seconds", "attempts"]
    rows = []
    for run in to_json(compared)["runs"]:
        # A column of W&B has one type: choices of a group are words, rates are numbers.
        params = [
            value if isinstance(value, int | float | str | None) else json.dumps(value)
            for value in map(run["params"].get, compared.parameters)
        ]
        metrics = [run["metrics"].get(metric) for metric in compared.metrics]
        ends = [run["tokens"]["trained"] + run["tokens"]["read"], run["seconds"], run["attempts"]]
        rows.append([run["number"], run["state"], run["objective"], run["feasible"], *params, *metrics, *ends])
    return columns, rows
