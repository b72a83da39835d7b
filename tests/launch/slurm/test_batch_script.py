"""The batch script on a real cluster, around a small program in the worker's place that says what became of it."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
from pathlib import Path

import pytest

from harness.config.launcher_schema import LauncherConfig
from harness.config.locations import shipped
from harness.config.schema import TrainerConfig
from harness.launch.slurm import submission
from harness.launch.slurm.job_elements import JobElement
from harness.launch.slurm.script import TEMPLATE, BatchJob, Shape
from harness.runs.directory import StudyDirectory
from harness.runs.submitted_jobs import SubmittedJob, read_jobs
from tests.support.slurm.cluster import Cluster, wait_for

PROGRAM = """#!/bin/bash
# Stands for the worker: says each start, with its process id, and leaves as the first argument asks when it is told to.
trap 'echo "$ME told" >> "$SAID"; exit 75' USR2
trap 'echo "$ME asked" >> "$SAID"; exit 75' TERM
ME=${SLURM_ARRAY_TASK_ID:-0}
SAID=$(dirname "$0")/said
echo "$ME start $((${SLURM_RESTART_COUNT:-0} + 1)) pid $$ threads $OMP_NUM_THREADS gpu ${CUDA_VISIBLE_DEVICES:-none} $SLURM_CONF" >> "$SAID"
[ "$1" != end ] || exit "$2"
while :; do sleep 0.2; done
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a name that shells and Slurm may stumble over, and a template that waits less."""
    place = tmp_path / """it's "100%" mine"""
    (place / "slurm").mkdir(parents=True)
    text = (shipped("slurm") / TEMPLATE).read_text()
    assert "sleep {{ grace_seconds }}" in text
    (place / "slurm" / TEMPLATE).write_text(text.replace("sleep {{ grace_seconds }}", "sleep 8"))
    program = place / "python"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    monkeypatch.chdir(place)
    monkeypatch.setenv("HARNESS_RUNS", str(place / "runs"))
    return place


def launch(place: Path, *arguments: str, tasks: int = 2, **keys: object) -> tuple[SubmittedJob, StudyDirectory]:
    study = StudyDirectory(place / "runs" / "a study")
    launcher = LauncherConfig(name="slurm", python=str(place / "python"), **keys)  # type: ignore[arg-type]
    job = submission.worker_job(study, launcher, TrainerConfig(accelerator="cpu"), count=tasks)
    return submission.submit(study, dataclasses.replace(job, arguments=list(arguments)), launcher, purpose="workers"), study


def said(place: Path) -> list[str]:
    path = place / "said"
    return path.read_text().splitlines() if path.exists() else []


def starts(place: Path, task: int) -> list[str]:
    return [line for line in said(place) if line.startswith(f"{task} start")]


@pytest.mark.slow
def test_at_the_time_limit_an_element_puts_itself_alone_back_into_the_queue(slurm: Cluster, place: Path) -> None:
    """The first element of an array has the array's own id: requeueing that id would put back the others, too."""
    submitted, study = launch(place, "work", cpus_per_task=2, gpus_per_node=1, time="00:10:00")
    assert read_jobs(study) == [submitted]
    wait_for(lambda: starts(place, 0) and starts(place, 1), "both to start")
    (first,) = starts(place, 0)
    assert re.search(rf" threads 2 gpu [01] {slurm.config}$", first), first
    # What Slurm does at the time limit, by --signal=B:USR2@180, comes within the minute; a test needs not wait for it.
    (queued,) = [q for q in submission.alive_workers(study) if q.element == JobElement(submitted.job, 0)]
    slurm.command("scancel", "--signal=USR2", "--batch", str(queued.element))
    wait_for(lambda: len(starts(place, 0)) == 2, "the element to start again")
    assert "0 told" in said(place)
    assert "0 start 2" in starts(place, 0)[1]
    assert len(starts(place, 1)) == 1
    assert "1 told" not in said(place)
    log = (study.workers / "slurm" / f"{submitted.job}_0.log").read_text()
    assert "start 1" in log
    assert "goes back into the queue" in log
    assert "start 2" in log, "the log of the first start was kept"


