"""The books of a study: what has become of its trials, kept in step between the trials' own files and Optuna.

The files are the truth and are written first: whoever dies in between leaves books that the next worker can bring up to date. Everything
here happens under the study's lock.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING

from harness.config.load import load_file
from harness.config.micro_batch import with_smaller_micro_batch
from harness.config.validate import to_plain
from harness.runs.constraints import margins
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.exit_codes import OUT_OF_MEMORY, RESERVED_TOO_LITTLE, STOPPED, TRUNK_UNDER_WAY
from harness.runs.files import read_yaml, write_yaml
from harness.runs.place import Place
from harness.runs.result import CLEAN_STOP, FINAL_STATES, Result, read_result, write_result
from harness.runs.signals import STOP_SIGNALS
from harness.runs.trial import Trial, read_trial, write_trial
from harness.runs.trunks import is_leased
from harness.search.budget import Budget, is_timed, open_budget, untimed_budget
from harness.search.inquiry import Inquiry
from harness.search.storage.contract import StudyStorage
from harness.search.sweep import Sweep

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy

STOPPED_EARLY = tuple(-number for number in (*STOP_SIGNALS, Signals.SIGINT))
"""How an attempt ends that is asked to stop before it can save anything: nothing is lost."""
OUT_OF_MEMORY_REASON = "out of memory"
Clock = Callable[[], float]
"""Seconds since the epoch."""


class Books:
    """What a study knows of its trials, and the only place where they end."""

    def __init__(
        self, directory: StudyDirectory, sweep: Sweep, optuna: OptunaStudy, storage: StudyStorage, inquiry: Inquiry, clock: Clock
    ) -> None:
        self.directory = directory
        self.sweep = sweep
        self._optuna = optuna
        self._storage = storage
        self._inquiry = inquiry
        self._clock = clock
        self.ledger = storage.ledger(optuna._storage, optuna._study_id)

    # Reading.

    def budget(self, instead: dict[int, Result] | None = None) -> Budget:
        """instead: results that are not written yet."""
        config, closed, most = self.sweep.config.budget, self.ledger.closed, self.sweep.most_trials
        if not is_timed(config):
            return untimed_budget(config, self.ledger.standing(instead), now=self._clock(), most_trials=most, ended=closed)
        return open_budget(config, self.ledger.under_way(instead), now=self._clock(), most_trials=most, ended=closed)

    # Settling.

    def settle(self, run: RunDirectory, exit_code: int, *, stopping: bool, expired: str | None, why: str | None = None) -> Result:
        """Book what became of an attempt: the end of the trial, or leave it for another attempt."""
        self.ledger.touch(int(run.path.name))  # by its attempt
        trial = self._close(run, self._clock())
        result = read_result(run)
        if result.state in FINAL_STATES:
            self._finish(run, result)
        elif trial and trial.given_up:
            self._give_up(run, result, trial.given_up)
        elif expired is not None:
            if result.state == "running":
                _book_unreported_tokens(run, result)
            self.fail(run, result, expired)
        elif exit_code == STOPPED or (stopping and exit_code in STOPPED_EARLY):
            self._leave(run, result, CLEAN_STOP)
        elif exit_code == TRUNK_UNDER_WAY:
            self._leave(run, result, result.reason or "waits for a trunk")
        elif exit_code == RESERVED_TOO_LITTLE:
            self._reserve_all(run, result)
        elif why is not None:
            self._book_crash(run, result, why)
        elif exit_code == OUT_OF_MEMORY:
            self._book_out_of_memory(run, result)
        else:
            # What a killed process left as its reason is an earlier attempt's.
            self._book_crash(run, result, _death(exit_code) if exit_code <= 0 else result.reason or _death(exit_code))
        return result

    def _reserve_all(self, run: RunDirectory, result: Result) -> None:
        """Its trunk is gone: reserve what it takes to train the trunk again, if the budget holds it."""
        trial = read_trial(run)
        assert trial is not None, "a claimed trial is on disk"
        assert trial.params is not None, "a claimed trial has its values"
        trial.tokens = self.sweep.trial_tokens(trial.params)
        self._write_trial(run, trial)
        if self.budget().is_overdrawn:
            self.fail(run, result, f"{result.reason}, and the token budget cannot hold it")
        else:
            self._leave(run, result, result.reason or "its trunk is gone")

    def _close(self, run: RunDirectory, end: float) -> Trial | None:
        """Write down how long the attempt took that ended at `end`; before its result is booked, so that no time is lost."""
        trial = read_trial(run)
        if trial is not None and trial.began is not None:
            trial.spans.append([trial.began, max(trial.began, end)])
            trial.began = trial.lease = None
            self._write_trial(run, trial)
        return trial

    def _give_up(self, run: RunDirectory, result: Result, reason: str) -> None:
        if result.state == "running":
            _book_unreported_tokens(run, result)  # it was killed before it could say how far it had got
        result.state, result.reason = "pruned", reason
        self._finish(run, result)

    def _finish(self, run: RunDirectory, result: Result) -> None:
        """Judge a trial whose training ended, on disk first: if we die here, whoever reconciles does the rest."""
        objectives = [objective.metric for objective in self.sweep.objectives]
        violations: dict[str, float] = {}
        if result.state == "complete":
            missing = [metric for metric in (*objectives, *self.sweep.config.constraints) if metric not in result.metrics]
            if missing:
                self.fail(run, result, f"{', '.join(missing)}: no finite value was logged")
                return
            result.objective = result.metrics[objectives[0]]
            violations = violations_of(self.sweep, result.metrics)
            result.feasible = all(value <= 0 for value in violations.values()) if violations else None
        elif result.state == "pruned" and all(metric in result.metrics for metric in self.sweep.config.constraints):
            violations = violations_of(self.sweep, result.metrics)
        result.booked_attempts = result.attempts
        self._write_result(run, result)
        self._tell(run, result, violations)

    def _tell(self, run: RunDirectory, result: Result, violations: dict[str, float]) -> None:
        from optuna.trial import Trial as OptunaTrial
        from optuna.trial import TrialState

        number = int(run.path.name)
        trial = OptunaTrial(self._optuna, self.ledger.frozen(number)._trial_id)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of constraints that are set already, by a worker that died before it told the rest
            for name, value in violations.items():
                trial.set_constraint(name, value)
        values = [result.metrics[objective.metric] for objective in self.sweep.objectives] if result.state == "complete" else None
        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
        self._optuna.tell(number, values, states.get(result.state, TrialState.FAIL))
        self.ledger.touch(number)

    def fail(self, run: RunDirectory, result: Result, reason: str) -> None:
        """End a trial that no further attempt would help."""
        result.state, result.reason, result.booked_attempts = "failed", reason, result.attempts
        self._write_result(run, result)
        self._tell(run, result, {})

    def _book_crash(self, run: RunDirectory, result: Result, reason: str) -> None:
        """Count an attempt that ended badly, and what it may have trained; leave the trial for another one, or fail it."""
        result.failures += 1
        if result.state == "running":
            # It died without a word: all up to the next row, which it did not write, may have been trained.
            _book_unreported_tokens(run, result)
        if result.failures >= self.sweep.config.search.max_attempts:
            self.fail(run, result, f"{reason} (attempt {result.failures} of {self.sweep.config.search.max_attempts})")
        elif self.budget({int(run.path.name): result}).is_overdrawn:
            self.fail(run, result, f"{reason}; the token budget cannot hold another attempt")
        else:
            self._leave(run, result, reason)

    def _book_out_of_memory(self, run: RunDirectory, result: Result) -> None:
        """Fail the trial, or leave it for another attempt that needs less memory."""
        if result.state == "running":  # it was killed
            _book_unreported_tokens(run, result)
        said = result.reason if result.reason and result.reason.startswith(OUT_OF_MEMORY_REASON) else OUT_OF_MEMORY_REASON
        config = load_file(run.config)
        smaller = with_smaller_micro_batch(config) if self.sweep.config.search.out_of_memory == "halve_micro_batch" else None
        if smaller is None:
            self.fail(run, result, said)
        elif self.budget({int(run.path.name): result}).is_overdrawn:
            self.fail(run, result, f"{said}; the token budget cannot hold another attempt")
        else:
            write_yaml(run.config, to_plain(smaller))
            self._leave(run, result, f"{said}; once more with trainer.micro_batch_size={smaller.trainer.micro_batch_size}")

    def _book_interruption(self, run: RunDirectory, result: Result) -> None:
        """Like a crash, but it was none of the trial's doing: it may happen any number of times, as long as the budget holds it."""
        if result.state == "running":
            _book_unreported_tokens(run, result)
        reason = "its job was interrupted"
        if self.budget({int(run.path.name): result}).is_overdrawn:
            self.fail(run, result, f"{reason}; the token budget cannot hold another attempt")
        else:
            self._leave(run, result, reason)

    def _leave(self, run: RunDirectory, result: Result, reason: str) -> None:
        """Leave a trial to whoever comes by. On disk first: if we die in between, whoever reconciles counts nothing twice."""
        from optuna.trial import TrialState

        result.state, result.reason, result.booked_attempts = "waiting", reason, result.attempts
        self._write_result(run, result)
        trial = read_trial(run)
        if trial is not None:
            trial.worker = None
            self._write_trial(run, trial)
        number = int(run.path.name)
        # Optuna's ask() hands waiting trials out again; there is no public way to make one waiting.
        self._optuna._storage.set_trial_state_values(self.ledger.frozen(number)._trial_id, TrialState.WAITING)
        self.ledger.touch(number)

    def _write_result(self, run: RunDirectory, result: Result) -> None:
        write_result(run, result)
        self.ledger.touch(int(run.path.name))

    def _write_trial(self, run: RunDirectory, trial: Trial) -> None:
        write_trial(run, trial)
        self.ledger.touch(trial.number)

    # Looking after what others left.

    def reconcile(self) -> tuple[list[int], int]:
        """Settle or free the trials whose processes are gone; which ones then wait, and how many are under way elsewhere."""
        running = self.ledger.running()
        workers = {worker for worker in running.values() if worker}
        living = self._storage.living(workers) if workers else set()
        left = sorted(number for number, worker in running.items() if worker not in living)
        under_way = len(running) - len(left)
        for number in left:
            run = self.ledger.run(number)
            if run.is_attempted():
                under_way += 1
                continue
            fate = self._inquiry.fate(_place(self.ledger.trial(number)))
            if fate == "alive":
                under_way += 1
                continue
            trial = self._close(run, _last_seen(run, self._clock()))
            result = read_result(run)
            if result.state in FINAL_STATES:
                self._finish(run, result)
            elif trial and trial.given_up:
                self._give_up(run, result, trial.given_up)
            elif result.attempts == result.booked_attempts:
                self._leave(run, result, result.reason or "its worker died before it began")
            elif result.state == "waiting" and result.reason == CLEAN_STOP:
                self._leave(run, result, CLEAN_STOP)  # its worker died before it could say so
            elif fate == "out_of_memory":
                self._book_out_of_memory(run, result)
            elif fate == "interrupted":
                self._book_interruption(run, result)
            else:
                self._book_crash(run, result, result.reason or "its worker died")
        free = []
        for number in self.ledger.waiting():
            waits_for = read_result(self.directory.trial(number)).waits_for
            if waits_for is not None and is_leased(Path(waits_for)):
                under_way += 1  # as good as: whoever trains its trunk is at work
            else:
                free.append(number)
        return free, under_way


