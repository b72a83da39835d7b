"""Optuna's journal file, with a lock that dies with its holder.

Optuna's own locks are files: a process killed at the wrong moment leaves one behind, and everybody waits half a minute for it.
"""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock


class KernelLock(JournalFileOpenLock):
    """A lock that the kernel releases when its holder dies."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._lock = FileLock(path)

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def open_journal(path: Path) -> JournalStorage:
    """The storage in the journal file at `path`, made if it is absent."""
    return JournalStorage(JournalFileBackend(str(path), lock_obj=KernelLock(path.with_name(f".{path.name}.lock"))))
