"""More workers, or fewer, while a study runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.config.errors import InputError
from harness.config.launcher_schema import LauncherConfig
from harness.launch.local import LocalWorkers
from harness.launch.slurm import submission
from harness.launch.slurm.job_elements import QueuedElement
from harness.runs.directory import StudyDirectory
from harness.runs.submitted_jobs import read_jobs
from harness.search.open_study import want_workers
from harness.work.cluster import Submitted, submit_workers, workforce
from harness.work.retrain import awaited_jobs


@dataclass(frozen=True)
class WorkerChange:
    """The result of a change in the number of workers."""

    present: int
    """Before it: those that waited or ran."""
    wanted: int
    submitted: Submitted | None = None
    started: int = 0
    """On this machine."""
    dismissed: list[str] = field(default_factory=list)
    """Jobs that waited and were cancelled; workers that were asked to leave."""


def change_workers(study: StudyDirectory, launcher: LauncherConfig, *, add: int | None = None, to: int | None = None) -> WorkerChange:
    """Start or dismiss workers until there are `to`, or `add` more than there are.

    launcher: of new ones. Raises InputError and SlurmUnavailableError.
    """
    waiting, working = workforce(study)
    present = len(waiting) + len(working)
    wanted = to if to is not None else present + (add or 0)
    after = awaited_jobs(study) if wanted > present else []
    if after and launcher.name == "local":
        jobs = ", ".join(map(str, after))
        raise InputError(f"launcher=local: workers here would not wait for jobs {jobs}, which train ingredients; valid: launcher=slurm")
    want_workers(study, wanted)
    if wanted < present:
        return WorkerChange(present, wanted, dismissed=_dismiss(study, waiting, working, present - wanted))
    if wanted == present:
        return WorkerChange(present, wanted)
    if launcher.name == "slurm":
        return WorkerChange(present, wanted, submitted=submit_workers(study, launcher, wanted, after=after))
    return WorkerChange(present, wanted, started=LocalWorkers(study, wanted - present).tend(replace=False))


def _dismiss(study: StudyDirectory, waiting: list[QueuedElement], working: list[dict[str, Any]], surplus: int) -> list[str]:
    """Jobs that wait go first, then the workers that began last, which lose the least."""
    cancelled = sorted(waiting, key=lambda queued: (queued.state.phase == "waiting", queued.element), reverse=True)[:surplus]
    submission.cancel(read_jobs(study), [queued.element for queued in cancelled])
    leaving = sorted(working, key=lambda worker: float(worker["started"]), reverse=True)[: surplus - len(cancelled)]
    for worker in leaving:
        study.leave_request(worker["id"]).touch()
    return [*(f"job {queued.element}" for queued in cancelled), *(str(worker["id"]) for worker in leaving)]
