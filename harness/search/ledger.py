"""What one process knows of a study's trials: of those that have ended the brief record, of the others files, read when they changed.

The workers of a process share it (in a simulation, a thousand). It never looks at all trials again: what a claim takes grows with the
trials under way alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.record import RunRecord
from harness.runs.rereading import Rereader
from harness.runs.result import Result, read_result
from harness.runs.trial import Trial, read_trial
from harness.search.budget import Closed

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, TrialState


class _Place:
    """Where a trial is. Paths are made once: of a thousand trials, at every claim, they would take most of its time."""

    def __init__(self, run: RunDirectory) -> None:
        self.run, self.trial, self.result = run, str(run.trial), str(run.result)


class Ledger:
    """The trials of a study. It is changed under the study's lock alone."""

    def __init__(self, directory: StudyDirectory, storage: BaseStorage, study_id: int) -> None:
        """Args: storage and study_id as Optuna knows them."""
        self._directory = directory
        self._storage = storage
        self._study_id = study_id
        self._ids: list[int] = []
        self._open: dict[int, int] = {}
        """Trials that have not ended, by number: what Optuna calls them."""
        self._places: dict[int, _Place] = {}
        """Of these, and of the one that may come next."""
        self.ended: dict[int, RunRecord] = {}
        """Trials that Optuna knows to have ended, by number: their files do not change any more."""
        self.closed = Closed()
        """What these have cost, in all."""
        self._trials: Rereader[Trial | None] = Rereader(lambda path: read_trial(RunDirectory(path.parent)))
        self._results: Rereader[Result] = Rereader(lambda path: read_result(RunDirectory(path.parent)))

    @property
    def count(self) -> int:
        """Trials that Optuna knows of."""
        self._learn()
        return len(self._ids)

    def optuna_id(self, number: int) -> int:
        """What Optuna calls a trial that it knows of."""
        return self._ids[number]

    def frozen(self, number: int) -> FrozenTrial:
        """Optuna's record of a trial that it knows of."""
        self._learn()
        return self._storage.get_trial(self._ids[number])

    def in_state(self, state: TrialState) -> list[int]:
        """The trials that have not ended and are in this state."""
        self._learn()
        return [number for number, name in self._open.items() if self._storage.get_trial(name).state == state]

    def under_way(self, instead: dict[int, Result] | None = None) -> list[RunRecord]:
        """The trials that have not ended, a reservation that Optuna has not heard of yet among them; those that have are put down as ended.

        instead: results that are not written yet.
        """
        self._learn()
        records = []
        for number in [*self._open, len(self._ids)]:
            if number in self._open and self._storage.get_trial(self._open[number]).state.is_finished():
                self._end(number)
                continue
            trial = self.trial(number)
            if trial is not None:
                place = self._place(number)
                result = (instead or {}).get(number) or self._results.read(place.result)
                records.append(RunRecord(place.run, result, self._directory.name, trial, result.state))
        return records

    def records(self) -> list[RunRecord]:
        """All trials, in the order of their numbers."""
        under_way = self.under_way()
        return sorted([*self.ended.values(), *under_way], key=lambda record: record.number or 0)

    def trial(self, number: int) -> Trial | None:
        """trial.json of one that has not ended; not to be changed."""
        return self._trials.read(self._place(number).trial)

    def run(self, number: int) -> RunDirectory:
        """Of one that has not ended."""
        return self._place(number).run

    def _place(self, number: int) -> _Place:
        if number not in self._places:
            self._places[number] = _Place(self._directory.trial(number))
        return self._places[number]

    def _learn(self) -> None:
        """Of trials that are new."""
        while True:
            number = len(self._ids)
            try:
                name = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
            except KeyError:
                return
            self._ids.append(name)
            self._open[number] = name

    def _end(self, number: int) -> None:
        del self._open[number]
        place = self._place(number)
        del self._places[number]
        self._trials.forget(place.trial)
        self._results.forget(place.result)
        run = place.run
        result = read_result(run)
        # What the search does not ask for: of a hundred thousand trials it would fill the memory.
        result = replace(result, versions={}, fingerprints={}, hardware={})
        record = RunRecord(run, result, self._directory.name, read_trial(run), result.state)
        self.ended[number] = record
        self.closed.add(record)
