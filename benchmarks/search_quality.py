"""What a search finds for its tokens, in virtual time over tables of learning curves: random, TPE, TPE + successive halving, Hyperband,
trunk search.

    python -m benchmarks.search_quality [--tables stories260k …] [--seeds 10] [--workers 8] [--searches random tpe …] [--share 1]

The scale is a run of full length. Each search gets the tokens of 64 of them (times `share`, for a quick look); the target is what TPE
finds with these, in the median of the seeds. Whoever never finds it counts as infinitely slow.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.simulation.outcome import Outcome, simulate
from benchmarks.simulation.table import read_table
from benchmarks.simulation.world import Faults
from benchmarks.workload import unread_text
from harness.search.load_sweep import load_sweep
from harness.search.sweep import Sweep

TRIALS = 64
TABLES = Path(__file__).parent / "tables"
SEARCHES: dict[str, dict[str, Any]] = {
    "random": {"search": "random"},
    "tpe": {"search": "tpe"},
    "tpe + successive halving": {"search": "tpe", "stopping": "successive_halving"},
    "tpe + hyperband": {"search": "tpe", "stopping": "hyperband"},
    "trunk": {"search": "trunk"},
}


@dataclass(frozen=True)
class Task:
    """A question that a table answers."""

    table: str
    steps: int
    batch_tokens: int
    evaluate_every_steps: int
    rungs: int
    space: dict[str, Any]
    forgetting: float | None
    """At most, in nats."""
    overrides: tuple[str, ...] = ()

    def sweep(self, folder: Path, search: dict[str, Any], share: float, overrides: Sequence[str] = ()) -> Sweep:
        document = {
            "base": [
                *unread_text(folder),
                f"trainer.max_steps={self.steps}",
                f"trainer.batch_tokens={self.batch_tokens}",
                f"trainer.evaluate_every_steps={self.evaluate_every_steps}",
                "schedule=wsd",
                *self.overrides,
            ],
            "objective": {"metric": "val/target/loss"},
            "constraints": {} if self.forgetting is None else {"val/general/forgetting": {"max": self.forgetting}},
            "space": self.space,
            "budget": {"tokens": int(share * TRIALS * self.steps * self.batch_tokens)},
            **search,
        }
        if search["search"] == "trunk":
            # What is compared is what the searches find.
            document["search"] = {"name": "trunk", "rungs": self.rungs, "confirm": False}
        path = folder / "sweep.yaml"
        path.write_text(json.dumps(document))
        return load_sweep(str(path), list(overrides))


def _range(low: float, high: float, *, log: bool = False) -> dict[str, Any]:
    return {"low": low, "high": high, **({"log": True} if log else {})}


TASKS = {
    "stories260k": Task(
        table="stories260k",
        steps=108,
        batch_tokens=1024,
        evaluate_every_steps=12,
        rungs=3,
        space={
            "optim.lr": _range(1e-3, 3e-2, log=True),
            "data.replay_share": _range(0.0, 0.25),
            "schedule.decay_fraction": _range(0.2, 0.5),
            "schedule.decay_shape": {"choices": ["linear", "1-sqrt"]},
        },
        forgetting=1.0,
        overrides=("schedule.warmup=4",),
    ),
    "stories260k_long": Task(
        table="stories260k_long",
        steps=324,
        batch_tokens=512,
        evaluate_every_steps=12,
        rungs=4,
        space={
            "optim.lr": _range(1e-3, 1e-1, log=True),
            "data.replay_share": _range(0.0, 0.5),
            "schedule.decay_fraction": _range(0.1, 0.5),
        },
        forgetting=1.0,
        overrides=("schedule.warmup=6",),
    ),
}
TASKS["stories260k, free"] = Task(**{**vars(TASKS["stories260k"]), "forgetting": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--searches", nargs="+", default=list(SEARCHES), choices=list(SEARCHES))
    parser.add_argument("--share", type=float, default=1.0, help="of the tokens, for all but TPE")
    given = parser.parse_args()
    print("| table | search | reaches TPE's best after | by | TPE / it | best at 1/6 of the tokens | best | worst seed |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in given.tasks:
            _compare(name, TASKS[name], given, Path(folder) / name.replace(" ", "_"))


def _compare(name: str, task: Task, given: argparse.Namespace, folder: Path) -> None:
    folder.mkdir()
    os.environ["HARNESS_RUNS"] = str(folder / "runs")
    table, whole = read_table(TABLES / f"{task.table}.csv"), task.steps * task.batch_tokens
    found: dict[str, list[Outcome]] = {}
    for search in dict.fromkeys(["tpe", *given.searches]):
        (folder / search).mkdir()
        sweep = task.sweep(folder / search, SEARCHES[search], 1.0 if search == "tpe" else given.share)
        found[search] = [
            simulate(sweep, table, workers=given.workers, seed=seed, faults=Faults(), tokens_per_second=1e4) for seed in range(given.seeds)
        ]
        target = statistics.median(_best(outcome) for outcome in found["tpe"])
        tokens = {key: statistics.median(_tokens(outcome, target) for outcome in outcomes) / whole for key, outcomes in found.items()}
        outcomes = found[search]
        cells = [
            name,
            search,
            f"{tokens[search]:.1f} runs",
            f"{sum(math.isfinite(_tokens(outcome, target)) for outcome in outcomes)} of {given.seeds}",
            f"{tokens['tpe'] / tokens[search]:.2f}",
            f"{statistics.median(_best(outcome, TRIALS * whole / 6) for outcome in outcomes):.4f}",
            f"{statistics.median(map(_best, outcomes)):.4f}",
            f"{max(map(_best, outcomes)):.4f}",
        ]
        print("|", " | ".join(cells), "|", flush=True)


def _best(outcome: Outcome, tokens: float = math.inf) -> float:
    return min((step.objective for step in outcome.improvements if step.tokens <= tokens), default=math.inf)


def _tokens(outcome: Outcome, target: float) -> float:
    step = outcome.reached(target, "minimize")
    return math.inf if step is None else float(step.tokens)


if __name__ == "__main__":
    main()
