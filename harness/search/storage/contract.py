"""What a study needs of its storage: Optuna's record, a lock over all its workers, and which of them live."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from harness.config.errors import InputError
from harness.runs.directory import StudyDirectory
from harness.runs.locks import hold

if TYPE_CHECKING:
    from filelock import FileLock
    from optuna.storages import BaseStorage, JournalStorage

    from harness.search.storage.batches import Batches, EntryLog
    from harness.search.trial_index import TrialIndex

LOCK_SECONDS = 120.0
"""A claim takes milliseconds: a lock held for longer means that something is badly wrong."""


class StorageLostError(Exception):
    """This process is cut off from the storage: what it held, others may take over any moment."""


class StudyStorage(ABC):
    """One process's access to the storage of one study. Both kinds keep Optuna's journal and differ only in the place.

    Whatever is held through it is let go when the process dies, however it dies.
    """

    def __init__(self, directory: StudyDirectory) -> None:
        self.directory = directory
        self._announced: FileLock | None = None
        self._announced_as: str | None = None
        self._beside: list[StudyStorage] = []
        self._index: TrialIndex | None = None

    @cached_property
    def _batches(self) -> Batches:
        from harness.search.storage.batches import Batches

        return Batches(self._open_log())

    @cached_property
    def optuna(self) -> JournalStorage:
        """Optuna's storage; it may be read at any time, and written inside `locked` only."""
        from optuna.storages import JournalStorage

        return self.optuna_as(JournalStorage)

    def optuna_as(self, make: Callable[[Batches], JournalStorage]) -> JournalStorage:
        """Another view of Optuna's record, made by `make`."""
        return make(self._batches)

    def trial_index(self, optuna: BaseStorage, study_id: int) -> TrialIndex:
        """The index of the study's trials, one a process."""
        from harness.search.trial_index import TrialIndex

        if self._index is None:
            self._index = TrialIndex(self.directory, optuna, study_id)
        return self._index

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Exclusive access to the study.

        Raises TimeoutError, naming the lock, when another process holds it for LOCK_SECONDS, and InputError when the study is gone.
        """
        if not self.directory.path.is_dir():
            raise InputError(f"{self.directory.path}: was moved or removed while it was worked on")
        # Catching up takes time by what the others did meanwhile: before the lock, where nobody waits for it.
        self.optuna.get_all_studies()
        self._acquire()
        try:
            self._batches.begin()
            self.optuna.get_all_studies()
            if self._index is not None:
                self._index.expire()
            try:
                yield
            except Exception:
                self.flush()
                raise
            else:
                self.flush()
            finally:
                self._batches.end()
        finally:
            self._release()

    def flush(self) -> None:
        """Store what was written since the lock was taken; leaving `locked` does it as well."""
        self._batches.flush()

    @abstractmethod
    def _open_log(self) -> EntryLog: ...

    @abstractmethod
    def _acquire(self) -> None: ...

    @abstractmethod
    def _release(self) -> None: ...

    def announce(self, worker: str) -> None:
        """Let others see that the worker of this name lives, for as long as this storage is open."""
        # Whatever the storage: on this machine the living are seen without asking a database.
        self._announced = hold(self.directory.worker_lock(worker))
        if self._announced is None:
            raise RuntimeError(f"{self.directory.worker_lock(worker)} is held by another process")

        self._announced_as = worker

    def beside(self, directory: StudyDirectory) -> StudyStorage:
        """That of the study in another directory, for as long as this one is open; whoever is announced here is announced there."""
        from harness.search.storage.build import open_storage

        other = open_storage(directory, self._announced_as or "")
        if self._announced_as is not None:
            other.announce(self._announced_as)
        self._beside.append(other)
        return other

    @abstractmethod
    def living(self, workers: Iterable[str]) -> set[str]:
        """Those of the workers that live."""

    @property
    def sentinels(self) -> list[int]:
        """For `multiprocessing.connection.wait`: ready when `is_lost` may have become true."""
        return []

    def is_lost(self) -> bool:
        """Whether others no longer see this process, although it lives."""
        return False

    def close(self) -> None:
        """Let go of everything."""
        for other in self._beside:
            other.close()
        if self._announced is not None:
            self._announced.release()
