"""Each state of a job, as Slurm spells it, and what it means for us."""

from __future__ import annotations

import pytest

from harness.launch.slurm.states import STATES, parse_state

# Each one that squeue or sacct may print, from Slurm's own manual pages.
PHASES = {
    "waiting": "PENDING REQUEUED REQUEUE_FED CONFIGURING POWER_UP_NODE REQUEUE_HOLD SPECIAL_EXIT RESV_DEL_HOLD",
    "running": "RUNNING EXPEDITING RESIZING SIGNALING STOPPED SUSPENDED",
    "ending": "COMPLETING STAGE_OUT UPDATE_DB",
    "ended": "COMPLETED FAILED CANCELLED TIMEOUT DEADLINE NODE_FAIL BOOT_FAIL LAUNCH_FAILED RECONFIG_FAIL PREEMPTED OUT_OF_MEMORY REVOKED",
}


@pytest.mark.parametrize(("name", "phase"), [(name, phase) for phase, names in PHASES.items() for name in names.split()])
def test_every_state_has_its_phase(name: str, phase: str) -> None:
    state = parse_state(f"{name}  ")
    assert (state.name, state.phase, state.is_alive) == (name, phase, phase != "ended")
    assert state.meaning


def test_no_state_is_left_out() -> None:
    assert set(STATES) == {name for names in PHASES.values() for name in names.split()}


def test_a_cancelled_job_says_by_whom() -> None:
    state = parse_state("CANCELLED by 1000")
    assert (state.name, state.by, str(state)) == ("CANCELLED", "1000", "CANCELLED by 1000")
    assert not state.is_alive
    assert parse_state("CANCELLED+").by is None


def test_a_state_of_a_version_to_come_gives_nothing_up() -> None:
    assert parse_state("TELEPORTING").is_alive
    assert parse_state("").is_alive
