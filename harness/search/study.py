"""A study at work: who claims which trial, and what comes of it. Optuna proposes and remembers; the trials' own files are the truth.

Every step happens under the study's lock. A trial that has not ended belongs to the process that holds its attempt lock, or to the
worker that claimed it and holds its worker lock; when neither lives, the next worker that comes by takes the trial over, with its
number, its parameters and its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from signal import Signals
from typing import TYPE_CHECKING, Literal

from harness.config.errors import InputError
from harness.config.validate import to_plain
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.exit_codes import STOPPED
from harness.runs.files import read_yaml, write_yaml
from harness.runs.locks import hold, is_held
from harness.runs.record import load_study
from harness.runs.result import FINAL_STATES, Result, read_result, write_result
from harness.runs.trial import Trial, read_trial, write_trial
from harness.search.budget import Budget, open_budget
from harness.search.samplers import build_sampler
from harness.search.sweep import Sweep
from harness.search.workers import threads_per_worker, worker_lock

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy

LOCK_SECONDS = 120.0
"""A claim takes milliseconds: a lock held for longer means that something is badly wrong."""


@dataclass(frozen=True)
class Claim:
    """A trial that a worker has to itself until it settles it."""

    number: int
    run: RunDirectory


Answer = Claim | Literal["wait", "done"]
"""wait: nothing to do now, but trials under way may yet be left to others, or free budget; done: nothing will come any more."""


class Study:
    """The one door to a study for a worker."""

    def __init__(self, directory: StudyDirectory, sweep: Sweep, worker: str) -> None:
        self.directory = directory
        self.sweep = sweep
        self.worker = worker
        with self._locked():
            self._optuna = _open(directory, sweep.config.objective.direction)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = hold(self.directory.lock, wait_seconds=LOCK_SECONDS)
        if lock is None:
            raise TimeoutError(f"{self.directory.lock} has been held by another process for {LOCK_SECONDS:.0f} s")
        try:
            yield
        finally:
            lock.release()

    # Claiming.

    def claim(self) -> Answer:
        """Take over a trial that was left, or start a new one if the budget holds it."""
        with self._locked():
            if self.directory.stop_request.exists():
                return "done"
            waiting, under_way = self._reconcile()
            if not waiting:
                number = len(self._optuna.get_trials(deepcopy=False))
                # It exists already if a worker died between these two lines and Optuna's.
                if read_trial(self.directory.trial(number)) is None:
                    if not self._budget().has_room_for(self.sweep.largest_trial_tokens):
                        return "wait" if under_way else "done"
                    # The reservation comes first: whatever happens from here on, the budget knows of this trial.
                    reservation = Trial(number=number, params=None, tokens=self.sweep.largest_trial_tokens, worker=self.worker)
                    write_trial(self.directory.trial(number), reservation)
                self._optuna.sampler = build_sampler(self.sweep.config.search, number)
            return self._take()

    def _take(self) -> Claim:
        # Waiting trials come first, the lowest number before the others, with the values they were given.
        trial = self._optuna.ask()
        run = self.directory.trial(trial.number)
        known = read_trial(run)
        params = known.params if known and known.params is not None else self.sweep.space.suggest(trial)
        write_trial(run, Trial(number=trial.number, params=params, tokens=self.sweep.trial_tokens(params), worker=self.worker))
        return Claim(trial.number, run)

    def prepare(self, claim: Claim) -> bool:
        """Write the trial's configuration; False, and the trial is failed, when its values do not go together."""
        if claim.run.config.exists():
            return True
        trial = read_trial(claim.run)
        assert trial is not None, "a claimed trial is on disk"
        assert trial.params is not None, "a claimed trial has its values"
        try:
            config = self.sweep.trial_config(trial.params)
        except InputError as error:
            with self._locked():
                self._fail(claim.run, read_result(claim.run), str(error))
            return False
        if config.trainer.threads is None:
            config.trainer.threads = threads_per_worker(self.sweep.config.launcher.workers)
        write_yaml(claim.run.config, to_plain(config))
        return True

    # Settling.

    def settle(self, claim: Claim, exit_code: int) -> Result:
        """Book what became of an attempt: the end of the trial, or leave it for another attempt."""
        with self._locked():
            result = read_result(claim.run)
            if result.state in FINAL_STATES:
                self._finish(claim.run, result)
            elif exit_code == STOPPED:
                self._leave(claim.run, result, "stopped")
            else:
                self._book_crash(claim.run, result, result.reason or _death(exit_code))
            return result

    def _finish(self, run: RunDirectory, result: Result) -> None:
        """Judge a trial whose training ended, on disk first: if we die here, whoever reconciles does the rest."""
        objective = self.sweep.config.objective
        violations: dict[str, float] = {}
        if result.state == "complete":
            missing = [metric for metric in (objective.metric, *self.sweep.config.constraints) if metric not in result.metrics]
            if missing:
                self._fail(run, result, f"{', '.join(missing)} was never logged")
                return
            result.objective = result.metrics[objective.metric]
            violations = self._violations(result.metrics)
            result.feasible = all(value <= 0 for value in violations.values()) if violations else None
            write_result(run, result)
        self._tell(run, result, violations)

    def _violations(self, metrics: dict[str, float]) -> dict[str, float]:
        """By constraint, how far it is broken; <= 0 where it holds, as Optuna wants it."""
        found: dict[str, float] = {}
        for metric, bound in self.sweep.config.constraints.items():
            if bound.max is not None:
                found[f"{metric} <= {bound.max}"] = metrics[metric] - bound.max
            if bound.min is not None:
                found[f"{metric} >= {bound.min}"] = bound.min - metrics[metric]
        return found

    def _tell(self, run: RunDirectory, result: Result, violations: dict[str, float]) -> None:
        from optuna.trial import Trial as OptunaTrial
        from optuna.trial import TrialState

        number = int(run.path.name)
        frozen = self._optuna.get_trials(deepcopy=False)[number]
        trial = OptunaTrial(self._optuna, frozen._trial_id)
        for name, value in violations.items():
            trial.set_constraint(name, value)
        complete = result.state == "complete"
        self._optuna.tell(number, result.objective if complete else None, TrialState.COMPLETE if complete else TrialState.FAIL)
        self._release(run)

    def _fail(self, run: RunDirectory, result: Result, reason: str) -> None:
        result.state, result.reason = "failed", reason
        write_result(run, result)
        self._tell(run, result, {})

    def _book_crash(self, run: RunDirectory, result: Result, reason: str) -> None:
        """Count an attempt that ended badly, and what it may have trained; leave the trial for another one, or fail it."""
        result.failures += 1
        if result.state == "running":
            # It died without a word: all up to the next row, which it did not write, may have been trained.
            _book_unreported_tokens(run, result)
        if result.failures >= self.sweep.config.search.max_attempts:
            self._fail(run, result, f"{reason} (attempt {result.failures} of {self.sweep.config.search.max_attempts})")
            return
        result.state = "waiting"
        write_result(run, result)
        if self._budget().is_overdrawn:
            self._fail(run, result, f"{reason}; the token budget cannot hold another attempt")
            return
        self._leave(run, result, reason)

    def _leave(self, run: RunDirectory, result: Result, reason: str) -> None:
        from optuna.trial import TrialState

        result.state, result.reason = "waiting", reason
        write_result(run, result)
        frozen = self._optuna.get_trials(deepcopy=False)[int(run.path.name)]
        # Optuna's ask() hands waiting trials out again; there is no public way to make one waiting.
        self._optuna._storage.set_trial_state_values(frozen._trial_id, TrialState.WAITING)
        self._release(run)

    def _release(self, run: RunDirectory) -> None:
        trial = read_trial(run)
        if trial is not None:
            trial.worker = None
            write_trial(run, trial)

    # Looking after what others left.

    def _reconcile(self) -> tuple[int, int]:
        """Settle or free the trials whose processes are gone; how many then wait, and how many are under way elsewhere."""
        from optuna.trial import TrialState

        under_way = 0
        for frozen in self._optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            run = self.directory.trial(frozen.number)
            trial, result = read_trial(run), read_result(run)
            if run.is_attempted() or (trial and trial.worker and is_held(worker_lock(self.directory, trial.worker))):
                under_way += 1
            elif result.state in FINAL_STATES:
                self._finish(run, result)
            elif trial is None or result.attempts == 0:
                self._leave(run, result, "its worker died before it began")
            else:
                self._book_crash(run, result, "its worker died")
        return len(self._optuna.get_trials(deepcopy=False, states=(TrialState.WAITING,))), under_way

    def _budget(self) -> Budget:
        return open_budget(self.sweep.config.budget, load_study(self.directory).runs)


def _death(exit_code: int) -> str:
    if exit_code < 0:
        return f"killed by {Signals(-exit_code).name}"
    return f"its process ended with exit code {exit_code}"


def _book_unreported_tokens(run: RunDirectory, result: Result) -> None:
    last = run.metrics.last()
    trainer = read_yaml(run.config)["trainer"]
    reached = (last["tokens"] if last else 0) + trainer["log_every_steps"] * trainer["batch_tokens"]
    reached = min(reached, result.tokens.budgeted or reached)
    result.tokens.trained += max(0, reached - result.tokens.position)


def _open(directory: StudyDirectory, direction: Literal["minimize", "maximize"]) -> OptunaStudy:
    import optuna

    from harness.search.journal import open_journal

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(storage=open_journal(directory.journal), study_name=directory.name, direction=direction, load_if_exists=True)
