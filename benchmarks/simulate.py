"""A sweep in virtual time over a table of learning curves: the scheduler of real studies, and nothing is trained.

    python -m benchmarks.simulate SWEEP --table TABLE.csv [OVERRIDES] [--workers 8] [--seeds 5] [--killed 0.05] [--keep runs/NAME]

The table's columns: see `benchmarks.simulation.table`; `benchmarks.make_table` makes one. --preempted, --killed, --crashed: chances of an
attempt. --keep leaves the study of one seed in a new directory, for `harness compare`. Exit code 1 where the search broke a promise: a
trial lost or run twice, a budget exceeded.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.simulation.outcome import simulate
from benchmarks.simulation.table import read_table
from benchmarks.simulation.world import Faults
from harness.config.errors import InputError
from harness.search.load_sweep import load_sweep


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", help="a file of sweeps/ by its name, or any file")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=1)
    for fault in ("preempted", "killed", "crashed"):
        parser.add_argument(f"--{fault}", type=float, default=0.0)
    parser.add_argument("--tokens-per-second", type=float, default=1e5, help="of a worker")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_intermixed_args()
    if given.keep and given.seeds > 1:
        parser.error("--keep keeps the study of one seed")
    sweep, table = load_sweep(given.sweep, [*given.overrides, f"launcher.workers={given.workers}"]), read_table(given.table)
    faults = Faults(preempted=given.preempted, killed=given.killed, crashed=given.crashed)
    print("| seed | best | after tokens | trials | attempts | tokens | shared | virtual seconds | lost or twice | over |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    broken = False
    for seed in range(given.seeds):
        outcome = simulate(
            sweep, table, workers=given.workers, seed=seed, faults=faults, tokens_per_second=given.tokens_per_second, keep=given.keep
        )
        best = outcome.best
        wrong, over = outcome.lost + len(outcome.faulty), sum(outcome.overshoot.values())
        broken = broken or bool(wrong or over)
        cells = [str(seed), f"{best.objective:.4f}" if best else "none", f"{best.tokens:,}" if best else ""]
        cells += [str(sum(outcome.states.values())), str(outcome.attempts), f"{outcome.tokens:,}", f"{outcome.shared_tokens:,}"]
        print("|", " | ".join([*cells, f"{outcome.seconds:.0f}", str(wrong), f"{over:g}"]), "|", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        sys.exit(str(error))
