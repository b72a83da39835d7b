"""Seconds of `harness sync` for many ended offline runs, beside the client's own `wandb sync` of the same logs, against a local backend.

The runs are copies of one: what it costs to make them is no part of it. Both commands include the start of Python and of the client. The
client's checks nothing afterwards, and completes nothing.

python benchmarks/sync.py --runs 100
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from harness.config.schema import Config
from harness.config.validate import to_plain
from harness.runs.directory import RunDirectory
from harness.runs.files import write_json, write_yaml
from harness.runs.metrics import last_values
from harness.runs.result import Result, write_result
from harness.tracking.identity import identity_of_run, tracking_of_run
from harness.tracking.tracked_run import TrackedRun
from harness.tracking.wandb_logger import WandbLogger
from harness.tracking.wandb_run import WandbTarget, client, start_run
from tests.support.fake_wandb import FakeWandb


def one_run(path: Path, rows: int) -> RunDirectory:
    """A complete run with its offline log."""
    run = RunDirectory(path)
    write_yaml(run.config, to_plain(Config()))
    logger = WandbLogger(tracking_of_run(run), identity=identity_of_run(run), directory=path, hyperparameters=to_plain(Config()))
    for step in range(rows):
        row = {"tokens": 100 * step, "lr": 1e-3, "train/loss": 1 / (step + 1), "val/docs/loss": 2 / (step + 1)}
        run.metrics.append({"step": step, **row})
        logger.log_metrics(row, step=step)
    logger.finish("success")
    write_result(run, Result(state="complete", step=rows - 1, metrics=last_values(run.metrics.rows()), attempts=1))
    return run


def copies(original: RunDirectory, root: Path, count: int) -> None:
    """As many runs of their own, by their W&B ids."""
    for number in range(count):
        shutil.copytree(original.path, root / f"run-{number}")
        write_json(root / f"run-{number}" / "wandb" / "run.json", {"id": f"copy{number}", "entity": None, "project": "harness"})


def clients_logs(original: RunDirectory, folder: Path, count: int) -> list[str]:
    """The same runs as the client logs them offline."""
    target = WandbTarget.of(tracking_of_run(original))
    with client():
        for number in range(count):
            identity = replace(identity_of_run(original), id=f"copy{number}")
            run = start_run(target, identity=identity, directory=folder, hyperparameters={}, init_seconds=60, finish_seconds=60)
            TrackedRun(run, original.metrics).finish(0, {})
    return [str(path) for path in sorted((folder / "wandb").glob("offline-run-*"))]


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Wall seconds and CPU seconds, of children too."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--rows", type=int, default=200)
    options = parser.parse_args()
    os.environ["WANDB_MODE"] = "offline"
    with tempfile.TemporaryDirectory() as name, FakeWandb() as ours, FakeWandb() as theirs:
        folder = Path(name)
        os.environ.update(HARNESS_RUNS=str(folder / "runs"), WANDB_CONFIG_DIR=name, WANDB_CACHE_DIR=name, WANDB_ERROR_REPORTING="false")
        os.chdir(folder)
        original = one_run(folder / "original", options.rows)
        copies(original, folder / "runs", options.runs)
        logs = clients_logs(original, folder / "plain", options.runs)
        client = timed([sys.executable, "-m", "wandb", "sync", "--yes", "-n", "8", *logs], theirs.environment)
        harness = timed([sys.executable, "-m", "harness", "sync"], ours.environment)
        again = timed([sys.executable, "-m", "harness", "sync"], ours.environment)
        assert len(ours.runs) == options.runs
        assert all(len(run.rows) == options.rows for run in ours.runs.values())
        print(f"{options.runs} runs of {options.rows} rows; load {os.getloadavg()[0]:.1f}")
        for what, (wall, cpu) in {"wandb sync": client, "harness sync": harness, "harness sync, once more": again}.items():
            print(f"{what:26} {wall:7.1f} s   CPU {cpu:6.1f} s")


if __name__ == "__main__":
    main()
