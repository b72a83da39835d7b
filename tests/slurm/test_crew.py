"""Trials of several ranks under a real srun: two nodes, two tasks each."""

from __future__ import annotations

import os
import signal

import pytest

from tests.slurm.conftest import EVERY, NewStudy, attempts_of
from tests.support.slurm.cluster import Cluster

pytestmark = pytest.mark.slow
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
    assert (result.failures, len(study.trial().visits)) == (1, 2)
    assert "was killed by signal 9" in study.said() or "killed by SIGKILL" in study.said()
    assert {visit.place.job for visit in study.trial().visits} == {f"{array}_0"}
    assert [visit.place.restart for visit in study.trial().visits] == [0, 0], "the worker stays, only the attempt has ended"

    study.directory.stop_request.touch()
    study.wait(lambda: not slurm.live_elements(), "the job to end")
    assert (study.result().state, study.result().reason) == ("waiting", "stopped"), study.said()
    assert study.processes() == []
