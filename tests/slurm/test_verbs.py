"""What somebody at a login node sees and does: status, logs, stop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.slurm.conftest import EVERY, NewStudy
from tests.support.command import call_harness
from tests.support.slurm.cluster import Cluster

pytestmark = pytest.mark.slow


def test_status_logs_and_stop(slurm: Cluster, new_study: NewStudy, tmp_path: Path) -> None:
    """A job that runs, and one that asks for more than there is, which Slurm accepts all the same; then all of it is stopped."""
    study = new_study()
    array = study.submit(1)
    impossible = study.submit(2, sbatch_options=["--nodes=10"])
    study.wait_for_step(EVERY)

    said = json.loads(call_harness("status", "study", "--json", cwd=tmp_path).stdout)
    trial = said["trials"][0]
    assert (trial["job"], trial["node"], trial["restarts"]) == (f"{array}_0", "node1", 0)
    assert said["workers"][0]["job"] == f"{array}_0"
    assert {job["job"]: (job["state"], job["starts"]) for job in said["jobs"]} == {
        f"{array}_0": ("RUNNING", True),
        **{f"{impossible}_{task}": ("PENDING", False) for task in range(2)},
    }
    # By which of Slurm's checks it fails depends on which one comes first.
    assert {job["reason"] for job in said["jobs"]} <= {None, "PartitionConfig", "PartitionNodeLimit"}
    assert said["gpu_hours"]["used"] > 0
    assert said["estimated_end"] is None, "no trial has ended yet"

    shown = call_harness("status", "study", cwd=tmp_path).stdout
    assert f"{array}_0 node1" in shown
    assert "jobs: 1 running, 2 waiting" in shown
    assert f"{impossible}_[0-1] will not start: asks for more nodes" in shown

    logs = call_harness("logs", "study", "0", cwd=tmp_path).stdout
    assert str(study.run().log) in logs
    assert f"its worker, job {array}_0, on node1 (restart 0)" in logs
    assert "trial 0 starts" in logs
    assert call_harness("logs", "study", "7", cwd=tmp_path).rc == 2
    assert "trial 0 starts" in call_harness("logs", "study", "--lines", "3", cwd=tmp_path).stdout

    stopped = call_harness("stop", "study", cwd=tmp_path)
    assert stopped.rc == 0, stopped
    assert "2 waiting jobs cancelled" in stopped.stderr
    assert slurm.live_elements() == []
    result = study.result()
    assert (result.state, result.reason, result.failures) == ("waiting", "stopped", 0)
    # A fork server takes its time to end, and Slurm may have lost sight of it with the worker that it belonged to.
    study.wait(lambda: not study.processes(), "every process to end")
