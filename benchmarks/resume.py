"""Seconds from the start of `harness resume`, and of an attempt on a warm worker, to the end of the next training step.

    python -m benchmarks.resume [--rounds 5] [--model llama_1m]

A run is stopped after some steps, so that it leaves a checkpoint. Then it goes on, by turns as the command in a new process and as a child
of a warm server, as workers of a study have it, until its next row of metrics is on disk; then it is stopped again. The step itself is in
the figure, and stands beside it: the median seconds between rows of the same run.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.workload import harness, python_text
from harness.runs.directory import RunDirectory
from harness.search.attempts import AttemptServer
from harness.work.attempt import PRELOAD, attempt_trial

LOOK_SECONDS = 0.005
BATCH_TOKENS = 2048
Begin = Callable[[], tuple[int, Callable[[], bool], Callable[[], object]]]
"""Begins an attempt; returns its pid, whether it lives, and how to wait for its end."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="llama_1m")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ.update(HARNESS_RUNS=f"{folder}/runs", HARNESS_CACHE=f"{folder}/cache")
        run = RunDirectory(folder / "run")
        until_next_step(run, begin_command(harness("train", "--dir", run.path, *overrides(folder, arguments.model))))
        server = AttemptServer(attempt_trial, PRELOAD)
        until_next_step(run, begin_warm(server, run))
        seconds: dict[str, list[float]] = {"harness resume": [], "attempt on a warm worker": []}
        for _ in range(arguments.rounds):
            seconds["harness resume"].append(until_next_step(run, begin_command(harness("resume", run.path))))
            seconds["attempt on a warm worker"].append(until_next_step(run, begin_warm(server, run)))
        step = statistics.median(BATCH_TOKENS / row["tokens_per_second"] for row in run.metrics.rows() if row["step"])
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, a step takes {step:.3f} s\n")
        print("| what | median seconds | worst |\n|---|---|---|")
        for what, values in seconds.items():
            print(f"| {what} | {statistics.median(values):.2f} | {max(values):.2f} |")


def overrides(folder: Path, model: str) -> list[str]:
    endless = ["trainer.max_steps=100000", f"trainer.batch_tokens={BATCH_TOKENS}", "trainer.log_every_steps=1"]
    return [*python_text(folder, documents=400), f"model={model}", *endless]


def begin_command(command: list[str]) -> Begin:
    def begin() -> tuple[int, Callable[[], bool], Callable[[], object]]:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return process.pid, lambda: process.poll() is None, process.wait

    return begin


def begin_warm(server: AttemptServer, run: RunDirectory) -> Begin:
    def begin() -> tuple[int, Callable[[], bool], Callable[[], object]]:
        process = server.start(run.path)
        assert process.pid is not None
        return process.pid, process.is_alive, process.join

    return begin


def until_next_step(run: RunDirectory, begin: Begin) -> float:
    """Begin an attempt, wait for the row of its first step, and stop it; the seconds until that row."""
    before = steps(run)
    start = time.perf_counter()
    pid, is_alive, wait = begin()
    while steps(run) <= before:
        assert is_alive(), "the attempt ended before its next step"
        time.sleep(LOOK_SECONDS)
    seconds = time.perf_counter() - start
    os.kill(pid, signal.SIGTERM)
    wait()
    return seconds


def steps(run: RunDirectory) -> int:
    """The last step in the metrics; 0 before the first."""
    try:
        rows = run.metrics.rows()
    except FileNotFoundError:
        return 0
    return int(rows[-1]["step"]) if rows else 0


if __name__ == "__main__":
    main()
