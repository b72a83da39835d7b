"""The embedded storage: Optuna's journal file in the study's directory, and file locks beside it. For the workers of one machine."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from harness.config.errors import InputError
from harness.runs.locks import hold, is_held
from harness.search.storage.contract import LOCK_SECONDS, StudyStorage

if TYPE_CHECKING:
    from harness.search.storage.batches import EntryLog

TAIL_BYTES = 1 << 16
"""No batch of a study comes near."""
log = logging.getLogger(__name__)


class JournalFile(StudyStorage):
    """The study's journal.log."""

    def _open_log(self) -> EntryLog:
        return JournalLines(self.directory.journal)

    def _acquire(self) -> None:
        lock = hold(self.directory.lock, wait_seconds=LOCK_SECONDS)
        if lock is None:
            raise TimeoutError(f"{self.directory.lock} has been held by another process for {LOCK_SECONDS:.0f} s")
        self._study_lock = lock

    def _release(self) -> None:
        self._study_lock.release()

    def living(self, workers: Iterable[str]) -> set[str]:
        return {worker for worker in workers if is_held(self.directory.worker_lock(worker))}


class JournalLines:
    """A journal file, a line an entry, as Optuna's own JournalFileBackend writes it.

    It is read here: after a batch that this process has written itself, which nobody reads back, Optuna's backend does not know where the
    next entry begins, and goes through the file from its first line.
    """

    def __init__(self, path: Path) -> None:
        from optuna.storages.journal import JournalFileBackend

        self._path = path
        # Optuna's own locks are files: a process killed at the wrong moment leaves one behind, and everybody waits for it.
        self._backend = JournalFileBackend(str(path), lock_obj=FileLock(path.with_name(f".{path.name}.lock")))  # type: ignore[arg-type]
        self._next = (0, 0)
        """The number of the entry that comes after all that are known, and where it begins, in bytes."""

    def mend(self) -> None:
        """Cut off a torn end: the next entry would be glued to it, and Optuna could not read the journal any more."""
        with self._path.open("r+b") as stream:
            size = stream.seek(0, 2)
            for length in (min(TAIL_BYTES, size), size):
                stream.seek(size - length)
                tail = stream.read(length)
                whole = _whole_lines(tail)
                if whole or length == size:
                    break
            if whole == length:
                return
            torn = tail[whole:]
            kept = self._path.with_name(f"{self._path.name}.torn")
            with kept.open("ab") as copy:
                copy.write(torn + b"\n")
            stream.truncate(size - len(torn))
        log.warning("%s: its writer was killed, or the machine, in the middle of a line: %d bytes moved to %s", self._path, len(torn), kept)

    def read(self, start: int) -> list[dict[str, Any]]:
        number, begins = self._next if self._next[0] <= start else (0, 0)
        with self._path.open("rb") as stream:
            stream.seek(begins)
            *lines, _ = stream.read().split(b"\n")  # what follows the last end of a line is being written
        entries = []
        for place, line in enumerate(lines, start=1):
            if number >= start:
                try:
                    entries.append(json.loads(line))
                except ValueError as error:
                    if place == len(lines):
                        break  # a torn end, which is mended
                    raise InputError(
                        f"{self._path}: damaged: entry {number}: {error}. Stop the study's workers and move it away: "
                        "the same command makes it anew from the files of its trials."
                    ) from error
            number, begins = number + 1, begins + len(line) + 1
        self._next = (number, begins)
        return entries

    def append(self, start: int, entries: list[dict[str, Any]]) -> None:
        self._backend.append_logs(entries)
        # Under the study's lock nobody else writes.
        self._next = (start + len(entries), self._path.stat().st_size)


def _whole_lines(tail: bytes) -> int:
    """The length of what is left without the torn end."""
    length = len(tail)
    while length:
        begin = tail.rfind(b"\n", 0, length - 1) + 1
        try:
            if not isinstance(json.loads(tail[begin:length]), dict):
                raise ValueError
        except ValueError:
            length = begin
            continue
        return length if tail[length - 1 : length] == b"\n" else begin
    return 0
