"""What a search in virtual time is worth: the best so far against tokens, and whether it kept its promises."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.simulation.table import BATCH, Table, beyond, check_batch, check_table
from benchmarks.simulation.world import Ended, Faults, World
from harness.config.errors import InputError
from harness.runs.confirmation_plan import confirmation_directory
from harness.runs.directory import StudyDirectory
from harness.runs.files import write_yaml
from harness.runs.record import Objective, load_study
from harness.runs.result import FINAL_STATES, read_result
from harness.search.reserve import confirms_itself
from harness.search.sweep import LENGTH_KEYS, Sweep


@dataclass(frozen=True)
class Improvement:
    """A moment at which a search found something better."""

    tokens: int
    """Trained by then by all attempts that had ended."""
    objective: float
    number: int


@dataclass(frozen=True)
class Outcome:
    """One search of one seed."""

    improvements: tuple[Improvement, ...]
    """The best so far among the trials within the constraints, whenever it changed."""
    states: dict[str, int]
    """Trials by state."""
    reasons: dict[str, int]
    """Failed trials by what they failed of."""
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
    confirmed: float | None = None
    """The mean of the winner over fresh seeds; None where the search confirmed none by itself."""

    @property
    def best(self) -> Improvement | None:
        return self.improvements[-1] if self.improvements else None

    def reached(self, target: float, direction: str) -> Improvement | None:
        """When the search had found something as good as the target."""
        sign = 1 if direction == "minimize" else -1
        return next((step for step in self.improvements if sign * step.objective <= sign * target), None)


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

    Raises InputError where the table has no answer for a trial; nothing is kept then.
    """
    check_sweep(sweep, table)
    seeded = replace(sweep, config=replace(sweep.config, search=replace(sweep.config.search, seed=sweep.config.search.seed + seed)))
    # What was composed is the same for every seed; a grid is not.
    vars(seeded).update(
        {key: value for key, value in vars(sweep).items() if key in ("base", "space", "_compositions", "largest_trial_tokens")}
    )
    with _directory(keep, sweep.name) as directory:
        confirms = {"confirms_itself": confirms_itself(seeded)}
        write_yaml(directory.sweep, {**seeded.frozen(), **confirms, "launched": "1970-01-01T00:00:00.000+00:00"})
        world = World(directory, seeded, table, workers, faults, seed, tokens_per_second, on_end)
        world.run()
        return _outcome(world)


def check_sweep(sweep: Sweep, table: Table) -> list[str]:
    """What a sweep asks for beyond the numbers of the table, in words. Raises InputError where the table cannot be asked for it."""
    metrics = [*(objective.metric for objective in sweep.objectives), *sweep.config.constraints]
    # A table of another length refuses its runs itself.
    parameters = [parameter for parameter in sweep.space.parameters if parameter.key == BATCH or parameter.key not in LENGTH_KEYS]
    check_table(table, metrics, [parameter.key for parameter in parameters])
    check_batch(table, sweep.base.config.trainer.batch_tokens)
    return beyond(table, parameters)


@contextmanager
def _directory(keep: Path | None, name: str) -> Iterator[StudyDirectory]:
    if keep is not None:
        try:
            keep.mkdir(parents=True)  # never into a study that is there already
        except OSError as error:
            raise InputError(f"--keep {keep}: {error.strerror}; valid: a new directory") from None
        try:
            yield StudyDirectory(keep)
        except InputError:
            shutil.rmtree(keep)
            raise
        return
    # Files that are gone in a minute need no disk.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="harness-simulation-", dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield StudyDirectory(Path(folder) / name)


def _outcome(world: World) -> Outcome:
    states: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    shared = 0
    for run in world.directory.trials():  # one at a time: there may be a hundred thousand
        result = read_result(run)
        states[result.state] += 1
        if result.state == "failed":
            reasons[result.reason or ""] += 1
        shared += result.tokens.shared
    first = world.sweep.objectives[0]
    better = Objective(first.metric, first.direction).better
    ended = [end.number for end in world.history]
    twice = [f"trial {number} ended {times} times" for number, times in Counter(ended).items() if times > 1]
    budget = world.sweep.config.budget
    confirming = sum(1 for _ in confirmation_directory(world.directory).trials())
    used = {"trials": float(states.total() + confirming), "tokens": float(world.trained), "gpu_hours": world.held / 3600}
    limits = {unit: getattr(budget, unit) for unit in used}
    return Outcome(
        improvements=tuple(_improvements(world.history, better)),
        states=dict(states),
        reasons=dict(reasons),
        attempts=world.attempts,
        happened=world.happened,
        tokens=world.trained,
        shared_tokens=shared,
        overshoot={unit: max(0.0, used[unit] - limit) for unit, limit in limits.items() if limit is not None},
        seconds=world.now,
        lost=sum(count for state, count in states.items() if state not in FINAL_STATES),
        faulty=(*world.faulty, *twice),
        confirmed=_confirmed(world),
    )


def _confirmed(world: World) -> float | None:
    if not confirms_itself(world.sweep) or (winner := load_study(world.directory).confirmed) is None or winner.interval is None:
        return None
    return winner.interval.mean


def _improvements(history: Sequence[Ended], better: Callable[[float, float], bool]) -> Iterator[Improvement]:
    best: float | None = None
    for ended in history:
        if ended.feasible and ended.objective is not None and (best is None or better(ended.objective, best)):
            best = ended.objective
            yield Improvement(ended.tokens, ended.objective, ended.number)
