"""Seconds that workers wait for their study when many share it, and whether any trial is lost or handed out twice.

    python -m benchmarks.workers [--workers 1 8 64] [--trials 10] [--seconds 0 2] [--storage postgresql://user@host/database]

Every worker is a process that claims trials and settles them; an attempt writes the files that training would, after sleeping for
`seconds` (0: the study is all that they do, the worst case). Without --storage the journal file is measured. CPU seconds are those of a
worker for one trial, claim and settle together (the database's own are not among them): they tell a busy machine from slow code.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import tempfile
import time
from pathlib import Path

import optuna.storages  # noqa: F401 - before the workers are forked: each would import it again

from benchmarks.large_study import end_trial, write_sweep
from benchmarks.workload import quantile
from harness.runs.directory import StudyDirectory
from harness.runs.record import load_study
from harness.search.load_sweep import load_sweep
from harness.search.open_study import open_study
from harness.search.storage.build import open_storage
from harness.search.study import Claim, Study
from harness.search.sweep import Sweep

WAIT_SECONDS = 0.2
TIMES = ("claim p50", "claim p95", "settle p50", "settle p95")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--trials", type=int, default=10, help="a worker")
    parser.add_argument("--seconds", type=float, nargs="+", default=[0.0, 2.0], help="that an attempt takes")
    parser.add_argument("--storage")
    arguments = parser.parse_args()
    columns = ("storage", "workers", "seconds an attempt", "trials", *TIMES, "CPU", "lost", "twice", "load")
    print("|", " | ".join(columns), "|\n|" + "---|" * len(columns))
    for workers in arguments.workers:
        for seconds in arguments.seconds:
            with tempfile.TemporaryDirectory() as folder:
                os.environ["HARNESS_RUNS"] = f"{folder}/runs"
                budget = {"trials": workers * arguments.trials}
                path = write_sweep(Path(folder), budget=budget, storage=arguments.storage)
                _measure(load_sweep(str(path), []), workers, seconds)


def _measure(sweep: Sweep, workers: int, seconds: float) -> None:
    directory = open_study(sweep)
    assert sweep.largest_trial_tokens, "composed here, once, and not by every worker"
    fork = multiprocessing.get_context("fork")
    told, ready = fork.Queue(), fork.Barrier(workers)
    processes = [fork.Process(target=_work, args=(directory, sweep, f"w{index}", seconds, ready, told)) for index in range(workers)]
    for process in processes:
        process.start()
    rows = [row for _ in processes for row in told.get()]
    for process in processes:
        process.join()
    claims, settles, numbers, cpu = (sorted(values) for values in zip(*rows, strict=True))
    ended = [run.number for run in load_study(directory).runs if run.state == "complete"]
    wanted = sweep.config.budget.trials or 0
    cells = [
        "PostgreSQL" if sweep.config.storage else "journal file",
        *(str(value) for value in (workers, seconds, len(rows))),
        *(f"{quantile(values, share):.3f}" for values in (claims, settles) for share in (0.5, 0.95)),
        f"{sum(cpu) / len(cpu):.3f}",
        *(str(value) for value in (wanted - len(set(ended)), len(numbers) - len(set(numbers)))),
        f"{os.getloadavg()[0]:.1f}",
    ]
    print("|", " | ".join(cells), "|", flush=True)


def _work(directory: StudyDirectory, sweep: Sweep, name: str, seconds: float, ready, told) -> None:  # type: ignore[no-untyped-def]
    storage = open_storage(directory, name)
    storage.announce(name)
    study = Study(directory, sweep, name, storage)
    rows: list[tuple[float, float, int, float]] = []
    ready.wait()
    try:
        _claim_and_settle(study, seconds, rows)
    finally:  # of a worker that has left, too
        told.put(rows)


def _claim_and_settle(study: Study, seconds: float, rows: list[tuple[float, float, int, float]]) -> None:
    if seconds:
        time.sleep(random.uniform(0, seconds))
    while True:
        began, cpu = time.perf_counter(), time.process_time()
        claim = study.claim()
        claimed, cpu = time.perf_counter() - began, time.process_time() - cpu
        if claim == "done":
            break
        if not isinstance(claim, Claim):
            time.sleep(WAIT_SECONDS)
            continue
        time.sleep(seconds * random.uniform(0.5, 1.5))
        end_trial(claim)
        began, cpu = time.perf_counter(), cpu - time.process_time()
        study.settle(claim, 0)
        rows.append((claimed, time.perf_counter() - began, claim.number, cpu + time.process_time()))


if __name__ == "__main__":
    main()
