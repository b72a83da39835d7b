"""Outcomes of the jobs of workers that are no longer seen."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from harness.config.errors import InputError
from harness.launch.slurm.commands import Slurm, SlurmUnavailableError
from harness.launch.slurm.job_elements import Accounted, JobElement, parse_elements
from harness.launch.slurm.states import JobState
from harness.launch.slurm.this_job import QUICK
from harness.runs.place import JobOutcome, Place

INTERRUPTED = ("CANCELLED", "TIMEOUT", "DEADLINE", "NODE_FAIL", "BOOT_FAIL", "LAUNCH_FAILED", "PREEMPTED", "REVOKED")
"""States that say nothing about the work in the job."""
log = logging.getLogger(__name__)


def ask_job_outcomes(places: Sequence[Place], crashes: Path, slurm: Slurm = QUICK) -> dict[Place, JobOutcome] | None:
    """The outcomes of these lives of jobs, by one squeue; those that it no longer knows are looked up in the accounting.

    crashes: the folder in which batch scripts note the lives whose worker died of itself before they put their job back into the queue.
    None when Slurm does not answer.
    """
    elements = {place: parse_elements(place.job)[0] for place in places if place.job is not None}
    try:
        queue = {queued.element: queued for queued in slurm.queue({element.job for element in elements.values()})}
        forgotten = {element.job for element in elements.values() if element not in queue}
        accounted = slurm.accounting(forgotten) or []
    except (SlurmUnavailableError, InputError) as error:
        log.warning("%s", error)
        return None
    outcomes: dict[Place, JobOutcome] = {}
    for place, element in elements.items():
        queued = queue.get(element)
        if queued is None:
            outcomes[place] = _accounted_outcome(element, place.restart, accounted)
        else:
            outcomes[place] = outcome_of(queued.state, past=queued.restarts > place.restart)
        if outcomes[place] == "interrupted" and _has_crashed(crashes, place):
            outcomes[place] = "ended"
    return outcomes


def _has_crashed(crashes: Path, place: Place) -> bool:
    try:
        return str(place.restart) in (crashes / f"{place.job}.crashes").read_text("utf-8").split()
    except FileNotFoundError:
        return False


def outcome_of(state: JobState, *, past: bool) -> JobOutcome:
    """The outcome of one life of a job in this state. past: whether it has been requeued since."""
    if past:
        return "interrupted"
    if state.is_alive:
        return "alive"
    if state.name == "OUT_OF_MEMORY":
        return "out_of_memory"
    return "interrupted" if state.name in INTERRUPTED else "ended"


def _accounted_outcome(element: JobElement, restart: int, accounted: Sequence[Accounted]) -> JobOutcome:
    """By the allocation that was this life: sacct has one for each, in the order of their beginnings."""
    lives = sorted((life for life in accounted if life.element == element), key=lambda life: life.started or 0.0)
    if restart >= len(lives):
        return "ended"
    state = lives[restart].state
    # squeue does not know it: what accounting takes for alive was requeued, or its end was never reported.
    return "interrupted" if state.is_alive else outcome_of(state, past=False)
