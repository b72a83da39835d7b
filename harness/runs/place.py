"""Where a worker runs, and the outcome of its job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a worker runs, and its attempts."""

    node: str
    """Slurm's name of the node, or the machine's: virtual nodes share one host name."""
    job: str | None = None
    """The Slurm job as Slurm spells it: 1234, or 1234_5 for an element of an array; null outside of Slurm."""
    restart: int = 0
    """How often Slurm had started the job before."""


JobOutcome = Literal["alive", "interrupted", "out_of_memory", "machine_fault", "ended"]
"""Of one life of a job. alive: pending, running or completing; interrupted: requeued, preempted, cancelled, at its time limit or its node
gone, which says nothing about the work in it; out_of_memory: killed for it; machine_fault: a disk failed its worker, which left a note;
ended: by itself, or unknown."""

AskJobOutcomes = Callable[[Sequence[Place]], dict[Place, JobOutcome] | None]
"""The outcomes of the jobs in these places, by one call to the cluster; None when it does not answer."""
