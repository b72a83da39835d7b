"""Virtual workers on one study: the real scheduler, in virtual time, over attempts that a table answers.

Every worker keeps to the protocol of `harness.search.worker.Worker`: it claims, prepares, runs the attempt, reports its evaluations, makes
its lease longer or ends the attempt, and settles. Things happen to it by chance, as a seed has it:

- preempted: the attempt saves a checkpoint and the worker leaves; it comes back later.
- killed: worker and attempt are gone without a word; another worker comes in its place later.
- crashed: the attempt ends with an exception; the worker lives.
- slow: some workers take several times as long for everything.

A trial trains from the deepest state of its path that is stored: its own last checkpoint, or a trunk of another trial, which leaves one
wherever a relative may part (see `benchmarks.simulation.course`). Leases of trunks are not simulated: trials under way at the same time
that have a beginning in common both pay for it, so that what sharing saves is rather underestimated.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, is_dataclass
from typing import Any

from benchmarks.simulation.attempt import FakeAttempt
from benchmarks.simulation.course import Course
from benchmarks.simulation.storage import VirtualStorage
from benchmarks.simulation.table import Curve, Table
from harness.config.schema import Config
from harness.runs.directory import StudyDirectory
from harness.runs.exit_codes import RESERVED_TOO_LITTLE
from harness.runs.files import read_json
from harness.runs.result import FINAL_STATES, read_result
from harness.runs.trial import read_trial
from harness.runs.trunks import TrunkInfo, TrunkStore
from harness.search.attempt_watch import LEAVE_SECONDS, POLL_SECONDS, RENEW_SECONDS
from harness.search.samplers import derived_seed
from harness.search.study import Claim, Study
from harness.search.sweep import Sweep
from harness.search.worker import MAX_WAIT_SECONDS

STARTUP_SECONDS = 0.2
"""What an attempt takes before its first step, on a warm worker."""
PATIENCE = 100_000
"""So many looks for work in a row, with nobody at work, mean that the study is stuck."""


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What happens to workers; chances are per attempt."""

    preempted: float = 0.0
    killed: float = 0.0
    crashed: float = 0.0
    slow: float = 0.0
    """Share of the workers that are slow."""
    slowness: float = 4.0
    """How many times as long these take."""
    absence_seconds: float = 60.0
    """Until a worker that was preempted or killed is replaced."""


@dataclass
class Job:
    """An attempt under way."""

    claim: Claim
    claimed: float
    attempt: FakeAttempt
    course: Course
    answer: Curve
    began: float
    """When its first step began."""
    rate: float
    """Tokens per second."""
    start: int
    """Position at its beginning, in tokens."""
    evaluations: deque[int]
    """Steps at which it is still to be evaluated, those that a row is written for."""
    fate: str
    fated: float
    """When its fate comes."""
    metrics: dict[str, float] = field(default_factory=dict)

    def position(self, now: float) -> int:
        """Tokens of the run that are trained by now."""
        return max(self.start, min(self.course.tokens, self.start + int(max(0.0, now - self.began) * self.rate)))

    def when(self, tokens: int) -> float:
        """When this position is reached."""
        return self.began + max(0, tokens - self.start) / self.rate


@dataclass
class Hand:
    """A worker."""

    index: int
    id: str
    study: Study
    slowness: float
    job: Job | None = None


@dataclass(frozen=True)
class Ended:
    """A trial that ended, as the history of a search knows it."""

    number: int
    seconds: float
    """Virtual time since the start."""
    tokens: int
    """Trained by then by all attempts that had ended, whatever became of them."""
    state: str
    objective: float | None
    feasible: bool
    """Whether it is a candidate for the best: complete, of full length, within the constraints."""


