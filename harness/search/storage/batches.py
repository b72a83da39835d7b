"""Optuna's journal in batches: all that a claim writes is stored at once.

Optuna appends an entry a parameter, each with a write to the disk of its own, and reads the journal after each. Under the study's lock
nobody else writes: entries are kept until the end, and reading back costs nothing.
"""

from __future__ import annotations

from typing import Any, Protocol

from optuna.storages.journal import BaseJournalBackend

Entry = dict[str, Any]


class EntryLog(Protocol):
    """Durable entries, by their number."""

    def mend(self) -> None:
        """Remove a half-written entry of a dead writer. Called under the study's lock, before reading."""

    def read(self, start: int) -> list[Entry]:
        """The entries from number `start` on."""

    def append(self, start: int, entries: list[Entry]) -> None:
        """Store entries, the first under number `start`; when this returns they outlive a power cut."""


class Batches(BaseJournalBackend):
    """The journal as Optuna's storage sees it."""

    def __init__(self, log: EntryLog) -> None:
        self._log = log
        self._stored = 0
        """How many entries of the log we know of."""
        self._batch: list[Entry] | None = None
        """Entries to be stored; None while we do not hold the study's lock."""

    def begin(self) -> None:
        """From here on, until `end`, nobody else writes."""
        self._log.mend()
        self._batch = []
        self._is_current = False

    def flush(self) -> None:
        if self._batch:
            self._log.append(self._stored, self._batch)
            self._stored += len(self._batch)
            self._batch = []

    def end(self) -> None:
        self._batch = None

    def read_logs(self, log_number_from: int) -> list[Entry]:
        """Optuna's interface."""
        if self._batch is not None and self._is_current:
            return self._batch[log_number_from - self._stored :]
        entries = self._log.read(log_number_from)
        self._stored = log_number_from + len(entries)
        self._is_current = True
        return entries

    def append_logs(self, logs: list[Entry]) -> None:
        """Optuna's interface."""
        assert self._batch is not None, "the study's record is changed under its lock alone"
        assert self._is_current, "it is read before it is changed"
        self._batch += logs
