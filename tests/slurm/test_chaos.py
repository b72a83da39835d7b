"""A study on a cluster in which everything happens at once, at random from a seed; and what it comes to in the end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
import torch

from harness.launch.slurm.job_elements import QueuedElement
from harness.launch.slurm.reasons import reason_of
from harness.models.checkpoint_files import checkpoints
from harness.runs.directory import RunDirectory
from harness.runs.submitted_jobs import read_jobs
from harness.search.status import read_status
from tests.search.studies import check_in_step
from tests.slurm.conftest import NewStudy, OnSlurm, attempts_of, kill
from tests.support.slurm.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1500)]

SEED = 5
WORKERS = 4
TRIALS = 24
STEPS = 150
EVERY = 15
BASE = (f"trainer.max_steps={STEPS}", f"trainer.checkpoint_every_steps={EVERY}", "trainer.log_every_steps=1")
ROUNDS = 2
"""How often each kind of thing happens."""


@dataclass
class Chaos:
    """What happens to a study."""

    cluster: Cluster
    study: OnSlurm
    chance: random.Random
    happened: list[str] = field(default_factory=list)

    def running(self) -> list[QueuedElement]:
        jobs = {job.job for job in read_jobs(self.study.directory)}
        return [queued for queued in self.cluster.slurm.queue(jobs) if queued.state.name == "RUNNING"]

    def fill_up(self) -> None:
        """As somebody would who looks at `harness status` now and then: what is held is released, what is missing submitted."""
        jobs = {job.job for job in read_jobs(self.study.directory)}
        present = [queued for queued in self.cluster.slurm.queue(jobs) if queued.state.is_alive]
        for queued in present:
            reason = reason_of(queued)
            if reason is not None and reason.never:
                self.cluster.command("scontrol", "release", str(queued.element), check=False)
        missing = WORKERS - len(present)
        if missing > 0:
            self.study.submit(missing, cpus_per_task=2)

    # One thing each. They need not hit anything: an element may have left just before.

    def node_fails(self) -> None:
        node = self.chance.choice(self.cluster.nodes)
        self.cluster.fail(node)
        time.sleep(1.0)
        # Slurm may have taken it for mended by itself.
        self.cluster.command("scontrol", "update", f"nodename={node}", "state=resume", check=False)

    def preemption(self) -> None:
        self.cluster.submit("-p", "high", "-N2", "--exclusive", "--output=/dev/null", "--wrap", "sleep 2")

    def cancelled(self) -> None:
        for queued in self.running()[:1]:
            self.cluster.command("scancel", str(queued.element), check=False)

    def requeued(self) -> None:
        for queued in self.running()[-1:]:
            self.cluster.command("scontrol", "requeue", str(queued.element), check=False)

    def worker_killed(self) -> None:
        kill(self.study.worker_pids()[:1])

    def attempt_killed(self) -> None:
        kill(attempts_of(self.study)[:1])

    def controller_crashes(self) -> None:
        self.cluster.stop_controller(signal.SIGKILL)
        time.sleep(2.0)
        self.cluster.start()

    def let_loose(self) -> None:
        things: list[Callable[[], None]] = ROUNDS * [
            self.node_fails,
            self.preemption,
            self.cancelled,
            self.requeued,
            self.worker_killed,
            self.attempt_killed,
            self.controller_crashes,
        ]
        self.chance.shuffle(things)
        for thing in things:
            # Where trials are under way; a thing that hits nobody teaches nothing.
            self.study.wait(lambda: self.is_over() or attempts_of(self.study), "a trial to be under way")
            time.sleep(self.chance.uniform(0.2, 1.5))
            if self.is_over():
                break
            thing()
            self.happened.append(thing.__name__)
            self.fill_up()

    def is_over(self) -> bool:
        return read_status(self.study.directory).is_finished


def weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    step, path = checkpoints(run.checkpoints).popitem()
    assert step == STEPS
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state


def test_a_study_in_chaos_ends_as_an_undisturbed_one(slurm: Cluster, new_study: NewStudy) -> None:
    step_tokens = 4 * 32
    budget = {"trials": TRIALS, "tokens": 2 * TRIALS * STEPS * step_tokens}
    search = {"name": "random", "max_attempts": 10}
    study = new_study("chaos", base=BASE, budget=budget, search=search, launcher={"workers": WORKERS})
    chaos = Chaos(slurm, study, random.Random(SEED))
    chaos.fill_up()
    chaos.let_loose()

    def finished() -> bool:
        with suppress(AssertionError):
            slurm.mend_all()
            chaos.fill_up()
        time.sleep(1.0)
        return chaos.is_over()

    study.wait(finished, "all trials to end", seconds=900)
    study.wait(lambda: not study.processes(), "every process to end")
    # A job whose start was lost with the controller is taken for running by Slurm for as long as it lets a node be: nothing of it is there.
    slurm.end_jobs()
    print(", ".join(chaos.happened))

    record = check_in_step(study.directory, ended=True)
    assert [run.state for run in record.runs] == ["complete"] * TRIALS, study.said()
    status = read_status(study.directory)
    assert status.budget.tokens.used <= budget["tokens"]
    assert status.budget.tokens.reserved == 0
    # Once more: a job that was submitted last may have begun since, and was cancelled.
    study.wait(lambda: not study.processes(), "every process to end")

    calm = new_study("calm", base=BASE, budget=budget, search=search, launcher={"workers": 1})
    command = [sys.executable, "-m", "harness", "worker", str(calm.directory.path)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=900)
    for disturbed, undisturbed in zip(study.directory.trials(), calm.directory.trials(), strict=True):
        one, other = weights(disturbed), weights(undisturbed)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one), f"trial {disturbed.path.name} has other weights"

    trained = sum(run.result.tokens.trained for run in record.runs)
    planned = sum(run.result.tokens.budgeted for run in record.runs)
    attempts = sum(run.result.attempts for run in record.runs)
    print(f"{attempts - TRIALS} attempts were cut off; {(trained - planned) / step_tokens:.0f} steps booked twice of {TRIALS * STEPS}")
    assert trained - planned <= (attempts - TRIALS) * (EVERY + 1) * step_tokens, "at most one checkpoint interval is trained again"
