"""What became of one life of a job, by the state that it is in now or that accounting has."""

from __future__ import annotations

import pytest

from harness.launch.slurm.job_elements import Accounted, JobElement, QueuedElement
from harness.launch.slurm.job_outcomes import _accounted_outcome, outcome_of
from harness.launch.slurm.reasons import reason_of
from harness.launch.slurm.states import parse_state
from harness.launch.slurm.this_job import this_job
from harness.runs.place import Place

ELEMENT = JobElement(7, 3)


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ("PENDING", "alive"),
        ("RUNNING", "alive"),
        ("COMPLETING", "alive"),
        ("SUSPENDED", "alive"),
        ("REQUEUED", "alive"),
        ("CANCELLED by 1000", "interrupted"),
        ("NODE_FAIL", "interrupted"),
        ("PREEMPTED", "interrupted"),
        ("TIMEOUT", "interrupted"),
        ("OUT_OF_MEMORY", "out_of_memory"),
        ("FAILED", "ended"),
        ("COMPLETED", "ended"),
        ("A STATE TO COME", "alive"),
    ],
)
def test_the_state_of_the_job_says_what_became_of_its_work(state: str, outcome: str) -> None:
    assert outcome_of(parse_state(state), past=False) == outcome
    assert outcome_of(parse_state(state), past=True) == "interrupted", "it has been put back into the queue since"


def life(state: str, started: float) -> Accounted:
    return Accounted(ELEMENT, parse_state(state), started)


def test_accounting_has_a_row_for_every_life() -> None:
    lives = [life("FAILED", 20.0), life("NODE_FAIL", 10.0)]
    assert _accounted_outcome(ELEMENT, 0, lives) == "interrupted"
    assert _accounted_outcome(ELEMENT, 1, lives) == "ended"
    assert _accounted_outcome(ELEMENT, 2, lives) == "ended", "it lags, or there is none"
    assert _accounted_outcome(JobElement(7, 4), 0, lives) == "ended"


def waiting(reason: str | None) -> QueuedElement:
    return QueuedElement(ELEMENT, parse_state("PENDING"), reason, "", 0, None, None, None, "low", "cpu=1", "x")


@pytest.mark.parametrize(
    ("reason", "never"),
    [
        ("Resources", False),
        ("Priority", False),
        ("BeginTime", False),
        ("PartitionConfig", True),
        ("PartitionTimeLimit", True),
        ("JobHeldUser", True),
        ("launch failed requeued held", True),
        ("QOSMaxJobsPerUserLimit", False),
        ("QOSMaxGRESPerJobLimit", True),
        ("Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions", False),
        ("A reason to come", False),
    ],
)
def test_whether_waiting_can_help(reason: str, never: bool) -> None:
    found = reason_of(waiting(reason))
    assert found is not None
    assert (found.word, found.never) == (reason, never)
    assert found.text


def test_a_job_without_a_reason_has_none() -> None:
    assert reason_of(waiting(None)) is None


def test_the_job_that_a_process_is_part_of() -> None:
    array = {
        "SLURM_JOB_ID": "9",
        "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_RESTART_COUNT": "2",
        "SLURMD_NODENAME": "node4",
        "SLURM_CPUS_PER_TASK": "8",
        "SLURM_JOB_END_TIME": "1700000000",
    }
    job = this_job(array)
    assert job is not None
    assert (job.place, job.cpus, job.ends) == (Place(node="node4", job="7_3", restart=2), 8, 1.7e9)
    single = this_job({"SLURM_JOB_ID": "9", "SLURMD_NODENAME": "node4", "SLURM_JOB_END_TIME": "1700000000"})
    assert single is not None
    assert single.place == Place(node="node4", job="9"), "Slurm sets the count at the first restart only"
    assert this_job({}) is None