def _place(trial: Trial | None) -> Place | None:
    """Where whoever works on it took it up."""
    visits = trial.visits if trial and trial.worker else []
    return visits[-1].place if visits else None


def _last_seen(run: RunDirectory, now: float) -> float:
    """When an attempt whose worker died was over at the latest: it may have run to the end of its lease.

    Without one no limit hangs on it, and what it wrote last says enough.
    """
    trial = read_trial(run)
    if trial is not None and trial.lease is not None:
        return min(now, trial.lease_ends)
    return max((path.stat().st_mtime for path in (run.result, run.metrics.path) if path.exists()), default=0.0)


def _death(exit_code: int) -> str:
    if exit_code < 0:
        names = {signal.value: signal.name for signal in Signals}
        return f"killed by {names.get(-exit_code, f'signal {-exit_code}')}"
    return f"its process ended with exit code {exit_code}"


def _book_unreported_tokens(run: RunDirectory, result: Result) -> None:
    if not result.tokens.budgeted:
        return  # it died before it had a plan
    newest = run.metrics.newest()
    trainer = read_yaml(run.config)["trainer"]
    reached = (newest["tokens"] if newest else 0) + trainer["log_every_steps"] * trainer["batch_tokens"]
    end = result.tokens.budgeted + result.tokens.shared
    result.tokens.trained += max(0, min(reached, end) - result.tokens.position)


def violations_of(sweep: Sweep, metrics: dict[str, float]) -> dict[str, float]:
    """By constraint, how far it is broken; <= 0 where it holds, as Optuna wants it."""
    return margins(sweep.constraints, metrics)
