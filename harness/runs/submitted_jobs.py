"""jobs.jsonl: the jobs that were submitted for workers of a study or of a data set, or for a single run; a row a submission, never
changed."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Protocol

from annotated_types import Interval

from harness.config.documents import typed
from harness.runs.directory import StudyDirectory
from harness.runs.files import append_json_line, read_json_lines

MOST_TASKS = 4_000_001
"""Slurm's own bound on MaxArraySize (slurm.conf(5))."""


class Place(Protocol):
    """What jobs work on: a study, a run, or a data set that is made."""

    @property
    def path(self) -> Path: ...

    @property
    def name(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class SubmittedJob:
    """One submission."""

    job: int
    """The job's id; of an array, the array's."""
    tasks: Annotated[int, Interval(ge=1, le=MOST_TASKS)] | None = None
    """How many elements the array has: 0 … tasks - 1; None for a job that is no array."""
    purpose: str = "workers"
    """What it is for: workers (of a study, of a data set), run (a single one), or prepare (tokenization, which the others wait for)."""
    cluster: str | None = None
    """The name of one of several clusters; None: the only one."""
    submitted: float
    """Seconds since the epoch."""
    script: str
    """The batch script as it was submitted."""
    profile: dict[str, Any] = field(default_factory=dict)
    """The launcher's configuration that it was rendered from."""

    @property
    def elements(self) -> list[int | None]:
        """The index of each element; [None] for a job that is no array."""
        return [None] if self.tasks is None else list(range(self.tasks))


def jobs_file(place: Place) -> Path:
    """Where the submissions for it are written down."""
    return place.workers / "jobs.jsonl" if isinstance(place, StudyDirectory) else place.path / "jobs.jsonl"


def read_jobs(place: Place) -> list[SubmittedJob]:
    """All submissions, in order. Raises DamagedError."""
    path = jobs_file(place)
    return [typed(SubmittedJob, row, path) for row in read_json_lines(path)]


def record_job(place: Place, job: SubmittedJob) -> None:
    path = jobs_file(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    append_json_line(path, asdict(job))
