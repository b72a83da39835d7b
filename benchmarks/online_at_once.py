"""Many runs that log online at the same moment, each in a process of its own: what a step pays, what arrives, what `harness sync` mends.

    python -m benchmarks.online_at_once [--runs 100] [--steps 30] [--refusals 0]

Against the local backend of the tests, by the real client. --refusals: of so many requests every third is refused with 429 and every
seventh with 500, and the server is dead for five seconds when half of the runs are there.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from harness.tracking.identity import identity_of_run
from tests.support.command import run_harness
from tests.support.fake_wandb import FakeWandb
from tests.tracking.at_once import Overrun, log_at_once, rows_of
from tests.tracking.attempts import forked, read_back
from tests.tracking.studies import study_in, trial_in


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--refusals", type=int, default=0)
    parser.add_argument("--finish-seconds", type=float, default=30.0, help="how long the end of an attempt waits for its client")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, FakeWandb() as backend:
        folder = Path(name)
        online = {
            **backend.environment,
            "WANDB_MODE": "online",
            "WANDB_CONFIG_DIR": name,
            "WANDB_CACHE_DIR": name,
            "WANDB_ERROR_REPORTING": "false",
        }
        study = study_in(folder / "runs")
        trials = [trial_in(study, number, lr=1e-3 * (number + 1)) for number in range(arguments.runs)]
        overrun = Overrun(backend, runs=arguments.runs, requests=arguments.refusals)
        backend.refusal = overrun if arguments.refusals else None
        began = time.perf_counter()
        outcomes = log_at_once(trials, online, steps=arguments.steps, step_seconds=0.5, finish_seconds=arguments.finish_seconds)
        seconds = time.perf_counter() - began
        load = os.getloadavg()[0]
        backend.refusal = None
        calls = sorted(seconds for outcome in outcomes for seconds in outcome.log_seconds)
        unfinished = sum(bool(outcome.warnings) for outcome in outcomes)
        print(f"{arguments.runs} runs of {arguments.steps} rows in {seconds:.0f} s, refused: {overrun.said}, load {load:.0f}")
        p50, p99, worst = (1e3 * calls[index] for index in (len(calls) // 2, len(calls) * 99 // 100, -1))
        print(f"log_metrics: p50 {p50:.3f} ms, p99 {p99:.2f}, max {worst:.0f}")
        print(f"not uploaded within {arguments.finish_seconds:g} s of their end: {unfinished}")
        for label in ("as they logged", "after harness sync"):
            found = {run.id: run.rows for run in forked(read_back, online, "harness", {"jobType": "trial"})}
            same = sum(found.get(identity_of_run(trial).id) == rows_of(trial) for trial in trials)
            print(f"in W&B with the rows of their own files, each step once, {label}: {same}")
            if label == "as they logged":
                began = time.perf_counter()
                done = run_harness("sync", "question", cwd=folder, env={**online, "HARNESS_RUNS": f"{name}/runs"}, timeout_seconds=900)
                print(f"harness sync: exit code {done.rc}, {time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
