"""Trunks: training states that several runs share, stored where the runs branch off.

    <study>/trunks/<key>/          a state; complete, or not there at all
        checkpoint.ckpt            weights, optimizer, random state, position
        metrics.jsonl              the rows up to it
        generations.jsonl          the texts up to it, where any were written
        trunk.json                 step, tokens, which run trained it
    <study>/trunks/.leases/<digest>.lock   held by the process that trains on from a state; <digest>.json lists what it will store

A key is the step and the digest of the state (see `harness.training.shared_steps`): equal keys are equal states, whoever trained them. So
a trunk is found by its name, in this study or in another one over the same base.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from pathlib import Path

from filelock import FileLock

from harness.config.documents import DamagedError, typed
from harness.runs.file_cache import FileCache
from harness.runs.files import give_umask_rights, read_json, write_json
from harness.runs.generations import GenerationsFile, WrittenText
from harness.runs.locks import hold
from harness.runs.metrics import MetricsFile, Row

log = logging.getLogger(__name__)
LEFT_BEHIND_SECONDS = 3600.0
"""Storing a state takes seconds: what is older is left over from a process that died."""


def trunk_key(step: int, digest: str) -> str:
    """The name of the state after `step` steps."""
    return f"{step:08d}-{digest}"


@dataclass(frozen=True, kw_only=True)
class TrunkInfo:
    """trunk.json."""

    step: int
    tokens: int
    """Trained to reach it, padding not counted."""
    run: str
    """The run that trained its last steps."""
    rows: int | None = None
    """How many there are in metrics.jsonl; None where nobody counted them."""


@dataclass(frozen=True)
class Trunk:
    """A stored state."""

    path: Path
    info: TrunkInfo

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.ckpt"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def rows(self) -> list[Row]:
        """The metrics up to it, one row a step."""
        return MetricsFile(self.metrics).rows()

    @property
    def texts(self) -> dict[int, list[WrittenText]]:
        """What was written for evaluation sets up to it, by step."""
        return GenerationsFile(self.path / "generations.jsonl").by_step()

    @property
    def bytes(self) -> int:
        """Its size on disk; 0 when it has just been evicted."""
        with contextlib.suppress(FileNotFoundError):
            return self.checkpoint.stat().st_size
        return 0

    @property
    def last_used(self) -> float:
        """Seconds since the epoch; 0 when it has just been evicted."""
        with contextlib.suppress(FileNotFoundError):
            return self.path.stat().st_mtime
        return 0.0

    def take(self, path: Path) -> bool:
        """Link the checkpoint to `path`, too; False when it has been evicted meanwhile.

        Where the file system has no hard links, it is copied.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.trunk")
        part.unlink(missing_ok=True)
        try:
            try:
                os.link(self.checkpoint, part)
            except FileNotFoundError:
                return False
            except OSError:
                shutil.copyfile(self.checkpoint, part)
            os.utime(self.path)  # eviction goes by the time of the last use
        except FileNotFoundError:
            return False
        part.replace(path)
        return True


