"""Slurm's commands on a real cluster: what they answer, and what comes of a controller that does not."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from harness.config.errors import InputError
from harness.launch.slurm.commands import Slurm, SlurmRefusedError, SlurmUnavailableError, slurm_environment
from harness.launch.slurm.job_elements import JobElement
from tests.support.slurm.cluster import Cluster, wait_for


def batch(folder: Path, *options: str, command: str = "sleep 600", name: str = "a job.sh") -> Path:
    path = folder / name
    path.write_text("\n".join(["#!/bin/bash", *(f"#SBATCH {option}" for option in ("--output=/dev/null", *options)), command, ""]))
    return path


@pytest.mark.slow
def test_an_array_from_its_submission_to_its_end(slurm: Cluster, tmp_path: Path) -> None:
    commands = slurm.slurm
    script = batch(tmp_path, "--array=0-3%2", "--gres=gpu:1", "--time=5")
    array = commands.submit(script)
    wait_for(lambda: sum(queued.state.name == "RUNNING" for queued in commands.queue([array.job])) == 2, "two elements to run")
    queue = {queued.element: queued for queued in commands.queue([array.job])}
    assert sorted(queue) == [JobElement(array.job, task) for task in range(4)]
    running, waiting = queue[JobElement(array.job, 0)], queue[JobElement(array.job, 3)]
    assert (running.state.phase, running.reason, running.gpus, running.script) == ("running", None, 1, str(script))
    assert running.nodes in slurm.nodes
    assert running.started is not None
    assert running.ends == running.started + 5 * 60
    assert abs(running.started - time.time()) < 60
    assert (waiting.state.phase, waiting.reason, waiting.nodes, waiting.restarts) == ("waiting", "JobArrayTaskLimit", "", 0)
    assert waiting.submitted == running.submitted

    commands.requeue(JobElement(array.job, 1))
    commands.cancel([JobElement(array.job, 0)])
    wait_for(lambda: {q.element.task: q for q in commands.queue([array.job])}[1].restarts == 1, "the requeue to be counted")
    wait_for(lambda: [q.element.task for q in commands.queue([array.job]) if not q.state.is_alive] == [0], "the cancelled element to end")
    commands.cancel([array])
    commands.cancel([array])  # of a job that has ended: no complaint

    def ended() -> bool:
        accounted = commands.accounting([array.job])
        assert accounted is not None
        return {a.element.task for a in accounted if not a.state.is_alive} == {0, 1, 2, 3}

    wait_for(ended, "accounting to catch up")
    accounted = commands.accounting([array.job])
    assert accounted is not None
    first = next(a for a in accounted if a.element.task == 0)
    assert str(first.state) == f"CANCELLED by {os.getuid()}"
    assert any(a.element.task == 1 and a.state.name == "REQUEUED" for a in accounted), "the allocation before the requeue"


def test_jobs_that_slurm_does_not_know_are_left_out(slurm: Cluster) -> None:
    assert slurm.slurm.queue([999_999]) == []
    assert slurm.slurm.queue([999_998, 999_999]) == []
    assert slurm.slurm.queue([]) == []
    assert slurm.slurm.accounting([999_999]) == []


@pytest.mark.parametrize(
    "kept", [range(1, 1000, 2), [task for task in range(1000) if task % 7 in (1, 2, 5)], [999]], ids=["step", "list", "last"]
)
def test_all_that_waits_of_a_large_array_is_seen(slurm: Cluster, tmp_path: Path, kept: list[int]) -> None:
    array = slurm.slurm.submit(batch(tmp_path, "--array=0-999", "--hold"))
    slurm.slurm.cancel([JobElement(array.job, task) for task in range(1000) if task not in kept])
    waiting = [queued.element.task for queued in slurm.slurm.queue([array.job]) if queued.state.is_alive]
    assert sorted(task for task in waiting if task is not None) == list(kept)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--partition=nowhere", "invalid partition specified: nowhere"),
        ("--gres=gpu:99", "Requested node configuration is not available"),
        ("--gres=gpx:1", "Invalid generic resource (gres) specification"),
        ("--time=soon", "Invalid --time specification"),
        ("--mem=9T", "Memory specification can not be satisfied"),
        ("--constraint=h1000", "Invalid feature specification"),
        ("--array=0-99999", "Invalid job array specification"),
        ("--no-such-option", "unrecognized option"),
    ],
)
def test_what_the_cluster_refuses_is_said_in_its_own_words(slurm: Cluster, tmp_path: Path, option: str, words: str) -> None:
    with pytest.raises(SlurmRefusedError) as caught:
        slurm.slurm.submit(batch(tmp_path, option))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, InputError)
    assert slurm.live_elements() == []


@pytest.mark.slow
def test_a_call_outlives_a_controller_that_restarts(slurm: Cluster, tmp_path: Path) -> None:
    running = slurm.slurm.submit(batch(tmp_path, name="one.sh"))
    wait_for(lambda: [q.state.name for q in slurm.slurm.queue([running.job])] == ["RUNNING"], "the job to run")
    slurm.stop_controller(signal.SIGTERM)  # a crash loses what it has not saved for some seconds
    begun = time.monotonic()
    with pytest.raises(SlurmUnavailableError, match=r"squeue: Slurm does not answer: .+ \(tried for 1 s\)"):
        Slurm(timeout_seconds=4, patience_seconds=1).queue([running.job])
    assert time.monotonic() - begun < 8
    back = threading.Timer(1.0, slurm.start)
    back.start()
    other = Slurm(timeout_seconds=30, patience_seconds=60).submit(batch(tmp_path, name="two.sh"))
    back.join()
    assert {q.element for q in slurm.slurm.queue([running.job, other.job]) if q.state.is_alive} == {running, other}


@pytest.mark.slow
def test_a_submission_that_was_taken_without_an_answer_is_not_made_twice(slurm: Cluster, tmp_path: Path) -> None:
    pid = int((slurm.folder / "run" / "slurmctld.pid").read_text())
    script = batch(tmp_path, "--array=0-2", "--hold")
    os.kill(pid, signal.SIGSTOP)
    threading.Timer(4.0, os.kill, (pid, signal.SIGCONT)).start()
    # sbatch gives up while the controller has its request waiting.
    array = Slurm(timeout_seconds=2, patience_seconds=60).submit(script)
    time.sleep(2.0)
    assert sorted(slurm.live_elements()) == [f"{array.job}_{task}" for task in range(3)]


def test_commands_get_none_of_a_jobs_variables_but_those_that_say_where_slurm_is() -> None:
    inside = {
        "SLURM_CONF": "/etc/slurm.conf",
        "SLURM_JOB_ID": "7",
        "SLURM_NTASKS": "4",
        "SBATCH_PARTITION": "x",
        "HOME": "/h",
        "LC_ALL": "de",
    }
    kept = slurm_environment(inside)
    assert kept["SLURM_CONF"] == "/etc/slurm.conf"
    assert kept["HOME"] == "/h"
    assert kept["LC_ALL"] == "C"
    assert not {"SLURM_JOB_ID", "SLURM_NTASKS", "SBATCH_PARTITION"} & set(kept)


def test_without_slurm_one_message_says_where_it_would_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"sbatch: not on this machine's search path; launcher=slurm needs .* login node"):
        Slurm().submit(batch(tmp_path))
