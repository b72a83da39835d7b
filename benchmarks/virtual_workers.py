"""What the scheduler takes for a trial, by virtual workers: random search over one parameter, 5 % of the attempts preempted, 2 % killed.

    python -m benchmarks.virtual_workers [--workers 64 256 1000] [--trials 2000] [--limit-seconds 280]

Claims, reservations, settling, adoption: all are the real ones; what training would do is read off a table of four curves. Files are in
memory (/dev/shm). CPU seconds are those of the process, the table's answers and the files of the attempts included.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

from benchmarks.simulation.outcome import simulate
from benchmarks.simulation.table import read_table
from benchmarks.simulation.world import Ended, Faults
from benchmarks.workload import peak_mebibytes, unread_text
from harness.search.load_sweep import load_sweep

STEPS, BATCH = 40, 128
FAULTS = Faults(preempted=0.05, killed=0.02)
PROGRESS = 5_000


class LateError(Exception):
    """The limit is reached."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[64, 256, 1000])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--limit-seconds", type=float, default=float("inf"), help="of each study, wall time")
    given = parser.parse_args()
    print("| trials | virtual workers | attempts | CPU seconds a trial | peak MiB | wall seconds | lost or twice | over |", flush=True)
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for workers in given.workers:
        # A process of its own: the peak is this study's.
        process = multiprocessing.get_context("fork").Process(target=_measure, args=(workers, given.trials, given.limit_seconds))
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(process.exitcode)


def _measure(workers: int, trials: int, limit: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["HARNESS_RUNS"] = str(folder / "runs")
        curves = folder / "table.csv"
        places = [(power, step) for power in (-4, -3, -2, -1) for step in (0, STEPS)]
        rows = [f"{10.0**power},{step},{2 + 0.1 * (power + 2) ** 2 + 1 - step / STEPS}" for power, step in places]
        curves.write_text("\n".join(["optim.lr,step,val/target/loss", *rows]))
        document = {
            "base": [
                *unread_text(folder),
                f"trainer.max_steps={STEPS}",
                f"trainer.batch_tokens={BATCH}",
                "trainer.evaluate_every_steps=10",
            ],
            "objective": {"metric": "val/target/loss"},
            "space": {"optim.lr": {"low": 1e-4, "high": 1e-1, "log": True}},
            "search": {"name": "random", "max_attempts": 100},
            "budget": {"trials": trials},
            "launcher": {"name": "local", "workers": workers},
        }
        path = folder / "sweep.yaml"
        path.write_text(json.dumps(document))
        sweep, table = load_sweep(str(path), []), read_table(curves)
        began, cpu = time.monotonic(), time.process_time()
        ended = 0

        def count(trial: Ended) -> None:
            nonlocal ended
            ended += 1
            if ended % PROGRESS == 0:
                taken = time.process_time() - cpu
                print(f"  {ended} trials: {taken / ended:.4f} CPU seconds a trial, {peak_mebibytes():.0f} MiB", flush=True)
            if time.monotonic() - began > limit:
                raise LateError

        try:
            outcome = simulate(sweep, table, workers=workers, seed=0, faults=FAULTS, tokens_per_second=100.0, on_end=count)
        except LateError:
            outcome = None
        taken, wall = time.process_time() - cpu, time.monotonic() - began
        cells = [f"{ended} of {trials}" if outcome is None else str(ended), str(workers)]
        cells += [str(outcome.attempts) if outcome else "", f"{taken / max(1, ended):.4f}", f"{peak_mebibytes():.0f}", f"{wall:.0f}"]
        cells += [str(outcome.lost + len(outcome.faulty)), f"{sum(outcome.overshoot.values()):g}"] if outcome else ["", ""]
        print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
