"""A study at work: who claims which trial, and what comes of it. Optuna proposes and remembers; the trials' own files are the truth.

Every step happens under the study's lock. A trial that has not ended belongs to the process that holds its attempt lock, or to the
worker that claimed it and holds its worker lock; when neither lives, the next worker that comes by takes the trial over, with its
number, its parameters and its last checkpoint.
"""

from __future__ import annotations

import warnings
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
from harness.runs.record import RunRecord
from harness.runs.result import FINAL_STATES, Result, read_result, write_result
from harness.runs.trial import Trial, read_trial, write_trial
from harness.search.budget import Budget, open_budget
from harness.search.samplers import build_sampler
from harness.search.sweep import Sweep
from harness.search.workers import threads_per_worker, worker_lock

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy

STOPPED_EARLY = (-Signals.SIGTERM, -Signals.SIGINT)
"""How an attempt ends that is asked to stop before it can save anything: nothing is lost."""
CLEAN_STOP = "stopped"
"""The reason of a trial whose attempt saved a checkpoint and left as it was asked to."""
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
        self._ended: dict[int, RunRecord] = {}
        """Trials that Optuna knows to have ended: their files do not change any more."""
        # Composes every choice of a group: not while others wait for the lock.
        self._largest_trial_tokens = sweep.largest_trial_tokens
        with self._locked():
            self._optuna = _open(directory, sweep.config.objective.direction)
        self._failed_before = {record.number for record in self._records() if record.result.state == "failed"}

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
        """Take over a trial that was left, or start a new one if the budget holds it.

        Raises InputError when trials fail for one and the same reason since this worker started, and none is complete.
        """
        with self._locked():
            if self.directory.stop_request.exists():
                return "done"
            waiting, under_way = self._reconcile()
            self._refuse_to_burn_the_budget()
            if waiting:
                return self._take(waiting[0])
            number = len(self._optuna.get_trials(deepcopy=False))
            # It is there already if a worker died between these lines and Optuna's.
            if read_trial(self.directory.trial(number)) is None:
                if not self._budget().has_room_for(self._largest_trial_tokens):
                    return "wait" if under_way else "done"
                # The reservation comes first: whatever happens from here on, the budget knows of this trial.
                reservation = Trial(number=number, params=None, tokens=self._largest_trial_tokens, worker=self.worker)
                write_trial(self.directory.trial(number), reservation)
            return self._take(number)

    def _take(self, number: int) -> Claim:
        # By its number, whoever asks, and however often: a proposal that was half made when its worker died is made again.
        self._optuna.sampler = build_sampler(self.sweep.config.search, number)
        # Waiting trials come first, the lowest number before the others, with the values they were given.
        trial = self._optuna.ask()
        assert trial.number == number, f"Optuna handed out trial {trial.number} for {number}"
        run = self.directory.trial(number)
        known = read_trial(run)
        params = known.params if known and known.params is not None else self.sweep.space.suggest(trial)
        write_trial(run, Trial(number=number, params=params, tokens=self.sweep.trial_tokens(params), worker=self.worker))
        return Claim(number, run)

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

    def settle(self, claim: Claim, exit_code: int, *, stopping: bool = False) -> Result:
        """Book what became of an attempt: the end of the trial, or leave it for another attempt.

        stopping: whether the worker is on its way out, and has asked the attempt to end.
        """
        with self._locked():
            result = read_result(claim.run)
            if result.state in FINAL_STATES:
                self._finish(claim.run, result)
            elif exit_code == STOPPED or (stopping and exit_code in STOPPED_EARLY):
                self._leave(claim.run, result, CLEAN_STOP)
            else:
                # What a killed process left as its reason is an earlier attempt's.
                self._book_crash(claim.run, result, _death(exit_code) if exit_code <= 0 else result.reason or _death(exit_code))
            return result

    def _finish(self, run: RunDirectory, result: Result) -> None:
        """Judge a trial whose training ended, on disk first: if we die here, whoever reconciles does the rest."""
        objective = self.sweep.config.objective
        violations: dict[str, float] = {}
        if result.state == "complete":
            missing = [metric for metric in (objective.metric, *self.sweep.config.constraints) if metric not in result.metrics]
            if missing:
                self._fail(run, result, f"{', '.join(missing)}: no finite value was logged")
                return
            result.objective = result.metrics[objective.metric]
            violations = self._violations(result.metrics)
            result.feasible = all(value <= 0 for value in violations.values()) if violations else None
        result.booked_attempts = result.attempts
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of constraints that are set already, by a worker that died before it told the rest
            for name, value in violations.items():
                trial.set_constraint(name, value)
        complete = result.state == "complete"
        self._optuna.tell(number, result.objective if complete else None, TrialState.COMPLETE if complete else TrialState.FAIL)

    def _fail(self, run: RunDirectory, result: Result, reason: str) -> None:
        result.state, result.reason, result.booked_attempts = "failed", reason, result.attempts
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
        elif self._budget({int(run.path.name): result}).is_overdrawn:
            self._fail(run, result, f"{reason}; the token budget cannot hold another attempt")
        else:
            self._leave(run, result, reason)

    def _leave(self, run: RunDirectory, result: Result, reason: str) -> None:
        """Leave a trial to whoever comes by. On disk first: if we die in between, whoever reconciles counts nothing twice."""
        from optuna.trial import TrialState

        result.state, result.reason, result.booked_attempts = "waiting", reason, result.attempts
        write_result(run, result)
        trial = read_trial(run)
        if trial is not None:
            trial.worker = None
            write_trial(run, trial)
        frozen = self._optuna.get_trials(deepcopy=False)[int(run.path.name)]
        # Optuna's ask() hands waiting trials out again; there is no public way to make one waiting.
        self._optuna._storage.set_trial_state_values(frozen._trial_id, TrialState.WAITING)

    # Looking after what others left.

    def _reconcile(self) -> tuple[list[int], int]:
        """Settle or free the trials whose processes are gone; which ones then wait, and how many are under way elsewhere."""
        from optuna.trial import TrialState

        under_way = 0
        for frozen in self._optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            run = self.directory.trial(frozen.number)
            trial, result = read_trial(run), read_result(run)
            if run.is_attempted() or (trial and trial.worker and is_held(worker_lock(self.directory, trial.worker))):
                under_way += 1
            elif result.state in FINAL_STATES:
                self._finish(run, result)
            elif result.attempts == result.booked_attempts:
                self._leave(run, result, result.reason or "its worker died before it began")
            elif result.state == "waiting" and result.reason == CLEAN_STOP:
                self._leave(run, result, CLEAN_STOP)  # its worker died before it could say so
            else:
                self._book_crash(run, result, result.reason or "its worker died")
        return [trial.number for trial in self._optuna.get_trials(deepcopy=False, states=(TrialState.WAITING,))], under_way

    def _records(self, instead: dict[int, Result] | None = None) -> list[RunRecord]:
        """All trials, a reservation that Optuna has not heard of yet among them. instead: results that are not written yet."""
        trials = self._optuna.get_trials(deepcopy=False)
        records = []
        for number in range(len(trials) + 1):
            record = self._ended.get(number)
            if record is None:
                run = self.directory.trial(number)
                trial = read_trial(run)
                if trial is None:
                    continue
                result = (instead or {}).get(number) or read_result(run)
                record = RunRecord(run, result, self.directory.name, trial, result.state)
                if number < len(trials) and trials[number].state.is_finished():
                    self._ended[number] = record
            records.append(record)
        return records

    def _budget(self, instead: dict[int, Result] | None = None) -> Budget:
        return open_budget(self.sweep.config.budget, self._records(instead))

    def _refuse_to_burn_the_budget(self) -> None:
        """Raise InputError when what keeps trials from running is no matter of their values."""
        records = self._records()
        if any(record.result.state == "complete" for record in records):
            return
        failed = [record for record in records if record.result.state == "failed" and record.number not in self._failed_before]
        for reason in {record.result.reason for record in failed}:
            alike = [str(record.number) for record in failed if record.result.reason == reason]
            if len(alike) >= self.sweep.config.search.max_failures:
                raise InputError(
                    f"trials {', '.join(alike)} failed alike and none is complete, so no further one starts (search.max_failures="
                    f"{self.sweep.config.search.max_failures}): {reason}"
                )


def _death(exit_code: int) -> str:
    if exit_code < 0:
        names = {signal.value: signal.name for signal in Signals}
        return f"killed by {names.get(-exit_code, f'signal {-exit_code}')}"
    return f"its process ended with exit code {exit_code}"


def _book_unreported_tokens(run: RunDirectory, result: Result) -> None:
    if not result.tokens.budgeted:
        return  # it died before it had a plan
    last = run.metrics.last()
    trainer = read_yaml(run.config)["trainer"]
    reached = (last["tokens"] if last else 0) + trainer["log_every_steps"] * trainer["batch_tokens"]
    result.tokens.trained += max(0, min(reached, result.tokens.budgeted) - result.tokens.position)


def _open(directory: StudyDirectory, direction: Literal["minimize", "maximize"]) -> OptunaStudy:
    import optuna

    from harness.search.journal import open_journal

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(storage=open_journal(directory.journal), study_name=directory.name, direction=direction, load_if_exists=True)
