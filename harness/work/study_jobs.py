"""The Slurm jobs of a study: their states for `harness status`, and cancelling those that wait."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness.config.errors import InputError
from harness.launch.slurm.commands import Slurm, SlurmUnavailableError
from harness.launch.slurm.job_elements import JobElement, QueuedElement, array_text
from harness.launch.slurm.reasons import reason_of
from harness.runs.confirmation_plan import ingredient_runs
from harness.runs.directory import StudyDirectory
from harness.runs.result import read_result
from harness.runs.submitted_jobs import Place, SubmittedJob, read_jobs

LOOK_SECONDS = 5.0
"""Between two squeues of a live view: they load the cluster's controller."""
TIMEOUT_SECONDS, PATIENCE_SECONDS = 15.0, 15.0
"""A view does not wait much longer for a controller that is down."""


@dataclass(frozen=True)
class StudyJobs:
    """What was submitted for a study, and its states in Slurm."""

    submitted: list[SubmittedJob]
    queue: list[QueuedElement]
    trouble: str | None = None
    """Why Slurm could not be asked."""

    @property
    def live(self) -> list[QueuedElement]:
        return [queued for queued in self.queue if queued.state.is_alive]

    @property
    def waiting(self) -> list[QueuedElement]:
        return [queued for queued in self.queue if queued.state.phase == "waiting"]

    def lines(self) -> list[str]:
        """How many jobs run, and why others do not."""
        if self.trouble:
            return [f"jobs: {self.trouble}"]
        running = [queued for queued in self.live if queued.state.phase != "waiting"]
        gpus = sum(queued.gpus for queued in running)
        lines = [f"jobs: {len(running)} running{f' on {gpus} GPUs' if gpus else ''}, {len(self.waiting)} waiting"] if self.live else []
        groups: dict[tuple[str, bool], list[QueuedElement]] = {}
        for queued in self.waiting:
            reason = reason_of(queued)
            text = queued.state.meaning if reason is None else reason.text
            if reason is not None and reason.word not in text:
                text = f"{text} ({reason.word})"
            groups.setdefault((text, reason is not None and reason.never), []).append(queued)
        for (text, never), members in groups.items():
            names = names_text(queued.element for queued in members)
            lines.append(f"  {names} will not start: {text}" if never else f"  {names} {text}")
        return lines

    def to_json(self) -> list[dict[str, Any]]:
        return [_element_json(queued) for queued in self.queue]


def _element_json(queued: QueuedElement) -> dict[str, Any]:
    reason = reason_of(queued)
    return {
        "job": str(queued.element),
        "state": str(queued.state),
        "reason": reason.word if reason else None,
        "explanation": reason.text if reason else queued.state.meaning,
        "starts": not (reason is not None and reason.never),
        "nodes": queued.nodes,
        "restarts": queued.restarts,
        "gpus": queued.gpus,
        "partition": queued.partition,
        "submitted": queued.submitted,
        "started": queued.started,
        "ends": queued.ends,
    }


def names_text(elements: Iterable[JobElement]) -> str:
    """Elements as Slurm writes several of them: "12_[0-3,7], 15"."""
    arrays: dict[int, list[int | None]] = {}
    for element in sorted(elements):
        arrays.setdefault(element.job, []).append(element.task)
    names = []
    for job, tasks in arrays.items():
        indices = [task for task in tasks if task is not None]
        names.append(str(job) if not indices else f"{job}_{indices[0]}" if len(indices) == 1 else f"{job}_[{array_text(indices)}]")
    return ", ".join(names)


def study_jobs(directory: Place) -> StudyJobs | None:
    """The jobs of a study or of a data set, with one squeue for all of them; None for one that nothing was submitted for.

    Those that train ingredients for a confirmation are its own.
    """
    runs = ingredient_runs(directory) if isinstance(directory, StudyDirectory) else []
    submitted = [job for place in (directory, *runs) for job in read_jobs(place)]
    if not submitted:
        return None
    queue: list[QueuedElement] = []
    for cluster in sorted({job.cluster for job in submitted}, key=lambda name: name or ""):
        slurm = Slurm(cluster, TIMEOUT_SECONDS, PATIENCE_SECONDS)
        try:
            queue += slurm.queue({job.job for job in submitted if job.cluster == cluster})
        except (SlurmUnavailableError, InputError) as error:
            return StudyJobs(submitted, [], str(error))
    return StudyJobs(submitted, queue)


def failed_ingredients(study: StudyDirectory) -> dict[str, str | None]:
    """Runs of a confirmation's ingredients whose training failed, and why: its merges wait for them, or were cancelled with them."""
    results = ((run, read_result(run)) for run in ingredient_runs(study))
    return {str(run.path): result.reason for run, result in results if result.state == "failed"}


class WatchedJobs:
    """The jobs of a study or of a data set for a view that is drawn several times a second."""

    def __init__(self, directory: Place) -> None:
        self._directory = directory
        self._looked = float("-inf")
        self._jobs: StudyJobs | None = None

    @property
    def latest(self) -> StudyJobs | None:
        """As of at most LOOK_SECONDS ago."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            self._jobs = study_jobs(self._directory)
            self._looked = time.monotonic()
        return self._jobs

    def lines(self) -> list[str]:
        return self.latest.lines() if self.latest else []

    @property
    def trouble(self) -> str | None:
        """Why Slurm could not be asked."""
        return self.latest.trouble if self.latest else None

    def to_json(self) -> dict[str, Any]:
        found = self.latest
        return {"jobs": found.to_json() if found else [], "jobs_trouble": found.trouble if found else None}

    @property
    def live(self) -> int:
        """How many wait or run; 1 if Slurm does not answer, since some may."""
        jobs = self.latest
        return 0 if jobs is None else 1 if jobs.trouble else len(jobs.live)


def cancel_waiting(jobs: StudyJobs) -> int:
    """Cancel the elements that wait, so that none starts when another leaves; returns their number.

    Jobs of single runs (of ingredients) are cancelled while they run, too: no worker tells them to leave, but the signal makes them save a
    checkpoint. Raises SlurmUnavailableError.
    """
    runs = {job.job for job in jobs.submitted if job.purpose == "run"}
    running = {queued.element for queued in jobs.live if queued.element.job in runs and queued.state.phase == "running"}
    waiting = {queued.element for queued in jobs.waiting} | running
    for cluster in {job.cluster for job in jobs.submitted}:
        ours = {job.job for job in jobs.submitted if job.cluster == cluster}
        elements = [element for element in waiting if element.job in ours]
        if elements:
            Slurm(cluster).cancel(elements)
    return len(waiting)
