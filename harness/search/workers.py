"""The workers of a study: who they are, and which of them live."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from harness.runs.directory import StudyDirectory
from harness.runs.files import read_json
from harness.runs.locks import is_held


def worker_lock(study: StudyDirectory, worker: str) -> Path:
    """Held by a living worker."""
    return study.workers / f"{worker}.lock"


def threads_per_worker(workers: int) -> int:
    """An equal share of the cores that this process may use."""
    return max(1, len(os.sched_getaffinity(0)) // workers)


def living_workers(study: StudyDirectory) -> list[dict[str, Any]]:
    """What the living workers say of themselves: id, pid, host, started."""
    cards = (read_json(path) for path in sorted(study.workers.glob("*.json"))) if study.workers.is_dir() else ()
    return [card for card in cards if card and is_held(worker_lock(study, card["id"]))]
