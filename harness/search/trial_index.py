"""One process's index of a study's trials, and the budget that they leave.

The workers of a process share it. Trials that have ended are read once; the others are read again each time the study's lock is taken.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.config.documents import DamagedError
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.file_cache import FileCache
from harness.runs.record import RunRecord
from harness.runs.result import Result, State, Tokens, read_result
from harness.runs.trial import Trial, read_trial
from harness.search.budget import Budget, EndedTotals, OpenTotals, is_timed, open_budget, untimed_budget
from harness.search.sweep import Sweep

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)


class _Open:
    """A trial that has not ended, or the one that may come next, as it was read last."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        # Paths are made once: of a thousand trials, at every claim, they would take most of its time.
        self.trial_path, self.result_path = str(run.trial), str(run.result)
        self.trial: Trial | None = None
        self.record: RunRecord | None = None
        """None before it is reserved."""


class TrialIndex:
    """The trials of a study. It is changed under the study's lock alone."""

    def __init__(self, directory: StudyDirectory, storage: BaseStorage, study_id: int) -> None:
        """Args: storage and study_id as Optuna knows them."""
        self._directory = directory
        self._storage = storage
        self._study_id = study_id
        self._ids: list[int] = []
        """Optuna's id of every trial that it knows of, by number."""
        self._open: dict[int, _Open] = {0: _Open(directory.trial(0))}
        """By number, rising; the last one is the one that may come next."""
        self._stale: set[int] = {0}
        """Those of them that may have changed since they were read."""
        self._running: dict[int, str | None] = {}
        self._waiting: set[int] = set()
        self._sums = OpenTotals()
        """What the trials that have not ended have cost and are promised in all."""
        self._ended: dict[int, RunRecord] = {}
        self._failed: list[RunRecord] = []
        self._last_complete: int | None = None
        self._ended_sums = EndedTotals()
        self._trials: FileCache[Trial | None] = FileCache(lambda path: read_trial(RunDirectory(path.parent)))
        self._results: FileCache[Result] = FileCache(lambda path: read_result(RunDirectory(path.parent)))

    # What may have changed.

    def expire(self) -> None:
        """Other processes may have changed any trial: called when the study's lock is taken."""
        self._stale.update(self._open)

    def touch(self, number: int) -> None:
        """This process has changed a trial, in Optuna or on disk."""
        self._stale.add(number)
        entry = self._open.get(number)
        if entry is not None:
            self._trials.forget(entry.trial_path)
            self._results.forget(entry.result_path)

    # What is known.

    @property
    def count(self) -> int:
        """Trials that Optuna knows of."""
        self._find_new()
        return len(self._ids)

    def optuna_id(self, number: int) -> int:
        """Optuna's id of a trial that it knows of."""
        self._find_new()
        return self._ids[number]

    def frozen(self, number: int) -> FrozenTrial:
        """Optuna's own record of a trial."""
        return self._storage.get_trial(self.optuna_id(number))

    def running(self) -> dict[int, str | None]:
        """The trials that run by Optuna's record, in no order, and the worker of each, if it has one; not to be changed."""
        self._refresh()
        return self._running

    def waiting(self) -> list[int]:
        """The trials that wait for another attempt, in the order of their numbers."""
        self._refresh()
        return sorted(self._waiting)

    def under_way(self, instead: dict[int, Result] | None = None) -> list[RunRecord]:
        """The trials that have not ended, a reservation that Optuna has not heard of yet among them.

        instead: results that are not written yet.
        """
        self._refresh()
        instead = instead or {}
        records = [(number, entry.record) for number, entry in self._open.items() if entry.record is not None]
        return [_with(record, instead[number]) if number in instead else record for number, record in records]

    def budget(self, sweep: Sweep, *, now: float, instead: dict[int, Result] | None = None, beside: Sequence[RunRecord] = ()) -> Budget:
        """What the study has spent and promised. instead: results that are not written yet; beside: further runs that it pays for."""
        config, ended, most = sweep.config.budget, self.ended, sweep.most_trials
        if not is_timed(config):
            sums = self._promised(instead or {})
            for record in beside:
                sums.add(record)
            return untimed_budget(config, sums, now=now, most_trials=most, ended=ended)
        return open_budget(config, [*self.under_way(instead), *beside], now=now, most_trials=most, ended=ended)

    def _promised(self, instead: dict[int, Result]) -> OpenTotals:
        sums = copy(self._sums)
        for number, result in instead.items():
            record = self._open[number].record
            if record is not None:
                sums.add(record, -1)
                sums.add(_with(record, result))
        return sums

    @property
    def ended(self) -> EndedTotals:
        """How many trials have ended, and what they have cost in all."""
        self._refresh()
        return self._ended_sums

    def records(self) -> list[RunRecord]:
        """All trials, in the order of their numbers."""
        under_way = self.under_way()
        return sorted([*self._ended.values(), *under_way], key=lambda record: record.number or 0)

    @property
    def last_complete(self) -> int | None:
        """The highest number of those that are complete."""
        self._refresh()
        return self._last_complete

    def failed(self) -> list[RunRecord]:
        """The trials that have failed, in the order of their numbers."""
        failed = [record for record in self.under_way() if record.result.state == "failed"]
        return sorted([*self._failed, *failed], key=lambda record: record.number or 0)

    def trial(self, number: int) -> Trial | None:
        """trial.json of one that has not ended; not to be changed."""
        return self._open[number].trial

    def run(self, number: int) -> RunDirectory:
        """Of one that has not ended."""
        return self._open[number].run

    def _find_new(self) -> None:
        while True:
            number = len(self._ids)
            try:
                name = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
            except KeyError:
                return
            self._ids.append(name)
            self._open[number + 1] = _Open(self._directory.trial(number + 1))
            self._stale |= {number, number + 1}

    def _refresh(self) -> None:
        self._find_new()
        stale, self._stale = sorted(self._stale), set()
        for number in stale:
            entry = self._open.get(number)
            if entry is not None:
                self._read(number, entry)

    def _read(self, number: int, entry: _Open) -> None:
        from optuna.trial import TrialState

        self._running.pop(number, None)
        self._waiting.discard(number)
        if entry.record is not None:
            self._sums.add(entry.record, -1)
        state = self._storage.get_trial(self._ids[number]).state if number < len(self._ids) else None
        if state is not None and state.is_finished():
            self._end(number, entry)
            return
        entry.trial, entry.record = self._trials.read(entry.trial_path), None
        if entry.trial is not None:
            result = self._results.read(entry.result_path)
            entry.record = RunRecord(entry.run, result, self._directory.name, entry.trial, result.state)
            self._sums.add(entry.record)
        if state == TrialState.RUNNING:
            self._running[number] = entry.trial.worker if entry.trial else None
        elif state == TrialState.WAITING:
            self._waiting.add(number)

    def _end(self, number: int, entry: _Open) -> None:
        del self._open[number]
        self._trials.forget(entry.trial_path)
        self._results.forget(entry.result_path)
        trial, result = self._read_ended(number, entry.run)
        # Without what the search does not read: a hundred thousand trials would fill the memory with it.
        result = replace(result, versions={}, fingerprints={}, hardware={})
        record = RunRecord(entry.run, result, self._directory.name, trial, result.state)
        self._ended[number] = record
        if result.state == "failed":
            self._failed.append(record)
        elif result.state == "complete":
            self._last_complete = max(number, self._last_complete or 0)
        self._ended_sums.add(record)

    def _read_ended(self, number: int, run: RunDirectory) -> tuple[Trial | None, Result]:
        """The files of a trial that has ended; what is damaged of them as Optuna has it, so that the study can go on."""
        from optuna.trial import TrialState

        trial: Trial | None = None
        try:
            trial = read_trial(run)
            return trial, read_result(run)
        except DamagedError as error:
            log.warning("%s The search goes on with what its record says of the trial.", error)
        known = self._storage.get_trial(self._ids[number])
        states: dict[TrialState, State] = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
        # What it cost is not known better than by what was reserved for it.
        tokens = Tokens(trained=trial.tokens if trial else 0)
        objective = known.values[0] if known.values else None
        return trial, Result(state=states.get(known.state, "failed"), reason=None, objective=objective, tokens=tokens)


def _with(record: RunRecord, result: Result) -> RunRecord:
    return replace(record, result=result, state=result.state)
