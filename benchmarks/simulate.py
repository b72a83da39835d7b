"""A sweep in virtual time over a table of learning curves: the scheduler of real studies, and nothing is trained.

    python -m benchmarks.simulate SWEEP --table TABLE.csv [OVERRIDES] [--workers 8] [--seeds 5] [--killed 0.05]
        [--rename COLUMN*FACTOR=KEY] [--keep runs/NAME]

The table's columns: see `benchmarks.simulation.table`; `benchmarks.make_table` makes one. --rename bs*2048=trainer.batch_tokens takes a
column of another name or unit. --preempted, --killed, --crashed: chances of an attempt. --keep leaves the study of one seed in a new
directory, for `harness compare`. A search that confirms itself has a column of its winners, in the mean over their fresh seeds. Exit code
1 where the search broke a promise (a trial lost or run twice, a budget exceeded), 2 for what cannot be simulated.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

from benchmarks.simulation.columns import Column
from benchmarks.simulation.outcome import check_sweep, simulate
from benchmarks.simulation.table import read_table
from benchmarks.simulation.world import Faults
from harness.config.errors import InputError
from harness.runs.failure_kind import kind_of_failure
from harness.search.load_sweep import load_sweep
from harness.search.reserve import confirms_itself


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", help="a file of sweeps/ by its name, or any file")
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--rename", action="append", default=[], metavar="COLUMN[*FACTOR]=KEY", help="what a column is here")
    count = _number("a whole number > 0", int, lambda value: value > 0)
    parser.add_argument("--workers", type=count, default=8)
    parser.add_argument("--seeds", type=count, default=1)
    for fault in ("preempted", "killed", "crashed"):
        parser.add_argument(f"--{fault}", type=_number("a chance from 0 to 1", float, lambda value: 0 <= value <= 1), default=0.0)
    speed = _number("a finite number > 0", float, lambda value: 0 < value < math.inf)
    parser.add_argument("--tokens-per-second", type=speed, default=1e5, help="of a worker")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_intermixed_args(words)
    if given.keep and given.seeds > 1:
        parser.error("--keep keeps the study of one seed")
    try:
        return _simulate(given)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2


def _number(valid: str, kind: Callable[[str], float], holds: Callable[[float], bool]) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            if holds(value := kind(text)):
                return value
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"{text}: expected {valid}")

    return read


def _simulate(given: argparse.Namespace) -> int:
    sweep = load_sweep(given.sweep, [*given.overrides, f"launcher.workers={given.workers}"])
    table = read_table(given.table, [Column.read(text) for text in given.rename])
    faults = Faults(preempted=given.preempted, killed=given.killed, crashed=given.crashed)
    for line in check_sweep(sweep, table):
        print(line, file=sys.stderr)
    winners = confirms_itself(sweep)
    columns = ["seed", "best", *["confirmed"] * winners, "after tokens", "trials", "attempts", "tokens", "shared", "virtual seconds"]
    columns += ["lost or twice", "over"]
    broken = False
    reasons: Counter[str] = Counter()
    for seed in range(given.seeds):
        outcome = simulate(
            sweep, table, workers=given.workers, seed=seed, faults=faults, tokens_per_second=given.tokens_per_second, keep=given.keep
        )
        if seed == 0:
            print("|", " | ".join(columns), "|")
            print("|" + "---|" * len(columns))
        best = outcome.best
        wrong, over = outcome.lost + len(outcome.faulty), sum(outcome.overshoot.values())
        broken = broken or bool(wrong or over)
        reasons.update(outcome.reasons)
        cells = [str(seed), f"{best.objective:.4f}" if best else "none"]
        cells += ["none" if outcome.confirmed is None else f"{outcome.confirmed:.4f}"] * winners
        cells += [f"{best.tokens:,}" if best else ""]
        cells += [str(sum(outcome.states.values())), str(outcome.attempts), f"{outcome.tokens:,}", f"{outcome.shared_tokens:,}"]
        print("|", " | ".join([*cells, f"{outcome.seconds:.0f}", str(wrong), f"{over:g}"]), "|", flush=True)
    for _, alike in groupby(sorted(reasons, key=kind_of_failure), key=kind_of_failure):
        found = list(alike)
        print(f"{sum(reasons[reason] for reason in found)} trials failed, as: {found[0]}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