@pytest.mark.slow
def test_what_ends_by_itself_ends_and_what_is_killed_goes_on(slurm: Cluster, place: Path) -> None:
    ended, study = launch(place, "end", "0", tasks=1)
    wait_for(lambda: starts(place, 0), "the first to start")
    wait_for(lambda: not submission.alive_workers(study), "it to end")
    refused, _ = launch(place, "end", "2", tasks=1)
    wait_for(lambda: len(starts(place, 0)) == 2, "the second to start")
    wait_for(lambda: not submission.alive_workers(study), "it to end")
    states = {q.element.job: q.state.name for q in slurm.slurm.queue([ended.job, refused.job])}
    assert states == {ended.job: "COMPLETED", refused.job: "FAILED"}

    launch(place, "work", tasks=1)
    wait_for(lambda: len(starts(place, 0)) == 3, "the third to start")
    os.kill(int(starts(place, 0)[-1].split("pid ")[1].split()[0]), signal.SIGKILL)
    wait_for(lambda: len(starts(place, 0)) == 4, "it to start again")
    assert "start 2" in starts(place, 0)[-1]


@pytest.mark.slow
def test_who_cancels_a_job_ends_it(slurm: Cluster, place: Path) -> None:
    submitted, study = launch(place, "work", tasks=1)
    wait_for(lambda: starts(place, 0), "it to start")
    slurm.command("scancel", f"{submitted.job}_0")
    wait_for(lambda: not submission.alive_workers(study), "it to end")
    assert "0 asked" in said(place), "it could save a checkpoint"
    assert len(starts(place, 0)) == 1
    assert [q.state.name for q in slurm.slurm.queue([submitted.job])] == ["CANCELLED"]


@pytest.mark.slow
def test_a_preempted_job_is_told_and_comes_back(slurm: Cluster, place: Path, tmp_path: Path) -> None:
    """The cluster gives no more than the grace period of its partition; the whole of it is asked for by another job."""
    launch(place, "work", tasks=1, sbatch_options=["--nodelist=node1"])
    wait_for(lambda: starts(place, 0), "it to start")
    urgent = slurm.submit("--partition=high", "--nodelist=node1", "--exclusive", "--output=/dev/null", "--wrap=sleep 3")
    wait_for(lambda: len(starts(place, 0)) == 2, "it to come back", seconds=90)
    assert {"0 told", "0 asked"} & set(said(place)), "it could save a checkpoint"
    assert not [q for q in slurm.slurm.queue([urgent]) if q.state.is_alive]


def test_what_the_cluster_refuses_leaves_nothing(slurm: Cluster, place: Path) -> None:
    study = StudyDirectory(place / "runs" / "a study")
    launcher = LauncherConfig(name="slurm", partition="nowhere")
    job = submission.worker_job(study, launcher, TrainerConfig(accelerator="cpu"), count=2)
    with pytest.raises(submission.SlurmRefusedError, match=r"refuses the job: .*nowhere(.|\n)*asked for: --partition=nowhere --nodes=1"):
        submission.check_accepted(job, launcher)
    assert not study.path.exists()
    with pytest.raises(submission.SlurmRefusedError, match="nowhere"):
        submission.submit(study, job, launcher, purpose="workers")
    assert not read_jobs(study)
    assert not list(study.path.rglob("*.sbatch"))


def test_jobs_of_every_shape_are_accepted(slurm: Cluster, place: Path) -> None:
    shapes = [
        Shape(nodes=2, tasks_per_node=2, ranks_per_task=1, gpus_per_node=2),
        Shape(nodes=1, tasks_per_node=1, ranks_per_task=2, gpus_per_node=2),
    ]
    launcher = LauncherConfig(name="slurm", account="anybody", partition="low,high", time="0-01:00:00", memory="2G", max_running=1)
    study = StudyDirectory(place / "runs" / "a study")
    job: BatchJob = submission.worker_job(study, launcher, TrainerConfig(), count=3)
    for shape in shapes:
        submission.check_accepted(dataclasses.replace(job, shape=shape), launcher)
    assert not slurm.live_elements()
