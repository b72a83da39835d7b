"""A storage for the workers of a simulation, which live in one process: Optuna's record in memory, and who of them lives."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from harness.runs.directory import RunDirectory, StudyDirectory
from harness.search.storage.contract import StudyStorage
from harness.search.trial_index import TrialIndex

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


class VirtualStorage(StudyStorage):
    """One storage, which all virtual workers share."""

    def __init__(self, directory: StudyDirectory) -> None:
        super().__init__(directory)
        self._living: set[str] = set()
        self._is_locked = False
        self._others: list[VirtualStorage] = []

    def _open_log(self) -> Forgetful:
        return Forgetful()

    def _acquire(self) -> None:
        assert not self._is_locked, "the virtual workers take turns"
        self._is_locked = True

    def _release(self) -> None:
        self._is_locked = False

    def announce(self, worker: str) -> None:
        self._living.add(worker)

    def bury(self, worker: str) -> None:
        """It lives no more."""
        self._living.discard(worker)

    def index(self, optuna: BaseStorage, study_id: int) -> TrialIndex:
        if self._index is None:
            self._index = OwnIndex(self.directory, optuna, study_id)
        return self._index

    def beside(self, directory: StudyDirectory) -> VirtualStorage:
        for other in self._others:
            if other.directory == directory:
                return other
        self._others.append(VirtualStorage(directory))
        self._others[-1]._living = self._living
        return self._others[-1]

    def touch(self, run: RunDirectory) -> None:
        """An attempt, which in truth is a process of its own, has written its trial's files."""
        for storage in (self, *self._others):
            if storage._index is not None and run.path.parent.parent == storage.directory.path:
                storage._index.touch(int(run.path.name))

    def living(self, workers: Iterable[str]) -> set[str]:
        return self._living.intersection(workers)


class OwnIndex(TrialIndex):
    """That of a study in which no other process has a hand: nothing changes unless it is told."""

    def expire(self) -> None:
        """Nobody else could have changed a trial; to read those of a thousand workers at every claim would take most of the time."""


class Forgetful:
    """A log that its only writer need not read again."""

    def mend(self) -> None:
        """Nothing is torn in memory."""

    def read(self, start: int) -> list[dict[str, Any]]:
        return []

    def append(self, start: int, entries: list[dict[str, Any]]) -> None:
        """Optuna knows them already."""
