"""What a simulated search is worth: the best so far against tokens and time, and whether it kept its promises."""

from __future__ import annotations

import math
import os
import resource
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.config.errors import InputError, unknown
from harness.runs.directory import StudyDirectory
from harness.runs.files import write_yaml
from harness.runs.record import Objective
from harness.runs.result import FINAL_STATES, read_result
from harness.search.simulation.table import SECONDS, Table
from harness.search.simulation.world import Ended, Faults, World
from harness.search.sweep import LENGTH_KEYS, Sweep


@dataclass(frozen=True)
class Improvement:
    """A moment at which a search found something better."""

    tokens: int
    """Trained by then by all attempts that had ended."""
    seconds: float
    """Virtual time since the start."""
    objective: float
    number: int


@dataclass(frozen=True)
class Outcome:
    """One search of one seed."""

    seed: int
    improvements: tuple[Improvement, ...]
    """The best so far among the trials within the constraints, whenever it changed."""
    states: dict[str, int]
    """Trials by state."""
    attempts: int
    happened: dict[str, int]
    """Attempts by how they ended."""
    tokens: int
    """Trained in truth, whatever the study took note of."""
    shared_tokens: int
    overshoot: dict[str, float]
    """By unit of the budget that has a limit, how far it was exceeded."""
    seconds: float
    """Virtual time."""
    lost: int
    """Trials that have not ended, although the study has."""
    faulty: tuple[str, ...]
    """What must never happen: a trial with two workers, or with two sets of values."""
    scheduler_seconds: float
    """Real time for all, of which the table's answers are a part."""
    peak_mib: float
    """Memory of this process at its highest."""

    @property
    def best(self) -> Improvement | None:
        return self.improvements[-1] if self.improvements else None

    def reached(self, target: float, direction: str) -> Improvement | None:
        """When the search had found something as good as the target."""
        sign = 1 if direction == "minimize" else -1
        return next((step for step in self.improvements if sign * step.objective <= sign * target), None)


def check_table(sweep: Sweep, table: Table) -> None:
    """Raise InputError where the table cannot answer for the sweep."""
    known = [metric for metric in table.metrics if metric != SECONDS]
    for key, metrics in (("objective.metric", [o.metric for o in sweep.objectives]), ("constraints", list(sweep.config.constraints))):
        for metric in metrics:
            if metric not in known:
                raise unknown("metric", metric, known, where=f"{key}: {table.name}")
    for parameter in sweep.space.parameters:
        if parameter.key not in LENGTH_KEYS:
            table.check(parameter.key, parameter.choices)


def simulate(
    sweep: Sweep,
    table: Table,
    *,
    workers: int,
    seed: int,
    faults: Faults,
    tokens_per_second: float,
    keep: Path | None = None,
    on_end: Callable[[Ended], object] = lambda ended: None,
) -> Outcome:
    """One search in virtual time. seed: added to that of the search, and of what happens to the workers. keep: a new directory to leave
    the study in, which `harness compare` and the other verbs can read; by default nothing stays.

    Raises InputError where the table has no answer for a trial.
    """
    seeded = replace(sweep, config=replace(sweep.config, search=replace(sweep.config.search, seed=sweep.config.search.seed + seed)))
    # What was composed is the same for every seed; a grid is not.
    vars(seeded).update(
        {key: value for key, value in vars(sweep).items() if key in ("base", "space", "_compositions", "largest_trial_tokens")}
    )
    with _directory(keep, sweep.name) as directory:
        write_yaml(directory.sweep, {**seeded.frozen(), "launched": "1970-01-01T00:00:00.000+00:00"})
        began = time.perf_counter()
        world = World(directory, seeded, table, workers, faults, seed, tokens_per_second, on_end)
        world.run()
        return _outcome(world, seed, time.perf_counter() - began)


@contextmanager
def _directory(keep: Path | None, name: str) -> Iterator[StudyDirectory]:
    if keep is not None:
        if keep.exists() and any(keep.iterdir()):
            raise InputError(f"--keep: {keep} exists and is not empty")
        yield StudyDirectory(keep)
        return
    # Files that are gone in a minute need no disk.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="harness-simulation-", dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield StudyDirectory(Path(folder) / name)


def _outcome(world: World, seed: int, real_seconds: float) -> Outcome:
    states: Counter[str] = Counter()
    shared = 0
    for run in world.directory.trials():  # one at a time: there may be a hundred thousand
        result = read_result(run)
        states[result.state] += 1
        shared += result.tokens.shared
    first = world.sweep.objectives[0]
    better = Objective(first.metric, first.direction).better
    ended = [end.number for end in world.history]
    twice = [f"trial {number} ended {times} times" for number, times in Counter(ended).items() if times > 1]
    budget = world.sweep.config.budget
    used = {"trials": float(states.total()), "tokens": float(world.trained), "gpu_hours": world.held / 3600}
    limits = {unit: getattr(budget, unit) for unit in used}
    return Outcome(
        seed=seed,
        improvements=tuple(_improvements(world.history, better)),
        states=dict(states),
        attempts=world.attempts,
        happened=world.happened,
        tokens=world.trained,
        shared_tokens=shared,
        overshoot={unit: max(0.0, used[unit] - limit) for unit, limit in limits.items() if limit is not None},
        seconds=world.now,
        lost=sum(count for state, count in states.items() if state not in FINAL_STATES),
        faulty=(*world.faulty, *twice),
        scheduler_seconds=real_seconds,
        peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )


def _improvements(history: Sequence[Ended], better: Callable[[float, float], bool]) -> Iterator[Improvement]:
    best: float | None = None
    for ended in history:
        if ended.feasible and ended.objective is not None and (best is None or better(ended.objective, best)):
            best = ended.objective
            yield Improvement(ended.tokens, ended.seconds, ended.objective, ended.number)


def median_curve(outcomes: Sequence[Outcome], points: int = 10) -> list[dict[str, float | None]]:
    """The median over seeds of the best so far, at equal shares of the tokens of the longest search; None while most have found nothing."""
    most = max(outcome.tokens for outcome in outcomes)
    curve: list[dict[str, float | None]] = []
    for tokens in (most * (point + 1) / points for point in range(points)):
        found = [[step.objective for step in outcome.improvements if step.tokens <= tokens] for outcome in outcomes]
        values = [steps[-1] for steps in found if steps]
        enough = len(values) * 2 > len(outcomes)
        curve.append({"tokens": tokens, "objective": statistics.median(values) if enough else None})
    return curve


def to_reach(outcomes: Sequence[Outcome], target: float, direction: str) -> dict[str, Any]:
    """Tokens until the target was reached, by seed, and their median: a search that never reached it counts as infinite, None."""
    steps = [outcome.reached(target, direction) for outcome in outcomes]
    tokens = [math.inf if step is None else float(step.tokens) for step in steps]
    middle = statistics.median(tokens)
    return {
        "target": target,
        "reached": sum(step is not None for step in steps),
        "tokens": [None if math.isinf(count) else int(count) for count in tokens],
        "median": None if math.isinf(middle) else middle,
    }


def to_json(outcome: Outcome) -> dict[str, Any]:
    """An outcome for `--json`."""
    document = asdict(outcome)
    document["best"] = asdict(outcome.best) if outcome.best else None
    return document