@dataclass
class World:
    """One study and its workers."""

    directory: StudyDirectory
    sweep: Sweep
    table: Table
    workers: int
    faults: Faults = field(default_factory=Faults)
    seed: int = 0
    tokens_per_second: float = 1e5
    """Of a worker that is not slow."""
    on_end: Callable[[Ended], object] = lambda ended: None

    def __post_init__(self) -> None:
        self.now = 0.0
        self.trained = 0
        """Tokens trained in truth, by attempts that have ended."""
        self.held = 0.0
        """Seconds for which attempts were under way, in truth."""
        self.attempts = 0
        self.happened: dict[str, int] = {}
        """How often, by what."""
        self.history: list[Ended] = []
        self.params_of: dict[str, dict[str, Any]] = {}
        """By the name of the run: a trial of the study, or of its confirmation."""
        self.faulty: list[str] = []
        """What must never happen, in words."""
        self._storage = VirtualStorage(self.directory)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._born = 0
        self._idle: deque[Hand] = deque()
        self._at_work: dict[str, int] = {}
        """Worker by the name of the run."""
        self._stored: dict[int, set[str]] = {}
        """States that can be gone on from, by their step."""
        self._trunks = TrunkStore(self.directory.trunks)

    def run(self) -> None:
        """Until the study has nothing left to do."""
        for index in range(self.workers):
            self._after(0.0, lambda index=index: self._arrive(index))  # type: ignore[misc]
        fruitless = 0
        while self._events or self._idle:
            if not self._events:
                # Nobody is at work, and those who look find nothing: leases of the dead run out.
                fruitless += 1
                assert fruitless < PATIENCE, "the study is stuck: nobody is at work, and nothing comes of waiting"
                self.now += MAX_WAIT_SECONDS
                self._wake()
                continue
            fruitless = 0
            self.now, _, action = heapq.heappop(self._events)
            action()
        self._storage.close()

    # Workers.

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + seconds, self._count, action))

    def _arrive(self, index: int) -> None:
        self._born += 1
        name = f"virtual-{index}-{self._born}"
        self._storage.announce(name)
        study = Study(self.directory, self.sweep, name, self._storage, clock=lambda: self.now)
        generator = random.Random(derived_seed(self.seed, "slow", index))
        slowness = self.faults.slowness if generator.random() < self.faults.slow else 1.0
        self._look(Hand(index, name, study, slowness))

    def _look(self, hand: Hand) -> bool:
        """Look for work; whether there was any."""
        while True:
            answer = hand.study.claim()
            if answer == "wait":
                self._idle.append(hand)
                return False
            if answer == "done":
                self._storage.bury(hand.id)
                return True
            if hand.study.prepare(answer) and self._begin(hand, answer):
                return True
            self._note_end(answer)

    def _wake(self) -> None:
        """Something changed: those who wait look again, until one finds nothing."""
        for _ in range(len(self._idle)):
            if not self._look(self._idle.popleft()):
                return

    def _leave(self, hand: Hand) -> None:
        """Gone, and replaced after a while."""
        self._storage.bury(hand.id)
        self._after(self.faults.absence_seconds, lambda: self._arrive(hand.index))

    # Attempts.

    def _begin(self, hand: Hand, claim: Claim) -> bool:
        """Begin an attempt; False where more is to be trained than was reserved for it, and it was given back."""
        name = claim.run.name
        if name in self._at_work:
            self.faulty.append(f"trial {name} had two workers at a time")
        trial = read_trial(claim.run)
        assert trial is not None
        assert trial.params is not None
        if self.params_of.setdefault(name, trial.params) != trial.params:
            self.faulty.append(f"trial {name} changed its values")
        config = self.sweep.trial_config(trial.params)
        course = Course(config)
        answer = self.table.answer(asked(self.table, config, trial.params), course.steps)
        position = read_result(claim.run).tokens.position
        trunk = self._trunk(course, position)
        if course.tokens - max(trunk, position) > trial.tokens:
            hand.study.settle(claim, RESERVED_TOO_LITTLE)
            return False
        attempt = FakeAttempt(claim.run, length=course.tokens, shared=max(0, trunk - position), position=max(trunk, position))
        self._storage.touch(claim.run)
        start = attempt.result.tokens.position
        every = config.trainer.evaluate_every_steps
        done = course.step_at(start)
        steps = range((done // every + 1) * every, course.steps, every) if every else range(0)
        rate = self.tokens_per_second / hand.slowness
        job = Job(claim, self.now, attempt, course, answer, self.now + STARTUP_SECONDS, rate, start, deque(steps), "", float("inf"))
        self._draw_fate(job)
        self._at_work[name] = hand.index
        self.attempts += 1
        hand.job = job
        self._row(job, done, is_needed=False)
        self._go_on(hand)
        return True

    def _draw_fate(self, job: Job) -> None:
        # By the trial and the attempt: the same for every number of workers.
        generator = random.Random(derived_seed(self.seed, "fate", job.claim.number, job.attempt.result.attempts))
        draw = generator.random()
        for fate in ("preempted", "killed", "crashed"):
            chance = getattr(self.faults, fate)
            if draw < chance:
                job.fate, job.fated = fate, self.now + generator.random() * (job.when(job.course.tokens) - self.now)
                return
            draw -= chance

    def _go_on(self, hand: Hand) -> None:
        """Wait for what comes next in an attempt."""
        job = hand.job
        assert job is not None
        nexts: list[tuple[float, Callable[[Hand, Job], None]]] = [(job.when(job.course.tokens), self._complete), (job.fated, self._fate)]
        if job.evaluations and self._is_watched:
            nexts.append((job.when(job.course.tokens_after(job.evaluations[0])), self._evaluate))
        nexts.append((max(self.now + POLL_SECONDS, job.claim.lease_ends - RENEW_SECONDS), self._renew))
        at, action = min(nexts, key=lambda pair: pair[0])
        self._after(at - self.now, lambda: action(hand, job))

    @property
    def _is_watched(self) -> bool:
        stopping = self.sweep.config.stopping
        return stopping.name != "none" or stopping.constraint_patience is not None

    def _row(self, job: Job, step: int, *, is_needed: bool = True) -> None:
        """Log what the table has. Raises InputError where that is nothing, and a decision needs it."""
        tokens, share = job.course.tokens_after(step), step / job.course.steps
        if not is_needed and not job.answer.has(share):
            return
        job.metrics = job.answer.at(share)
        job.attempt.run.metrics.append({"step": step, "tokens": tokens, **job.metrics})

    def _rows_until_now(self, job: Job) -> None:
        reached = job.position(self.now)
        while job.evaluations and job.course.tokens_after(job.evaluations[0]) <= reached:
            self._row(job, job.evaluations.popleft(), is_needed=self._is_watched)

    def _evaluate(self, hand: Hand, job: Job) -> None:
        self._row(job, job.evaluations.popleft())
        if hand.study.watch(job.claim) is not None:
            self._stop(hand, job, "given up")
            return
        self._go_on(hand)

    def _renew(self, hand: Hand, job: Job) -> None:
        longer = hand.study.extend(job.claim)
        if longer is not None:
            job.claim = longer
            self._go_on(hand)
            return
        end = job.claim.lease_ends - LEAVE_SECONDS
        if job.when(job.course.tokens) <= end:
            self._after(job.when(job.course.tokens) - self.now, lambda: self._complete(hand, job))
        else:
            self._after(max(0.0, end - self.now), lambda: self._stop(hand, job, "ran out of its lease", expired=True))

    def _complete(self, hand: Hand, job: Job) -> None:
        self._rows_until_now(job)
        self._row(job, job.course.steps)
        self._store(job, job.course.tokens)
        self._settle(hand, job, job.attempt.complete(job.metrics), "complete", job.course.tokens)

    def _stop(self, hand: Hand, job: Job, what: str, *, leaves: bool = False, expired: bool = False) -> None:
        reached = self._reached(job)
        code = job.attempt.stop(reached, job.metrics)
        self._settle(hand, job, code, what, reached, leaves=leaves, expired=expired)

    def _reached(self, job: Job) -> int:
        """The end of the last whole step, with the rows up to it written and the states on the way stored."""
        self._rows_until_now(job)
        step = job.course.step_at(job.position(self.now))
        reached = max(job.start, job.course.tokens_after(step))
        self._store(job, reached)
        trainer = job.course.config.trainer
        logged = step // trainer.log_every_steps * trainer.log_every_steps
        if logged and not (trainer.evaluate_every_steps and logged % trainer.evaluate_every_steps == 0):
            job.attempt.run.metrics.append({"step": logged, "tokens": job.course.tokens_after(logged)})
        return reached

    def _fate(self, hand: Hand, job: Job) -> None:
        if job.fate == "preempted":
            self._stop(hand, job, "preempted", leaves=True)
            return
        reached = self._reached(job)
        every = job.course.config.trainer.checkpoint_every_steps
        saved = job.course.tokens_after(job.course.step_at(reached) // every * every) if every else 0
        if saved > job.start:
            job.attempt.save(saved)
        if job.fate == "crashed":
            self._settle(hand, job, job.attempt.crash(reached), "crashed", reached)
            return
        job.attempt.vanish(at=self.now)
        self._storage.touch(job.claim.run)
        self._book(hand, job, "killed", reached)
        self._leave(hand)
        self._wake()

    def _settle(self, hand: Hand, job: Job, code: int, what: str, reached: int, *, leaves: bool = False, expired: bool = False) -> None:
        self._book(hand, job, what, reached)
        hand.study.settle(job.claim, code, stopping=leaves, expired=expired)
        self._note_end(job.claim)
        if leaves:
            self._leave(hand)
        else:
            self._look(hand)
        self._wake()

    def _book(self, hand: Hand, job: Job, what: str, reached: int) -> None:
        hand.job = None
        del self._at_work[job.claim.run.name]
        self.trained += reached - job.start
        self.held += self.now - job.claimed
        self.happened[what] = self.happened.get(what, 0) + 1

    def _note_end(self, claim: Claim) -> None:
        result = read_result(claim.run)
        # Runs over fresh seeds are no trials of the search.
        if result.state in FINAL_STATES and claim.run.path.parent.parent == self.directory.path:
            # Shorter runs of a trunk search are no answer to its question.
            trial = read_trial(claim.run)
            is_full = trial is None or trial.rung is None or trial.rung == self.sweep.config.search.rungs - 1
            feasible = result.state == "complete" and result.feasible is not False and is_full
            ended = Ended(claim.number, self.now, self.trained, result.state, result.objective, feasible)
            self.history.append(ended)
            self.on_end(ended)

    # Trunks.

    def _trunk(self, course: Course, position: int) -> int:
        """The position of the deepest stored state of a run's path, in tokens; 0 where none lies behind `position`."""
        for step in sorted((step for step in self._stored if step < course.steps), reverse=True):
            if course.tokens_after(step) <= position:
                return 0
            if course.key(step) in self._stored[step]:
                return course.tokens_after(step)
        return 0

    def _store(self, job: Job, reached: int) -> None:
        """Leave the states behind that related trials may go on from."""
        document = read_json(job.claim.run.related_trials)
        relatives = document["relatives"] if document else []
        for step in job.course.leaves(relatives) if relatives else []:
            tokens = job.course.tokens_after(step)
            if not job.start < tokens <= reached:
                continue
            key = job.course.key(step)
            if key not in self._stored.setdefault(step, set()):
                self._stored[step].add(key)
                # What the study's own reckoning of trunks reads; there are no weights.
                self._trunks.store(key, job.claim.run.config, [], TrunkInfo(step=step, tokens=tokens, run=job.claim.run.name))


def asked(table: Table, config: Config, params: dict[str, Any]) -> dict[str, Any]:
    """What a trial has of the parameters that the table tells curves apart by."""
    return {key: params[key] if key in params else _configured(config, key) for key in table.params}


def _configured(config: Config, key: str) -> Any:
    """The value of a key in a configuration, or the kind of a group; None where there is none."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part, None)
    return getattr(value, "name", None) if is_dataclass(value) else value
