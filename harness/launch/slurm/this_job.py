"""The job that this process is part of, by the variables that Slurm gives it."""

from __future__ import annotations

import logging
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from harness.config.errors import InputError
from harness.launch.slurm.commands import Slurm, SlurmUnavailableError
from harness.launch.slurm.job_elements import JobElement
from harness.runs.place import Place

QUICK = Slurm(timeout_seconds=20.0, patience_seconds=20.0)
"""For questions that are asked again anyway."""
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ThisJob:
    """A job or an element of an array, and this life of it."""

    element: JobElement
    node: str
    """This process's own, of perhaps several."""
    restart: int
    """How often Slurm had started it before."""
    cpus: int | None
    """Of each task; None where Slurm does not say."""
    ends: float | None
    """When its time limit ends it, in seconds since the epoch; None where it has none, or Slurm does not answer."""

    @property
    def place(self) -> Place:
        return Place(node=self.node, job=str(self.element), restart=self.restart)


def this_job(environment: Mapping[str, str]) -> ThisJob | None:
    """None outside of Slurm's jobs. Asks squeue where the variables do not tell when the job ends (Slurm before 23.02)."""
    if "SLURM_JOB_ID" not in environment:
        return None
    element = JobElement(int(environment["SLURM_JOB_ID"]))
    if "SLURM_ARRAY_TASK_ID" in environment:
        element = JobElement(int(environment["SLURM_ARRAY_JOB_ID"]), int(environment["SLURM_ARRAY_TASK_ID"]))
    ends = environment.get("SLURM_JOB_END_TIME", "")
    return ThisJob(
        element=element,
        # Virtual nodes share one host name.
        node=environment.get("SLURMD_NODENAME") or socket.gethostname(),
        restart=int(environment.get("SLURM_RESTART_COUNT", "0")),
        cpus=_cpus(environment),
        ends=float(ends) if ends.isdigit() else _ends(element),
    )


def _cpus(environment: Mapping[str, str]) -> int | None:
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        if environment.get(name, "").isdigit():
            return int(environment[name])
    return None


def _ends(element: JobElement) -> float | None:
    if shutil.which("squeue") is None:  # not on every site's compute nodes
        return None
    try:
        return next((queued.ends for queued in QUICK.queue([element.job]) if queued.element == element), None)
    except (SlurmUnavailableError, InputError) as error:
        log.warning("when job %s ends is not known: %s", element, error)
        return None
