"""Directories of the cache that are complete or not there at all, also when several processes build them, or one dies."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from harness.runs.files import give_umask_rights
from harness.runs.locks import hold

T = TypeVar("T")


def open_or_build(entry: Path, opened: Callable[[Path], T | None], build: Callable[[Path], None]) -> T:
    """The result of `opened` for the directory `entry`, which is built first where `opened` returns None.

    `build` writes into a temporary directory beside it, which is renamed when complete. Of several processes one builds, and the others
    wait. What a killed one left behind is removed by the next to build.
    """
    if (found := opened(entry)) is not None:
        return found
    lock = hold(entry.with_suffix(".lock"), wait_seconds=math.inf)
    assert lock is not None, "waits for as long as it takes"
    try:
        if (found := opened(entry)) is None:  # no other process built it meanwhile
            for leftover in [entry, *entry.parent.glob(f"{entry.name}.build-*")]:
                shutil.rmtree(leftover, ignore_errors=True)
            _build(entry, build)
            found = opened(entry)
            assert found is not None, "just written"
    finally:
        lock.release()
    return found


def _build(entry: Path, build: Callable[[Path], None]) -> None:
    building = Path(tempfile.mkdtemp(prefix=f"{entry.name}.build-", dir=entry.parent))
    try:
        build(building)
        give_umask_rights(building)
        building.rename(entry)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
