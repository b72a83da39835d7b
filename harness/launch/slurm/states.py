"""The states of Slurm's jobs, as Slurm spells them, and what each means for us."""

from __future__ import annotations

from dataclasses import dataclass
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
    is_held: bool = False
    """Whether it waits for somebody to release it."""
    by: str | None = None
    """Of a cancelled job: the user id of whoever did it, where accounting tells."""

    @property
    def is_alive(self) -> bool:
        """Whether the job may still have, or get, processes: work that it has claimed is not lost."""
        return self.phase != "ended"

    def __str__(self) -> str:
        return f"{self.name} by {self.by}" if self.by else self.name


def _state(name: str, phase: Phase, meaning: str, *, is_held: bool = False) -> JobState:
    return JobState(name, phase, meaning, is_held)


# Slurm 22.05 … 25.05: job_state_string() and its flags.
_STATES = (
    _state("PENDING", "waiting", "waits for its turn"),
    _state("REQUEUED", "waiting", "was put back into the queue"),
    _state("REQUEUE_FED", "waiting", "was put back into the queue of its federation"),
    _state("CONFIGURING", "waiting", "has nodes, which are being made ready"),
    _state("POWER_UP_NODE", "waiting", "has nodes, which are being powered up"),
    _state("REQUEUE_HOLD", "waiting", "was put back into the queue and is held (scontrol release)", is_held=True),
    _state("SPECIAL_EXIT", "waiting", "was put back into the queue and is held (scontrol release)", is_held=True),
    _state("RESV_DEL_HOLD", "waiting", "is held, its reservation was deleted (scontrol release)", is_held=True),
    _state("RUNNING", "running", "runs"),
    _state("EXPEDITING", "running", "runs"),
    _state("RESIZING", "running", "is about to change its size"),
    _state("SIGNALING", "running", "is being sent a signal"),
    _state("STOPPED", "running", "was stopped (SIGSTOP), and keeps its nodes"),
    _state("SUSPENDED", "running", "is suspended, and keeps its processes"),
    _state("COMPLETING", "ending", "is ending"),
    _state("STAGE_OUT", "ending", "is staging out files"),
    _state("UPDATE_DB", "ending", "is being written to the accounting"),
    _state("COMPLETED", "ended", "ended by itself"),
    _state("FAILED", "ended", "ended with an exit code other than 0"),
    _state("CANCELLED", "ended", "was cancelled"),
    _state("TIMEOUT", "ended", "reached its time limit"),
    _state("DEADLINE", "ended", "reached its deadline"),
    _state("NODE_FAIL", "ended", "lost a node"),
    _state("BOOT_FAIL", "ended", "its nodes did not boot"),
    _state("LAUNCH_FAILED", "ended", "could not be launched on its nodes"),
    _state("RECONFIG_FAIL", "ended", "its nodes could not be reconfigured"),
    _state("PREEMPTED", "ended", "was preempted"),
    _state("OUT_OF_MEMORY", "ended", "needed more memory than it had asked for"),
    _state("REVOKED", "ended", "was taken by another cluster of its federation"),
)
STATES = {state.name: state for state in _STATES}
_COMPACT = {
    **{"PD": "PENDING", "RQ": "REQUEUED", "RF": "REQUEUE_FED", "CF": "CONFIGURING", "RH": "REQUEUE_HOLD", "SE": "SPECIAL_EXIT"},
    **{"RD": "RESV_DEL_HOLD", "R": "RUNNING", "RS": "RESIZING", "SI": "SIGNALING", "ST": "STOPPED", "S": "SUSPENDED", "CG": "COMPLETING"},
    **{"SO": "STAGE_OUT", "CD": "COMPLETED", "F": "FAILED", "CA": "CANCELLED", "TO": "TIMEOUT", "DL": "DEADLINE", "NF": "NODE_FAIL"},
    **{"BF": "BOOT_FAIL", "LF": "LAUNCH_FAILED", "PR": "PREEMPTED", "OOM": "OUT_OF_MEMORY", "RV": "REVOKED"},
}


def parse_state(text: str) -> JobState:
    """The state that squeue or sacct prints: "RUNNING", "CANCELLED by 1000", "CANCELLED+" (cut off), or the short "NF".

    One that is not known, of a version to come, counts as running: nothing is given up for it.
    """
    word, _, rest = text.strip().partition(" ")
    word = word.rstrip("+").upper()
    name = _COMPACT.get(word, word)
    found = STATES.get(name)
    if found is None:
        return JobState(name or "UNKNOWN", "running", "is in a state that is not known here")
    by = rest.removeprefix("by ").strip() if name == "CANCELLED" and rest.startswith("by ") else None
    return JobState(found.name, found.phase, found.meaning, found.is_held, by)
