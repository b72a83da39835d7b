"""Workers of two job arrays and of a machine outside the cluster, at once, on one study in PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.runs.result import read_result
from harness.search.status import read_status
from tests.search.studies import check_in_step
from tests.slurm.conftest import EVERY, NewStudy
from tests.support.command import run_harness
from tests.support.slurm.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.long]


def test_two_arrays_and_a_laptop_share_a_study(slurm: Cluster, postgresql: str, new_study: NewStudy, tmp_path: Path) -> None:
    study = new_study(storage=postgresql, budget={"trials": 3})
    arrays = [study.submit(1), study.submit(1, partition="high")]
    study.wait(lambda: len(study.worker_pids()) == 2, "the workers of both arrays")
    laptop = run_harness("workers", "study", "launcher=local", "--add", "1", cwd=tmp_path, cold=True)
    assert "1 worker started on this machine, beside 2" in laptop.stdout, laptop
    for number in range(3):
        study.wait_for_step(EVERY, number)
    jobs = {study.trial(number).claims[-1].place.job for number in range(3)}
    assert jobs == {None, *(f"{array}_0" for array in arrays)}
    assert {read_result(run).state for run in study.directory.trials()} == {"running"}, "all at once"
    assert read_status(study.directory).budget.trials.used + read_status(study.directory).budget.trials.reserved == 3

    stopped = run_harness("stop", "study", cwd=tmp_path)
    assert stopped.rc == 0, stopped
    study.wait(lambda: not study.processes(), "all to leave")
    assert slurm.live_elements() == []
    assert [(read_result(run).state, read_result(run).failures) for run in study.directory.trials()] == [("waiting", 0)] * 3
    check_in_step(study.directory)
