"""Jobs and the elements of job arrays: their names, and what squeue and sacct say of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering

from harness.launch.slurm.states import JobState


@total_ordering
@dataclass(frozen=True)
class JobElement:
    """A job, or one element of a job array: what Slurm starts, requeues and cancels as one."""

    job: int
    """The job's id; of an array, the array's."""
    task: int | None = None
    """The index in the array; None for a job that is no array."""

    def __str__(self) -> str:
        return str(self.job) if self.task is None else f"{self.job}_{self.task}"

    def __lt__(self, other: JobElement) -> bool:
        return (self.job, -1 if self.task is None else self.task) < (other.job, -1 if other.task is None else other.task)


@dataclass(frozen=True)
class QueuedElement:
    """What squeue says of a job or an element."""

    element: JobElement
    state: JobState
    reason: str | None
    """Why it waits, in Slurm's word: Resources, PartitionConfig, QOSMaxJobsPerUserLimit, …; None where it does not."""
    nodes: str
    """The list of its nodes, as Slurm writes it; empty while it has none."""
    restarts: int
    """How often it was put back into the queue."""
    submitted: float | None
    """Seconds since the epoch, as are the next two; None where Slurm does not know."""
    started: float | None
    """When it started, or is expected to."""
    ends: float | None
    """When its time limit ends it."""
    partition: str
    resources: str
    """What it holds or asks for: "cpu=4,mem=8G,node=1,billing=4,gres/gpu=1"."""
    script: str
    """The path that was given to sbatch."""

    @property
    def gpus(self) -> int:
        """How many GPUs it holds or asks for."""
        found = re.search(r"(?:^|,)gres/gpu=(\d+)", self.resources)
        return int(found[1]) if found else 0


@dataclass(frozen=True)
class Accounted:
    """What sacct says of one allocation of a job or an element; one that was requeued has had several."""

    element: JobElement
    state: JobState
    started: float | None
    """Seconds since the epoch."""


def parse_elements(text: str) -> list[JobElement]:
    """The elements that squeue or sacct means: "123", "123_4", or, for those of an array that wait, "123_[4-9,12,20-40:5%2]".

    Raises ValueError for what is none of these, and for a list that Slurm has cut off ("…").
    """
    match = re.fullmatch(r"(\d+)(?:_(?:(\d+)|\[([\d,:%-]+)\]))?", text.strip())
    if match is None:
        raise ValueError(f"no job: {text!r}")
    job, task, tasks = int(match[1]), match[2], match[3]
    if tasks is None:
        return [JobElement(job, int(task) if task else None)]
    return [JobElement(job, index) for part in tasks.partition("%")[0].split(",") for index in _range(part)]


def _range(part: str) -> range:
    match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
    if match is None:
        raise ValueError(f"no range of array indices: {part!r}")
    first = int(match[1])
    return range(first, int(match[2] or first) + 1, int(match[3] or 1))


def array_text(tasks: list[int]) -> str:
    """Indices as sbatch and scancel take them, the inverse of the list in "123_[0-3,7]": "0-3,7"."""
    parts: list[str] = []
    first = last = None
    for task in [*sorted(tasks), None]:
        if last is not None and task == last + 1:
            last = task
            continue
        if first is not None:
            parts.append(str(first) if first == last else f"{first}-{last}")
        first = last = task
    return ",".join(parts)
