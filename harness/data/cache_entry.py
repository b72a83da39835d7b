"""Directories of the cache that are complete or not there at all, also when several processes build them, or one dies.

Their files are written through `shard`, whose checksums are kept in meta.json: after a power failure, or on a disk that fails, a file may
have its length and other content, and would be trained on.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from harness.config.errors import InputError
from harness.config.writable import check_writable
from harness.runs.files import at, give_umask_rights, read_json
from harness.runs.locks import hold

if TYPE_CHECKING:  # with numpy, which looking at what is prepared does without
    from harness.data.ragged import Int64

T = TypeVar("T")
META = "meta.json"
CACHE_KEY = "data.cache_dir"
log = logging.getLogger(__name__)


def _checksummer() -> hashlib.blake2b:
    """As fast as a good disk, on any processor."""
    return hashlib.blake2b(digest_size=16)


class Shard:
    """A file of an entry while it is written. It is no file of Python's, so that numpy asks it to write, and errors name their place."""

    def __init__(self, path: Path, stream: Any, checksums: dict[str, str]) -> None:
        self._path, self._stream, self._checksums = path, stream, checksums
        self._digest = _checksummer()

    def write(self, content: bytes) -> int:
        self._digest.update(content)
        with at(self._path):
            return int(self._stream.write(content))

    def finish(self) -> None:
        """It is on the disk from here on, whatever happens to the machine."""
        with at(self._path):
            self._stream.flush()
            os.fsync(self._stream.fileno())
        self._checksums[self._path.name] = self._digest.hexdigest()


@contextmanager
def shard(path: Path, checksums: dict[str, str]) -> Iterator[Shard]:
    """A file of an entry, to write; its checksum is added to `checksums`, by its name, which belong under that key into meta.json."""
    stream = path.open("wb")
    try:
        writing = Shard(path, stream, checksums)
        yield writing
        writing.finish()
    finally:
        with at(path):  # what is still in the buffer is written
            stream.close()


def _has_pipes(entry: Path) -> bool:
    """Whether something in an entry is neither a file nor a directory: to open a pipe would wait for its writer."""
    return any(not path.is_file() and not path.is_dir() for path in entry.glob("*"))


def is_whole(entry: Path) -> bool:
    """Whether the files of an entry are as they were written; False of one whose meta.json does not say."""
    try:
        if _has_pipes(entry):
            return False
        checksums = dict((read_json(entry / META) or {})["checksums"])
        return all(_checksum(entry / name) == known for name, known in checksums.items())
    except (OSError, InputError, LookupError, TypeError, ValueError):
        return False


def _checksum(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, _checksummer).hexdigest()


def drop_damaged(entry: Path) -> None:
    """Remove an entry whose files are not as they were written, so that it is built anew. It reads all of it."""
    if not entry.exists() or is_whole(entry):
        return
    with held(entry.with_suffix(".lock")):
        if not is_whole(entry):
            log.warning("%s: damaged, and made anew", entry)
            shutil.rmtree(entry, ignore_errors=True)


def open_or_build(entry: Path, opened: Callable[[Path], T | None], build: Callable[[Path], None]) -> T:
    """The result of `opened` for the directory `entry`, which is built first where `opened` returns None.

    `build` writes into a temporary directory beside it, which is renamed when complete. Of several processes one builds, and the others
    wait. What a killed one left behind is removed by the next to build. Raises InputError where it must be built and the cache cannot be
    written: one that is complete may be on a read-only disk.
    """
    if not _has_pipes(entry) and (found := opened(entry)) is not None:
        return found
    check_writable(entry.parent, CACHE_KEY)
    with held(entry.with_suffix(".lock")):
        if _has_pipes(entry) or (found := opened(entry)) is None:  # no other process built it meanwhile
            for leftover in [entry, *entry.parent.glob(f"{entry.name}.build-*")]:
                shutil.rmtree(leftover, ignore_errors=True)
            _build(entry, build)
            found = opened(entry)
            assert found is not None, "just written"
    return found


def open_and_fill(
    entry: Path,
    opened: Callable[[Path], T | None],
    create: Callable[[Path], None],
    lacking: Callable[[T], Int64],
    fill: Callable[[T, Int64], None],
) -> T:
    """An entry that grows, as of `open_or_build`, with what is lacking in it made by one process at a time: `fill` is given the entry and
    what `lacking` found in it."""
    found = open_or_build(entry, opened, create)
    if len(lacking(found)):
        with held(entry.with_suffix(".lock")):
            # Another process may have made some of it while we waited.
            wanted = lacking(found)
            if len(wanted):
                fill(found, wanted)
    return found


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Wait for the lock of an entry for as long as it takes, and hold it."""
    lock = hold(path, wait_seconds=math.inf)
    assert lock is not None, "waits for as long as it takes"
    try:
        yield
    finally:
        lock.release()


def _build(entry: Path, build: Callable[[Path], None]) -> None:
    building = Path(tempfile.mkdtemp(prefix=f"{entry.name}.build-", dir=entry.parent))
    try:
        build(building)
        give_umask_rights(building)
        building.rename(entry)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
