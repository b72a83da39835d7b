"""The study's own W&B run: what it shows is put together here, and workers of a study that is tracked online keep it up to date."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.runs.directory import StudyDirectory

if TYPE_CHECKING:
    from harness.report.comparison import Comparison
    from harness.runs.record import RunRecord, StudyRecord
    from harness.search.status import Status
    from harness.tracking.study_overview import StudySnapshot
    from harness.tracking.wandb_run import WandbTarget

PUBLISH_SECONDS = 60.0
"""Between two updates while a study is under way: each is a process of a few seconds."""
LAST_UPDATE_SECONDS = 120.0
"""How long a worker that has nothing left to do waits for its last update."""


def study_run(study: Annotated[Path, typer.Argument(help="The study's directory.")]) -> None:
    """Bring the study's own W&B run up to date. Workers start it; users need not."""
    from harness.tracking.study_overview import is_tracked_online, study_target
    from harness.tracking.wandb_run import TrackingError

    directory = StudyDirectory(study)
    target = study_target(directory)
    if target is None or not is_tracked_online(directory):
        return
    try:
        # Of several workers that end at the same time, the last one to look has the last word.
        publish_study(directory, target, wait_seconds=LAST_UPDATE_SECONDS / 2)
    except TrackingError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def publish_study(study: StudyDirectory, target: WandbTarget, *, wait_seconds: float = 0.0) -> str | None:
    """Bring the study's run up to date, if anything has changed; returns where it is, None where there was nothing to do.

    Raises TrackingError where W&B cannot be reached or refuses.
    """
    from harness.search.status import read_status
    from harness.tracking.study_overview import publish, published_version

    status = read_status(study)
    if not status.study.runs or published_version(study) == _version(status):
        return None
    with tempfile.TemporaryDirectory(prefix="harness-study-") as folder:
        return publish(study, target, _snapshot(status, Path(folder)), wait_seconds=wait_seconds)


class StudyRunUpdates:
    """Keeps the study's run up to date from a worker, in processes of their own: it never waits for one until it has nothing left to do."""

    def __init__(self, study: StudyDirectory) -> None:
        from harness.tracking.study_overview import is_tracked_online

        self._study = study
        self._is_online = is_tracked_online(study)
        self._process: subprocess.Popen[bytes] | None = None
        self._newest = time.monotonic()

    def settled(self) -> None:
        """A trial was settled."""
        if time.monotonic() - self._newest > PUBLISH_SECONDS and (self._process is None or self._process.poll() is not None):
            self._start()

    def finish(self, *, wait: bool) -> None:
        """The worker has nothing left to do, or has to leave. wait: whether there is time to see the last update through."""
        if not self._is_online:
            return
        if not wait:
            self._start()
            return
        deadline = time.monotonic() + LAST_UPDATE_SECONDS
        if self._process is None or self._ended(deadline):
            self._start()
            self._ended(deadline)

    def _start(self) -> None:
        if self._is_online:
            self._newest = time.monotonic()
            # In a session of its own: signals to the worker are not for it.
            command = [sys.executable, "-m", "harness", "study-run", str(self._study.path)]
            self._process = subprocess.Popen(command, stdout=sys.stderr, start_new_session=True)

    def _ended(self, deadline: float) -> bool:
        assert self._process is not None, "it was started"
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return False
        return True


def _version(status: Status) -> str:
    trials = [(run.number, run.state, run.result.objective, run.result.attempts) for run in status.study.runs]
    confirmation = status.study.confirmation.to_json() if status.study.confirmation else None
    return hashlib.blake2b(json.dumps([trials, status.is_finished, confirmation]).encode(), digest_size=8).hexdigest()


def _snapshot(status: Status, folder: Path) -> StudySnapshot:
    from harness.report.comparison import compare
    from harness.report.page import write_page
    from harness.tracking.study_overview import StudySnapshot

    study = status.study
    compared = compare([study], [])
    files = {"sweep": study.directory.sweep}
    if status.is_finished:
        # Five megabytes: once, with everything on it.
        files["report"] = folder / "report.html"
        write_page(compared, files["report"])
    importances = [[key, share] for key, share in compared.importances.shares.items()]
    return StudySnapshot(
        version=_version(status),
        progress=progress(study),
        summary=_summary(status, compared),
        tables={"trials": _table(compared), **({"importances": (["parameter", "share"], importances)} if importances else {})},
        files=files,
        is_finished=status.is_finished,
    )


def progress(study: StudyRecord) -> list[dict[str, float | int]]:
    """A row for every trial that has ended, in the order of their ends: what it came to, and the best so far of full length."""
    from harness.runs.result import FINAL_STATES

    rows: list[dict[str, float | int]] = []
    best: float | None = None
    counts = dict.fromkeys(FINAL_STATES, 0)
    tokens, device_hours = 0, 0.0
    for run in sorted((run for run in study.runs if run.state in FINAL_STATES), key=_ended):
        counts[run.state] += 1
        tokens += run.result.tokens.trained
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


def _ended(run: RunRecord) -> tuple[float, int]:
    spans = run.trial.spans if run.trial else []
    return (spans[-1][1] if spans else 0.0), run.number or 0


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
    from harness.report.document import to_json

    columns = ["trial", "state", "objective", "feasible", *compared.parameters, *compared.metrics, "tokens", "seconds", "attempts"]
    rows = []
    for run in to_json(compared)["runs"]:
        # A column of W&B has one type: choices of a group are words, rates are numbers.
        params = [
            value if isinstance(value, int | float | str | None) else json.dumps(value)
            for value in map(run["params"].get, compared.parameters)
        ]
        metrics = [run["metrics"].get(metric) for metric in compared.metrics]
        ends = [run["tokens"]["trained"], run["seconds"], run["attempts"]]
        rows.append([run["number"], run["state"], run["objective"], run["feasible"], *params, *metrics, *ends])
    return columns, rows
