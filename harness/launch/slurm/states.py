"""The states of Slurm's jobs, as Slurm spells them, and what each means for us."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Phase = Literal["waiting", "running", "ending", "ended"]
"""waiting: no process of it is there, one will be; running: its processes are there; ending: they are being cleared away;
ended: for good."""


@dataclass(frozen=True)
class JobState:
    """One state."""

    name: str
    """As Slurm spells it: "NODE_FAIL"."""
    phase: Phase
    meaning: str
    """In words, for people: why it waits, or how it ended."""
    by: str | None = None
    """Of a cancelled job: the user id of whoever did it, where accounting tells."""

    @property
    def is_alive(self) -> bool:
        """Whether the job may still have, or get, processes: work that it has claimed is not lost."""
        return self.phase != "ended"

    def __str__(self) -> str:
        return f"{self.name} by {self.by}" if self.by else self.name


# Slurm 22.05 … 25.05: job_state_string() and its flags.
_STATES = (
    JobState("PENDING", "waiting", "waits for its turn"),
    JobState("REQUEUED", "waiting", "was put back into the queue"),
    JobState("REQUEUE_FED", "waiting", "was put back into the queue of its federation"),
    JobState("CONFIGURING", "waiting", "has nodes, which are being made ready"),
    JobState("POWER_UP_NODE", "waiting", "has nodes, which are being powered up"),
    JobState("REQUEUE_HOLD", "waiting", "was put back into the queue and is held (scontrol release)"),
    JobState("SPECIAL_EXIT", "waiting", "was put back into the queue and is held (scontrol release)"),
    JobState("RESV_DEL_HOLD", "waiting", "is held, its reservation was deleted (scontrol release)"),
    JobState("RUNNING", "running", "runs"),
    JobState("EXPEDITING", "running", "runs"),
    JobState("RESIZING", "running", "is about to change its size"),
    JobState("SIGNALING", "running", "is being sent a signal"),
    JobState("STOPPED", "running", "was stopped (SIGSTOP), and keeps its nodes"),
    JobState("SUSPENDED", "running", "is suspended, and keeps its processes"),
    JobState("COMPLETING", "ending", "is ending"),
    JobState("STAGE_OUT", "ending", "is staging out files"),
    JobState("UPDATE_DB", "ending", "is being written to the accounting"),
    JobState("COMPLETED", "ended", "ended by itself"),
    JobState("FAILED", "ended", "ended with an exit code other than 0"),
    JobState("CANCELLED", "ended", "was cancelled"),
    JobState("TIMEOUT", "ended", "reached its time limit"),
    JobState("DEADLINE", "ended", "reached its deadline"),
    JobState("NODE_FAIL", "ended", "lost a node"),
    JobState("BOOT_FAIL", "ended", "its nodes did not boot"),
    JobState("LAUNCH_FAILED", "ended", "could not be launched on its nodes"),
    JobState("RECONFIG_FAIL", "ended", "its nodes could not be reconfigured"),
    JobState("PREEMPTED", "ended", "was preempted"),
    JobState("OUT_OF_MEMORY", "ended", "needed more memory than it had asked for"),
    JobState("REVOKED", "ended", "was taken by another cluster of its federation"),
)
STATES = {state.name: state for state in _STATES}


def parse_state(text: str) -> JobState:
    """The state that squeue or sacct prints: "RUNNING", "CANCELLED by 1000", or "CANCELLED+" (cut off).

    One that is not known, of a version to come, counts as running: nothing is given up for it.
    """
    word, _, rest = text.strip().partition(" ")
    name = word.rstrip("+").upper()
    found = STATES.get(name)
    if found is None:
        return JobState(name or "UNKNOWN", "running", "is in a state that is not known here")
    by = rest.removeprefix("by ").strip() if name == "CANCELLED" and rest.startswith("by ") else None
    return replace(found, by=by)
