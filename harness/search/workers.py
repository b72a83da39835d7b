"""The workers of a study: who they are, and which of them live."""

from __future__ import annotations

import os
import socket
from typing import Any

from harness.config.errors import InputError
from harness.runs.directory import StudyDirectory
from harness.runs.files import read_json
from harness.runs.locks import is_held
from harness.search.storage.build import open_storage


def threads_per_worker(workers: int) -> int:
    """An equal share of the cores that this process may use."""
    return max(1, len(os.sched_getaffinity(0)) // workers)


def living_workers(study: StudyDirectory) -> list[dict[str, Any]]:
    """workers/<id>.json of the living workers: id, pid, host, started and ends (of its job; seconds since the epoch), and its place."""
    files = sorted(study.workers.glob("*.json")) if study.workers.is_dir() else []
    workers = [worker for path in files if (worker := read_json(path))]
    living = {worker["id"] for worker in workers if is_held(study.worker_lock(worker["id"]))}
    elsewhere = [worker["id"] for worker in workers if worker["host"] != socket.gethostname() and worker["id"] not in living]
    if elsewhere:
        living |= _living_elsewhere(study, elsewhere)
    return [worker for worker in workers if worker["id"] in living]


def _living_elsewhere(study: StudyDirectory, workers: list[str]) -> set[str]:
    """Locks on files of a shared directory may not be seen from another machine: the storage is asked, if it can be."""
    try:
        storage = open_storage(study)
    except InputError:
        return set()
    try:
        return storage.living(workers)
    finally:
        storage.close()
