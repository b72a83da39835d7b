"""What a trial survives on a cluster: the rows of the table in slurm/README.md, each by its test."""

from __future__ import annotations

import math
import signal
import time
from pathlib import Path

import pytest

from harness.runs.result import read_result
from harness.search.status import read_status
from harness.tracking.identity import identity_of_run
from tests.slurm.conftest import EVERY, NewStudy, OnSlurm, kill
from tests.support.slurm.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.long]
TAKE_ALL = ("-p", "high", "-N4", "--exclusive", "--output=/dev/null", "--wrap", "sleep 3")


def check_went_on(study: OnSlurm, *, left_at: int, exactly: bool, attempts: int = 2) -> None:
    """The same trial went on where it was: at the step at which it was asked to leave, or not an interval of checkpoints before it."""
    study.wait_for_attempt(attempts)
    result = study.result()
    assert (result.failures, len(list(study.directory.trials()))) == (0, 1), study.said()
    assert result.step >= (left_at if exactly else left_at - EVERY), study.said()


def test_the_time_limit(slurm: Cluster, new_study: NewStudy) -> None:
    """Slurm signals before the limit: the trial saves, and the element puts itself back into the queue; so does no other one."""
    study = new_study()
    array = study.submit(1, signal_lead_seconds=45)
    study.wait_for_step(2 * EVERY)
    started = next(queued.started for queued in slurm.slurm.queue([array]))
    assert started is not None
    # As if it had been submitted with so little time: limits are whole minutes.
    minutes = math.ceil((time.time() - started + 45) / 60)
    slurm.command("scontrol", "update", f"JobId={array}_0", f"TimeLimit={minutes}")
    # It comes up to a minute from now: so much may be between what it had to be and whole minutes.
    study.wait(lambda: study.result().reason == "stopped", "the signal", seconds=90)
    left = study.result()
    assert left.tokens.trained == left.tokens.position, "nothing is trained again"
    slurm.command("scontrol", "update", f"JobId={array}_0", "TimeLimit=30")
    check_went_on(study, left_at=left.step, exactly=True)
    assert [claim.place.restart for claim in study.trial().claims] == [0, 1]
    assert {claim.place.job for claim in study.trial().claims} == {f"{array}_0"}


def test_a_worker_that_leaves_by_itself(slurm: Cluster, new_study: NewStudy) -> None:
    """On a cluster that signals nothing that we know, it leaves when what remains of its job's time no longer holds a step and a save."""
    study = new_study()
    study.submit(1, time="2", sbatch_options=["--signal=B:URG@1"])
    study.wait(lambda: study.result().reason == "stopped", "the worker to leave", seconds=150)
    left = study.result()
    assert left.tokens.trained == left.tokens.position, "nothing is trained again"
    check_went_on(study, left_at=left.step, exactly=True)
    assert [claim.place.restart for claim in study.trial().claims] == [0, 1]
    assert "TIME LIMIT" not in study.said()


def wandb_logs(study: OnSlurm) -> list[Path]:
    return list(study.run().path.glob("wandb/*run-*/run-*.wandb"))


def test_preemption(slurm: Cluster, new_study: NewStudy) -> None:
    """The trial saves and goes on by its requeued element, as the same W&B run, at the same place in the budget."""
    study = new_study(base=("tracking=wandb",))
    study.submit(1)
    study.wait_for_step(2 * EVERY)
    slurm.submit(*TAKE_ALL)
    study.wait(lambda: study.result().reason == "stopped", "the worker to leave", seconds=60)
    left = study.result()
    assert left.tokens.trained == left.tokens.position, "nothing is trained again"
    check_went_on(study, left_at=left.step, exactly=True)
    assert [claim.place.restart for claim in study.trial().claims] == [0, 1]
    # The client starts beside the training, which may be some steps ahead of it.
    study.wait(lambda: len(wandb_logs(study)) == 2, "a log of the W&B run for each attempt")
    assert {log.name for log in wandb_logs(study)} == {f"run-{identity_of_run(study.run()).id}.wandb"}
    trials = read_status(study.directory).budget.trials
    assert trials.used + trials.reserved == 1


def test_scancel(slurm: Cluster, new_study: NewStudy) -> None:
    """The trial is saved; the element does not come back, and any other worker takes the trial up."""
    study = new_study()
    array = study.submit(1)
    study.wait_for_step(2 * EVERY)
    slurm.command("scancel", "--signal=CONT", f"{array}_0")
    study.wait_for_step(study.step() + EVERY)
    assert (study.result().state, study.result().attempts) == ("running", 1), "CONT means nothing"
    slurm.command("scancel", f"{array}_0")
    study.wait(lambda: not slurm.live_elements(), "the job to end")
    left = study.result()
    assert (left.state, left.reason, left.failures) == ("waiting", "stopped", 0), study.said()
    study.submit(1)
    check_went_on(study, left_at=left.step, exactly=True)


def test_a_node_that_fails(slurm: Cluster, new_study: NewStudy) -> None:
    """Another worker takes the trial over from its last periodic checkpoint; that counts as no failure of the trial."""
    study = new_study()
    study.submit(1)
    study.wait_for_step(2 * EVERY)
    other = study.submit(1)
    study.wait(lambda: len(study.worker_pids()) == 2, "the other worker")
    reached = study.step()
    slurm.fail(study.node())
    check_went_on(study, left_at=reached, exactly=False)
    assert study.trial().claims[-1].place.job in {f"{other}_0", study.trial().claims[0].place.job}


def test_a_worker_that_is_killed(slurm: Cluster, new_study: NewStudy) -> None:
    """Its attempt goes with it. That counts as a failure of the trial, although its job is requeued as after a preemption."""
    study = new_study()
    study.submit(1)
    study.wait_for_step(2 * EVERY)
    kill(study.worker_pids())
    study.wait(lambda: not study.processes(), "its processes to end")
    reached = study.step()
    study.wait_for_attempt(2)
    assert study.trial().claims[-1].place.restart == 1, "by the element itself, which its script has put back"
    result = study.result()
    # The kill may have come while the checkpoint of the step before was being written.
    assert (result.failures, result.step >= reached - EVERY) == (1, True), study.said()


def test_a_controller_that_crashes(slurm: Cluster, new_study: NewStudy) -> None:
    """Trials go on; a worker that finds one without its worker meanwhile leaves it alone until Slurm answers."""
    study = new_study(budget={"trials": 2})
    array = study.submit(2)
    study.wait_for_step(EVERY, 0)
    study.wait_for_step(EVERY, 1)
    # What a controller has not saved for some seconds it forgets: that it has started the jobs, too, where they start quickly.
    now = time.time()
    slurm.command("scontrol", "update", f"JobId={array}_0", "Comment=seen")
    study.wait(lambda: slurm.saved() > now, "the controller to save what it knows")
    slurm.stop_controller(signal.SIGKILL)
    before = study.step(1)
    study.wait_for_step(before + EVERY, 1)
    slurm.start()
    study.wait_for_step(study.step(0) + EVERY, 0)
    assert [read_result(run).attempts for run in study.directory.trials()] == [1, 1]
