"""Seconds of `harness sync` for many ended offline runs, beside the client's own `wandb sync` of the same logs, against a local backend.

The real client logs the runs first: what that costs is no part of it. Both commands include the start of Python and of the client. The
client's checks nothing afterwards, and completes nothing.

    python -m benchmarks.sync [--runs 100] [--rows 200]
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.workload import harness, timed
from harness.config.schema import Config
from harness.config.validate import to_plain
from harness.runs.directory import RunDirectory
from harness.runs.files import write_yaml
from harness.runs.metrics import last_values
from harness.runs.result import Result, write_result
from harness.tracking.identity import identity_of_run, tracking_of_run
from harness.tracking.wandb_logger import WandbLogger
from tests.support.fake_wandb import FakeWandb
from tests.tracking.attempts import forked


def log_run(path: Path, rows: int) -> None:
    """A complete run with its offline log, in a process of its own."""
    run = RunDirectory(path)
    write_yaml(run.config, to_plain(Config()))
    logger = WandbLogger(tracking_of_run(run), identity=identity_of_run(run), directory=path, hyperparameters=to_plain(Config()))
    for step in range(rows):
        row = {"tokens": 100 * step, "lr": 1e-3, "train/loss": 1 / (step + 1), "val/docs/loss": 2 / (step + 1)}
        run.metrics.append({"step": step, **row})
        logger.log_metrics(row, step=step)
    logger.finish("success")
    write_result(run, Result(state="complete", step=rows - 1, metrics=last_values(run.metrics.rows()), attempts=1))


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
        for number in range(options.runs):
            forked(log_run, folder / "runs" / f"run-{number}", options.rows)
        shutil.copytree(folder / "runs", folder / "plain", symlinks=True)
        logs = [str(path) for path in sorted((folder / "plain").glob("*/wandb/offline-run-*"))]
        client = timed([sys.executable, "-m", "wandb", "sync", "--yes", "-n", "8", *logs], theirs.environment)
        first, again = (timed(harness("sync"), ours.environment) for _ in range(2))
        assert len(ours.runs) == options.runs
        assert all(len(run.rows) == options.rows for run in ours.runs.values())
        print(f"{options.runs} runs of {options.rows} rows; load {os.getloadavg()[0]:.1f}")
        for what, (wall, cpu) in {"wandb sync": client, "harness sync": first, "harness sync, once more": again}.items():
            print(f"{what:26} {wall:7.1f} s   CPU {cpu:6.1f} s")


if __name__ == "__main__":
    main()