@dataclass
class TrunkStore:
    """The trunks of a study. Those of neighbouring studies are found, but never changed."""

    directory: Path
    _: KW_ONLY
    neighbours: Sequence[Path] = ()
    """The trunks of other studies."""
    disk_bytes: int | None = None
    """The limit for the trunks of this one."""
    needed: Callable[[], set[str]] = set
    """The names of the runs whose trunks are still needed: these are not evicted. Called only when there is too little room."""
    _damaged: set[Path] = field(default_factory=set, init=False)
    """Trunks of neighbours to skip."""
    _infos: FileCache[TrunkInfo | None] = field(default_factory=lambda: FileCache(_read_info), init=False)

    def trunks(self) -> Iterator[Trunk]:
        """All that is stored here."""
        yield from self._trunks(self.directory)

    def deepest(self, digests_of_run: Callable[[], Sequence[str]], *, below: int) -> Trunk | None:
        """The deepest stored state of a run at a step < `below`.

        digests_of_run: the digests of the run's states by step; asked for only if there is anything to compare them with.
        """
        found: Trunk | None = None
        for directory in (self.directory, *self.neighbours):
            for trunk in self._trunks(directory):
                digests, step = digests_of_run(), trunk.info.step
                if (
                    step < below
                    and trunk.path not in self._damaged
                    and step < len(digests)
                    and trunk.path.name == trunk_key(step, digests[step])
                    and (found is None or step > found.info.step)
                ):
                    found = trunk
        return found

    def store(
        self, key: str, checkpoint: Path, rows: Sequence[Row], info: TrunkInfo, *, texts: Mapping[int, Sequence[WrittenText]] | None = None
    ) -> None:
        """Keep a state. A trunk that exists stays as it is.

        Raises OSError when it cannot be written; nothing half-written is left.
        """
        target = self.directory / key
        if target.exists():
            return
        self.directory.mkdir(exist_ok=True)  # not its study's, which may be gone
        building = Path(tempfile.mkdtemp(prefix=f".{key}.", dir=self.directory))
        try:
            try:
                os.link(checkpoint, building / "checkpoint.ckpt")
            except OSError:
                shutil.copyfile(checkpoint, building / "checkpoint.ckpt")
            with (building / "metrics.jsonl").open("w", encoding="utf-8") as stream:
                stream.writelines(json.dumps(row) + "\n" for row in rows)
            for step, written in (texts or {}).items():
                GenerationsFile(building / "generations.jsonl").append(step, written)
            write_json(building / "trunk.json", asdict(replace(info, rows=len(rows))))
            give_umask_rights(building)
            with contextlib.suppress(OSError):  # somebody else stored the same state at the same time
                building.rename(target)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        self._make_room(key)

    def _make_room(self, newest: str) -> None:
        """Evict the least recently used trunks until the rest fits; and remove what dead processes left half-written."""
        for leftover in self.directory.glob(".[0-9.]*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - leftover.stat().st_mtime > LEFT_BEHIND_SECONDS:
                    shutil.rmtree(leftover, ignore_errors=True)
        stored = sorted(self.trunks(), key=lambda trunk: trunk.last_used)
        taken = sum(trunk.bytes for trunk in stored)
        if self.disk_bytes is None or taken <= self.disk_bytes:
            return
        needed = self.needed()
        for trunk in stored:
            if trunk.path.name != newest and trunk.info.run not in needed:
                taken -= trunk.bytes
                self._discard(trunk)
            if taken <= self.disk_bytes:
                return

    def _trunks(self, directory: Path) -> Iterator[Trunk]:
        for path in sorted(directory.glob("[0-9]*-*")) if directory.is_dir() else ():
            try:
                info = self._infos.read(str(path / "trunk.json"))
                if info is not None:
                    yield Trunk(path, info)
            except DamagedError as error:
                # It saves work where it is whole, and may be another study's.
                log.warning("%s It is not used.", error)

    def put_aside(self, trunk: Trunk) -> None:
        """Discard a damaged trunk, or skip it where it is another study's."""
        if trunk.path.parent == self.directory:
            self._discard(trunk)
        else:
            self._damaged.add(trunk.path)

    def _discard(self, trunk: Trunk) -> None:
        # Readers see it whole or not at all.
        gone = Path(tempfile.mkdtemp(prefix=".0-evicted.", dir=self.directory))
        with contextlib.suppress(FileNotFoundError):
            trunk.path.rename(gone / trunk.path.name)
        shutil.rmtree(gone, ignore_errors=True)

    # Leases.

    def lease(self, digest: str, will_store: Sequence[str]) -> Lease | None:
        """The exclusive right to train the step to `digest`; None while another process has it."""
        path = self.lease_lock(digest)
        lock = hold(path)
        if lock is None:
            return None
        write_json(path.with_suffix(".json"), {"will_store": list(will_store)})
        return Lease(lock, path)

    def promised(self, digest: str) -> list[str]:
        """The keys that the holder of a lease will store."""
        document = read_json(self.lease_lock(digest).with_suffix(".json"))
        return list(document["will_store"]) if document else []

    def has_leases(self) -> bool:
        """Whether a process may be training a state that others wait for."""
        return any(self.lease_lock("").parent.glob("*.json"))

    def lease_lock(self, digest: str) -> Path:
        return self.directory / ".leases" / f"{digest}.lock"


@dataclass(frozen=True)
class Lease:
    """A lease that this process holds; it ends with the process."""

    lock: FileLock
    path: Path

    def release(self) -> None:
        self.path.with_suffix(".json").unlink(missing_ok=True)
        self.lock.release()


def _read_info(path: Path) -> TrunkInfo | None:
    info = read_json(path)
    return None if info is None else typed(TrunkInfo, info, path)
