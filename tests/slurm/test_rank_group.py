"""Trials of several ranks under a real srun: two nodes, two tasks each."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from harness.runs.directory import RunDirectory
from harness.runs.result import read_result
from harness.runs.submitted_jobs import read_jobs
from tests.slurm.conftest import EVERY, NewStudy, attempts_of
from tests.support.command import run_harness
from tests.support.slurm.cluster import Cluster, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.long]
FOUR = ("trainer.nodes=2", "trainer.devices=2", "trainer.micro_batch_size=1")
# Virtual nodes have no addresses of their own.
PROFILE = {"environment": {"MASTER_ADDR": "127.0.0.1"}}


def test_every_rank_trains_the_same_trial_and_a_dead_one_ends_the_attempt_alone(slurm: Cluster, new_study: NewStudy) -> None:
    study = new_study(base=FOUR)
    array = study.submit(1, **PROFILE)
    study.wait_for_step(EVERY)
    ranks = attempts_of(study)
    assert len(ranks) == 4, study.said()
    assert {queued.nodes for queued in slurm.slurm.queue([array])} == {"node[1-2]"}

    os.kill(max(ranks), signal.SIGKILL)
    study.wait_for_attempt(2)
    result = study.result()
    assert (result.failures, len(study.trial().claims)) == (1, 2)
    assert "was killed by signal 9" in study.said() or "killed by SIGKILL" in study.said()
    assert {claim.place.job for claim in study.trial().claims} == {f"{array}_0"}
    assert [claim.place.restart for claim in study.trial().claims] == [0, 0], "the worker stays, only the attempt has ended"

    study.directory.stop_request.touch()
    study.wait(lambda: not slurm.live_elements(), "the job to end")
    assert (study.result().state, study.result().reason) == ("waiting", "stopped"), study.said()
    # A fork server takes its time to end, and Slurm may have lost sight of it with the worker that it belonged to.
    study.wait(lambda: not study.processes(), "every process to end")


def test_a_single_run_of_two_nodes(slurm: Cluster, tiny: list[str], tmp_path: Path) -> None:
    """`harness train` by a profile of several nodes: srun starts four ranks, and they train what one process does."""
    # What the profile asks for is a real node's; the four virtual ones share this machine.
    smaller = ["exclusive=false", "cpus_per_task=1", "memory=500M", "gpus_per_node=0", "time='00:30:00'", "signal_lead_seconds=60"]
    keys = [f"launcher.{key}" for key in [*smaller, "environment={MASTER_ADDR: 127.0.0.1}"]]
    profile = ["launcher=slurm_multinode", *keys]
    submitted = run_harness("train", *tiny, *FOUR, *profile, "--dir", "four", cwd=tmp_path, cold=True)
    assert submitted.rc == 0, submitted
    run = RunDirectory(tmp_path / "four")
    (job,) = read_jobs(run)
    wait_for(lambda: not slurm.live_elements(), "the job to end", seconds=240)
    # Not while it runs: of a job that is completing, squeue shows what it has not given back yet.
    shown = slurm.command("squeue", "-h", "-t", "all", "-j", str(job.job), "-o", "%D %C %N")
    assert shown.split() == ["2", "4", "node[1-2]"], shown
    result = read_result(run)
    log = (run.path / "slurm" / f"{job.job}.log").read_text()
    assert (result.state, result.step) == ("complete", 4), log

    alone = run_harness("train", *tiny, "trainer.micro_batch_size=1", "--dir", "one", cwd=tmp_path, cold=True)
    assert alone.rc == 0, alone
    one = read_result(RunDirectory(tmp_path / "one"))
    assert result.metrics["val/domain/loss"] == pytest.approx(one.metrics["val/domain/loss"], rel=1e-5)
    assert result.tokens.trained == one.tokens.trained
