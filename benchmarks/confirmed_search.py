"""What searches hand over for equal tokens, their confirmation included, in virtual time over tables whose runs differ by their seed.

    python -m benchmarks.confirmed_search [--tasks stories260k_long …] [--seeds 5] [--runs 32] [--workers 1] [--noise 1] [--searches …]

A *run* is the tokens of a run of full length; every search has those of `--runs` of them, and a bound that is to hold with chance 0.9.
Searches confirm their best afterwards, `--top 3 --seeds 3`, which is 9 of their runs; "confirms itself" divides the budget by itself
(search.confirm). What is handed over is the confirmed winner; what it is worth is the table's own value there, without the noise of seeds.
The tasks `made_up_…` are of tables by formulas (`benchmarks.simulation.made_up`), which no search was made on.
`--noise` scatters forgetting by so many times as much: a rule that assumes how far seeds scatter it is right for one of them at most.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

from benchmarks.search_quality import SEARCHES, TABLES, TASKS, Task
from benchmarks.simulation.made_up import LAWS
from benchmarks.simulation.outcome import simulate
from benchmarks.simulation.seeded_table import Noise, SeededTable
from benchmarks.simulation.table import Table, read_table
from benchmarks.simulation.world import Faults, World, asked
from harness.runs.directory import StudyDirectory
from harness.runs.record import StudyRecord, load_study
from harness.search.confirm import different_configurations, open_confirmation
from harness.search.reserve import confirms_itself
from harness.search.sweep import Sweep, thaw

TOP, FRESH_SEEDS = 3, 3
CHANCE = 0.9
LOSS, FORGETTING = "val/target/loss", "val/general/forgetting"
NOISE = {LOSS: Noise(common=0.010, own=0.011), FORGETTING: Noise(common=0.025, own=0.020)}
"""In nats. About what runs of stories260k on text have (docs/benchmarks.md): 0.015 a run, and shifts of forgetting of 0.032."""
MADE_UP = {
    name: Task(
        table=name,
        steps=360,
        batch_tokens=1024,
        evaluate_every_steps=40,
        rungs=3,
        space={
            "optim.lr": {"low": 3e-5, "high": 1e-2, "log": True},
            "optim.weight_decay": {"low": 0.0, "high": 0.1},
            "schedule.decay_shape": {"choices": ["linear", "1-sqrt"]},
        },
        forgetting=None if name == "made_up_free" else 0.48,
        overrides=("schedule.warmup=4",),
    )
    for name in LAWS
}
ALL_TASKS = TASKS | MADE_UP
BY_THEMSELVES = " confirms itself"
CONTENDERS = [*SEARCHES, *(name + BY_THEMSELVES for name in ("tpe", "trunk"))]


@dataclass(frozen=True)
class Found:
    """What one search came to."""

    loss: float | None
    """The true loss of the confirmed winner; None without one."""
    chance: float | None
    """The true chance that a run with a fresh seed meets the bound."""
    runs: float
    """What it all took."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["stories260k", "stories260k_long"], choices=list(ALL_TASKS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--noise", type=float, default=1.0, help="times how far seeds scatter forgetting")
    parser.add_argument("--searches", nargs="+", default=CONTENDERS, choices=CONTENDERS)
    given = parser.parse_args()
    print(f"| table | search | winners | true loss, median | worst | chance of holding, mean | >= {CHANCE} in truth | runs | by seed |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        for name in given.tasks:
            task = ALL_TASKS[name]
            truth = LAWS[name].table(name) if name in LAWS else read_table(TABLES / f"{task.table}.csv")
            for search in given.searches:
                place = Path(folder) / name / search
                place.mkdir(parents=True)
                sweep = _sweep(task, search, place, given)
                found = [_found(task, truth, sweep, seed, place / str(seed), given) for seed in range(given.seeds)]
                print("|", " | ".join([name, search, *_cells(found)]), "|", flush=True)


def _cells(found: list[Found]) -> list[str]:
    losses = [one.loss for one in found if one.loss is not None]
    chances = [one.chance for one in found if one.chance is not None]
    of = f"of {len(losses)}"
    return [
        f"{len(losses)} of {len(found)}",
        *([f"{statistics.median(losses):.4f}", f"{max(losses):.4f}"] if losses else ["", ""]),
        *([f"{statistics.mean(chances):.2f}", f"{sum(chance >= CHANCE for chance in chances)} {of}"] if chances else ["", ""]),
        f"{statistics.median(one.runs for one in found):.1f}",
        ", ".join("none" if one.loss is None else f"{one.loss:.4f}" for one in found),
    ]


def _sweep(task: Task, search: str, place: Path, given: argparse.Namespace) -> Sweep:
    by_itself = search.endswith(BY_THEMSELVES)
    runs = given.runs if by_itself else given.runs - TOP * FRESH_SEEDS
    overrides = [
        f"budget.tokens={runs * task.steps * task.batch_tokens}",
        f"search.confirm={str(by_itself).lower()}",
        *([] if task.forgetting is None else [f"constraints.{FORGETTING}.chance={CHANCE}"]),
    ]
    return task.sweep(place, SEARCHES[search.removesuffix(BY_THEMSELVES)], 1.0, overrides)


def _found(task: Task, truth: Table, sweep: Sweep, seed: int, place: Path, given: argparse.Namespace) -> Found:
    whole = task.steps * task.batch_tokens
    place.mkdir()
    os.environ["HARNESS_RUNS"] = str(place)
    noise = {LOSS: NOISE[LOSS], FORGETTING: NOISE[FORGETTING] * given.noise}
    table, directory = SeededTable(truth, noise, seed), StudyDirectory(place / sweep.name)
    speed = {"workers": given.workers, "tokens_per_second": 1e4}
    spent = simulate(sweep, table, seed=seed, faults=Faults(), keep=directory.path, **speed).tokens
    study = load_study(directory)
    candidates = 0 if confirms_itself(sweep) else min(TOP, len(different_configurations(study, sweep)))
    if candidates:
        confirming = open_confirmation(study, top=candidates, seeds=FRESH_SEEDS, workers=given.workers)
        world = World(confirming, thaw(confirming.sweep), table, seed=seed, **speed)
        world.run()
        spent += world.trained
        study = load_study(directory)
    return _worth(study, sweep, task, truth, noise[FORGETTING], spent / whole)


def _worth(study: StudyRecord, sweep: Sweep, task: Task, truth: Table, noise: Noise, runs: float) -> Found:
    if study.confirmed is None:
        return Found(None, None, runs)
    (winner,) = (run for run in study.runs if run.number == study.confirmed.number)
    metrics = truth.answer(asked(truth, sweep.trial_config(winner.params), winner.params), task.steps).at(1.0)
    if task.forgetting is None:
        return Found(metrics[LOSS], None, runs)
    return Found(metrics[LOSS], NormalDist(metrics[FORGETTING], noise.of_a_run).cdf(task.forgetting), runs)


if __name__ == "__main__":
    main()
