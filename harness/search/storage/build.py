"""The storage that a study was launched with."""

from __future__ import annotations

from harness.runs.directory import StudyDirectory
from harness.runs.files import read_yaml
from harness.search.storage.contract import StudyStorage


def open_storage(directory: StudyDirectory, worker: str = "") -> StudyStorage:
    """Open the storage of the study in this directory; worker: who we are, for the database's own tables.

    Raises InputError where a database cannot be reached.
    """
    frozen = read_yaml(directory.sweep)
    return connect(directory, frozen.get("storage"), str(frozen["launched"]), worker)


def connect(directory: StudyDirectory, address: str | None, launched: str, worker: str = "") -> StudyStorage:
    """Open the storage of a study that may have no directory yet."""
    from harness.search.storage.journal import JournalFile
    from harness.search.storage.postgresql import PostgreSQL

    if address is None:
        return JournalFile(directory)
    # By the time of its launch too: a study that was deleted and started anew is another one.
    return PostgreSQL(directory, address, f"{directory.name} launched {launched}", worker)
