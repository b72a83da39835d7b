"""How trials end: what an attempt has come to is decided here, and written to the trial's files and to Optuna.

The ways in which an attempt ends, and the state that each makes, are in `harness.runs.lifecycle`; here the study has its say: whether a
complete trial has its metrics, and whether another attempt is allowed. Files are written first: when a worker dies in between, the next
one finds in them what is left to do. Everything here happens under the study's lock.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config.load import load_file
from harness.config.micro_batch import with_smaller_micro_batch
from harness.config.validate import to_plain
from harness.runs.constraints import margins
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.files import write_yaml
from harness.runs.lifecycle import Ending, EndingKind, book, book_unreported_tokens, ending_of_lost, ending_of_process
from harness.runs.locks import is_held
from harness.runs.result import FINAL_STATES, Result, read_result, write_result
from harness.runs.trial import Trial, claimed_trial, read_trial, write_trial
from harness.search.budget import Budget
from harness.search.job_lookup import JobLookup
from harness.search.storage.contract import StudyStorage
from harness.search.sweep import Sweep
from harness.search.trial_index import TrialIndex

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy

Clock = Callable[[], float]
"""Seconds since the epoch."""


@dataclass(frozen=True)
class Settler:
    """Settles the attempts of a study. No other place ends a trial."""

    directory: StudyDirectory
    sweep: Sweep
    optuna: OptunaStudy
    storage: StudyStorage
    index: TrialIndex
    job_lookup: JobLookup
    clock: Clock
    budget: Callable[[dict[int, Result]], Budget]
    """What the study may still spend, given results that are not written yet."""

    def settle(self, run: RunDirectory, exit_code: int, *, stopping: bool, expired: str | None, why: str | None = None) -> Result:
        """Book the end of an attempt; the trial's result. See `Study.settle`."""

        def ending_of(result: Result) -> Ending:
            ending = ending_of_process(result, exit_code, was_asked=stopping)
            if expired is not None and ending.state == "waiting":
                return Ending(EndingKind.FAILED, expired)
            if why is not None and ending.kind in (EndingKind.CRASHED, EndingKind.OUT_OF_MEMORY):
                return Ending(EndingKind.CRASHED, why)
            return ending

        self.index.touch(int(run.path.name))  # by its attempt
        return self._settle(run, self.clock(), ending_of)

    def fail(self, run: RunDirectory, reason: str) -> None:
        """End a trial on which no attempt works, and which no attempt would help."""
        self._book(run, read_result(run), Ending(EndingKind.FAILED, reason))

    def _settle(self, run: RunDirectory, end: float, ending_of: Callable[[Result], Ending]) -> Result:
        """Book an attempt that was over at `end`, in seconds since the epoch."""
        trial, result = read_trial(run), read_result(run)
        given_up = trial.given_up if trial and result.state not in FINAL_STATES else None
        ending = ending_of(result) if given_up is None else Ending(EndingKind.PRUNED, given_up)
        # Its time first, so that none is lost if we die here.
        is_costly = ending.kind is not EndingKind.MACHINE_FAULT
        self._close(run, trial, end, is_costly=is_costly)
        if is_costly and ending.kind is not EndingKind.STOPPED:  # else nothing was lost, even where it could not save yet
            book_unreported_tokens(run, result)
        self._book(run, result, ending)
        return result

    def _close(self, run: RunDirectory, trial: Trial | None, end: float, *, is_costly: bool) -> None:
        """The attempt is over: record how long it took, where that is the trial's."""
        if trial is not None and trial.began is not None:
            if is_costly:
                trial.spans.append([trial.began, max(trial.began, end)])
            trial.began = trial.lease = None
            self._write_trial(run, trial)

    def _book(self, run: RunDirectory, result: Result, ending: Ending) -> None:
        """Decide the trial's state and write it: on disk first, so that the next worker can finish if this one dies."""
        book(result, ending)
        verdict = self._verdict(run, result, ending)
        if verdict != ending:
            book(result, verdict)
        write_result(run, result)
        self.index.touch(int(run.path.name))
        if result.state in FINAL_STATES:
            self.record_end(run, result)
        else:
            self._free(run)

    def _verdict(self, run: RunDirectory, result: Result, ending: Ending) -> Ending:
        """The ending, or FAILED where a metric is missing or no further attempt is allowed."""
        match ending.kind:
            case EndingKind.COMPLETE:
                return self._judge(result, ending)
            case EndingKind.RESERVED_TOO_LITTLE:
                self._reserve_all(run)
            case EndingKind.CRASHED:
                most = self.sweep.config.search.max_attempts
                if result.failures >= most:
                    return Ending(EndingKind.FAILED, f"{ending.reason} (attempt {result.failures} of {most})")
            case EndingKind.OUT_OF_MEMORY:
                return self._with_less_memory(run, result, ending)
            case EndingKind.INTERRUPTED:
                pass
            case EndingKind.STOPPED if result.tokens.read:
                pass  # where nothing is trained nothing is saved: it reads all of it again
            case _:
                return ending
        return self._within_budget(run, result, ending)

    def _within_budget(self, run: RunDirectory, result: Result, ending: Ending) -> Ending:
        if not self.budget({int(run.path.name): result}).is_overdrawn:
            return ending
        return Ending(EndingKind.FAILED, f"{ending.reason}; the token budget cannot hold another attempt")

    def _judge(self, result: Result, ending: Ending) -> Ending:
        objectives = [objective.metric for objective in self.sweep.objectives]
        missing = [metric for metric in (*objectives, *self.sweep.config.constraints) if metric not in result.metrics]
        if missing:
            return Ending(EndingKind.FAILED, f"{', '.join(missing)}: no finite value was logged")
        result.objective = result.metrics[objectives[0]]
        violations = margins(self.sweep.constraints, result.metrics)
        result.feasible = all(value <= 0 for value in violations.values()) if violations else None
        return ending

    def _reserve_all(self, run: RunDirectory) -> None:
        """Its trunk is gone: reserve the tokens to train it again."""
        trial = claimed_trial(run)
        assert trial.params is not None, "a claimed trial has its values"
        trial.tokens = self.sweep.trial_tokens(trial.params)
        self._write_trial(run, trial)

    def _with_less_memory(self, run: RunDirectory, result: Result, ending: Ending) -> Ending:
        """Try the trial again with a smaller micro-batch, if that is wanted and possible."""
        config = load_file(run.config)
        smaller = with_smaller_micro_batch(config) if self.sweep.config.search.out_of_memory == "halve_micro_batch" else None
        if smaller is None:
            return Ending(EndingKind.FAILED, ending.reason)
        verdict = self._within_budget(run, result, ending)
        if verdict == ending:
            write_yaml(run.config, to_plain(smaller))
            verdict = replace(ending, reason=f"{ending.reason}; once more with trainer.micro_batch_size={smaller.trainer.micro_batch_size}")
        return verdict

    def record_end(self, run: RunDirectory, result: Result) -> None:
        """Tell Optuna that the trial has ended."""
        from optuna.trial import Trial as OptunaTrial
        from optuna.trial import TrialState

        number = int(run.path.name)
        trial = OptunaTrial(self.optuna, self.index.optuna_id(number))
        metrics_known = all(metric in result.metrics for metric in self.sweep.config.constraints)
        violations = margins(self.sweep.constraints, result.metrics) if result.state != "failed" and metrics_known else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of constraints that are set already, by a worker that died before it told the rest
            for name, value in violations.items():
                trial.set_constraint(name, value)
        values = [result.metrics[objective.metric] for objective in self.sweep.objectives] if result.state == "complete" else None
        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
        self.optuna.tell(number, values, states.get(result.state, TrialState.FAIL))
        self.index.touch(number)

    def _free(self, run: RunDirectory) -> None:
        """Leave the trial to the next worker."""
        from optuna.trial import TrialState

        trial = read_trial(run)
        if trial is not None:
            trial.worker = None
            self._write_trial(run, trial)
        number = int(run.path.name)
        # Optuna's ask() hands waiting trials out again; there is no public way to make one waiting.
        self.optuna._storage.set_trial_state_values(self.index.optuna_id(number), TrialState.WAITING)
        self.index.touch(number)

    def _write_trial(self, run: RunDirectory, trial: Trial) -> None:
        write_trial(run, trial)
        self.index.touch(trial.number)

    # Trials of dead workers.

    def reconcile(self) -> tuple[list[int], int]:
        """Settle the trials whose worker and attempt are gone. Returns the numbers of those that may be claimed now, in order, and how many
        others are under way."""
        running = self.index.running()
        workers = {worker for worker in running.values() if worker}
        living = self.storage.living(workers) if workers else set()
        left = sorted(number for number, worker in running.items() if worker not in living)
        under_way = len(running) - len(left)
        for number in left:
            run = self.index.run(number)
            if run.is_attempted():
                under_way += 1
                continue
            trial = self.index.trial(number)
            outcome = self.job_lookup.outcome(trial.place if trial and trial.worker else None)
            if trial and trial.worker and self.directory.fault_note(trial.worker).exists():
                outcome = "machine_fault"
            if outcome == "alive":
                under_way += 1
                continue
            self._settle(run, _last_seen(run, self.clock()), partial(ending_of_lost, outcome=outcome))
        free = []
        for number in self.index.waiting():
            waits_for = read_result(self.directory.trial(number)).waits_for
            if waits_for is not None and is_held(Path(waits_for)):
                under_way += 1  # as good as: whoever trains its trunk is at work
            else:
                free.append(number)
        return free, under_way


def _last_seen(run: RunDirectory, now: float) -> float:
    """When an attempt whose worker died was over at the latest: at the end of its lease; without one, when it last wrote something."""
    trial = read_trial(run)
    if trial is not None and trial.lease is not None:
        return min(now, trial.lease_ends)
    return max((path.stat().st_mtime for path in (run.result, run.metrics.path) if path.exists()), default=0.0)
