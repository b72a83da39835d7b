"""Seconds from `harness sweep` to the first training step, on a Slurm cluster and on this machine, and what 1,000 workers cost to submit.

    python -m benchmarks.slurm_launch [--repeats 3] [--workers 1000]

A real Slurm cluster on this machine, as the tests use it: four virtual nodes, nothing else in the queue. The sweep is of a tiny model, so
that what is measured is the way to its first step: the command itself (checks, tokenization, submission), the queue, the worker's start.
The first launch tokenizes; the others find the text in the cache.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.workload import harness, require, timed
from harness.config.launcher_schema import LauncherConfig
from harness.config.schema import TrainerConfig
from harness.launch.slurm import submission
from harness.launch.slurm.job_elements import JobElement
from harness.runs.directory import StudyDirectory
from harness.runs.submitted_jobs import read_jobs
from tests.support import corpus
from tests.support.slurm import cluster as slurm_cluster

SLURM = ["launcher=slurm", "launcher.gpus_per_node=0"]
LONG = ["trainer.max_steps=1000000", "trainer.checkpoint_every_steps=1000"]
POLL_SECONDS = 0.02
TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class Launch:
    """One launch, in seconds from the moment at which the command was typed."""

    returned: float
    started: float
    """When the job began to run; of local workers the same as returned."""
    first_step: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1000)
    arguments = parser.parse_args()
    require(shutil.which("slurmctld") is not None, "Slurm: the packages that .ci/run installs")
    with tempfile.TemporaryDirectory() as folder, closing(slurm_cluster.serve()) as served:
        cluster = next(served)
        os.environ.update(cluster.environment, HARNESS_RUNS=f"{folder}/runs", HARNESS_CACHE=f"{folder}/cache", OMP_NUM_THREADS="1")
        os.chdir(folder)
        _print_submission(arguments.workers)
        cluster.end_jobs()
        _print_launches(Path(folder), arguments.repeats)
        print(f"load {os.getloadavg()[0]:.1f}", file=sys.stderr)


def _print_launches(folder: Path, repeats: int) -> None:
    document = {
        "base": [*corpus.tiny_text(folder).overrides, *LONG],
        "objective": {"metric": "val/domain/loss"},
        "space": {"optim.lr": {"low": 1e-4, "high": 1e-1, "log": True}},
        "search": "random",
        "budget": {"trials": 4},
    }
    (folder / "question.yaml").write_text(json.dumps(document))
    print("\n| launcher | text | command returns | job runs | first training step |\n|---|---|---|---|---|")
    launches: dict[tuple[str, str], list[Launch]] = {}
    for repeat in range(repeats + 1):
        for launcher, overrides in (("slurm", SLURM), ("local", ["launcher=local", "--detach"])):
            if repeat == 0 and launcher == "local":
                continue  # the text is in the cache by now
            text = "tokenized" if repeat == 0 else "cached"
            launches.setdefault((launcher, text), []).append(_launch(f"{launcher}{repeat}", overrides))
    for (launcher, text), found in launches.items():
        cells = [statistics.median(getattr(launch, name) for launch in found) for name in ("returned", "started", "first_step")]
        print(f"| {launcher} | {text} | {cells[0]:.2f} | {cells[1]:.2f} | {cells[2]:.2f} |")


def _launch(name: str, overrides: list[str]) -> Launch:
    study = StudyDirectory(Path("runs") / name)
    command = harness("sweep", "./question.yaml", "--name", name, "--workers", "1", *overrides)
    wall, began = time.time(), time.monotonic()
    timed(command)
    returned = time.monotonic() - began
    _wait(lambda: any("train/loss" in run.metrics.path.read_text() for run in study.trials() if run.metrics.path.exists()))
    first_step = time.monotonic() - began
    started = returned
    if read_jobs(study):
        (queued,) = submission.alive_workers(study)
        assert queued.started is not None, "it runs"
        started = queued.started - wall  # Slurm tells whole seconds
    timed(harness("stop", name))
    return Launch(returned, started, first_step)


def _print_submission(workers: int) -> None:
    study = StudyDirectory(Path("runs") / "many")
    launcher = LauncherConfig(name="slurm", sbatch_options=["--hold"])
    job = submission.worker_job(study, launcher, TrainerConfig(accelerator="cpu"), count=workers)
    seconds = {"submit (written, sbatch, recorded)": _timed(lambda: submission.submit(study, job, launcher, purpose="workers"))}
    seconds["look at all of them (squeue)"] = _timed(lambda: submission.alive_workers(study))
    assert len(submission.alive_workers(study)) == workers
    (submitted,) = read_jobs(study)
    some = [JobElement(submitted.job, task) for task in range(0, workers, 2)]
    seconds["cancel every other one (scancel)"] = _timed(lambda: submission.cancel([submitted], some))
    assert len(submission.alive_workers(study)) == workers - len(some)
    print(f"| {workers} workers | seconds |\n|---|---|")
    for what, took in seconds.items():
        print(f"| {what} | {took:.3f} |", flush=True)


def _timed(do: Callable[[], object]) -> float:
    began = time.monotonic()
    do()
    return time.monotonic() - began


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "no step within five minutes"
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main()
