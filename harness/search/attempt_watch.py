"""An attempt under way, followed by its worker: when it is asked to leave, when it is killed, and how it ended."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal, Protocol

from harness.runs.directory import RunDirectory
from harness.runs.exit_codes import DONE, MACHINE_FAULT, OUT_OF_MEMORY, STOPPED
from harness.runs.oom_kills import OutOfMemoryKills
from harness.runs.signals import STOP_SIGNALS
from harness.search.storage.contract import StorageLostError, StudyStorage
from harness.search.study import Claim, Study
from harness.search.time_left import TimeLeft

POLL_SECONDS = 0.2
RENEW_SECONDS = 5.0
"""A lease is extended when this much is left."""
LEAVE_SECONDS = 3.0
"""For a checkpoint, when the lease cannot be extended."""
KILL_SECONDS = 1.0
"""It is killed this long before its lease ends."""
STUCK_SECONDS = 10.0
"""How long rank 0 may take to notice that another rank is lost, before it is killed."""
SIGNAL_SECONDS = 0.5
"""Slurm signals all processes of a step, one after the other: an attempt may have left before we hear of it."""
SERVER_DIED = 255
"""multiprocessing's exit code for a process whose fork server died, whether or not the process lives."""

State = Literal["running", "asked", "stuck", "overdue"]
"""asked: to save a checkpoint at the end of its step, and to leave; stuck and overdue: killed, because another rank is lost, or its lease
is over. An attempt may end by itself in any state; none leads back."""


class OtherRanks(Protocol):
    """The other ranks of a worker whose trials train in several tasks of a step: see `harness.launch.rank_group`."""

    broken: str | None
    """Which rank is lost; no further attempt can start."""

    @property
    def sentinels(self) -> list[int]: ...

    def begin(self, run: str) -> tuple[Any, ...]:
        """Start an attempt on all ranks; further arguments for the attempt of this process."""

    def lost(self) -> str | None:
        """Which rank ended or was lost during the attempt, in words."""

    def is_to_blame(self) -> bool: ...

    def exit_codes(self) -> set[int]: ...

    def end(self) -> None:
        """End the attempt on all ranks."""


@dataclass(frozen=True)
class AttemptEnd:
    """How an attempt has ended."""

    claim: Claim
    """With its lease as it was in the end."""
    exit_code: int
    out_of_time: bool
    """Whether it was asked to leave because its lease could not be extended."""
    why: str | None
    """Why it failed, where its own files cannot know."""


@dataclass
class AttemptWatch:
    """Follows one attempt to its end."""

    process: BaseProcess
    """The attempt of this worker, started."""
    claim: Claim
    study: Study
    storage: StudyStorage
    _: KW_ONLY
    is_leaving: Callable[[], bool]
    """Whether the worker is leaving."""
    time_left: TimeLeft
    ranks: OtherRanks | None
    state: State = field(default="running", init=False)
    _lost_rank: str | None = field(default=None, init=False)
    _stuck_at: float = field(default=math.inf, init=False)
    _given_up: bool = field(default=False, init=False)
    _is_last_lease: bool = field(default=False, init=False)
    _metrics_bytes: int = field(default=0, init=False)
    _memory: OutOfMemoryKills = field(default_factory=OutOfMemoryKills, init=False)

    def follow(self) -> AttemptEnd:
        """Wait for the end of the attempt, on all ranks. It is over as well when this raises StorageLostError."""
        try:
            while not self._has_ended():
                self._look()
                self._act()
            return self._ended()
        except BaseException:
            # Another worker may take the trial over.
            self.process.kill()
            self.process.join()
            raise
        finally:
            if self.ranks:
                self.ranks.end()

    def _has_ended(self) -> bool:
        others = self.ranks.sentinels if self.ranks else []
        return self.process.sentinel in wait([self.process.sentinel, *self.storage.sentinels, *others], timeout=POLL_SECONDS)

    def _look(self) -> None:
        """Read what has changed."""
        self._memory.look()
        if self.storage.is_lost():
            problem = f"trial {self.claim.number} was ended, and goes on from its last checkpoint"
            raise StorageLostError(f"the storage does not answer: {problem}")
        if self.state == "running" and not self._given_up:
            self._look_at_metrics()
        if not self._is_last_lease and self._seconds_left < RENEW_SECONDS:
            longer = self.study.extend(self.claim)
            self.claim, self._is_last_lease = longer or self.claim, longer is None
        if self.ranks and self._lost_rank is None and (lost := self.ranks.lost()):
            self._lost_rank, self._stuck_at = lost, time.monotonic() + STUCK_SECONDS

    def _look_at_metrics(self) -> None:
        path = self.claim.run.metrics.path
        size = path.stat().st_size if path.exists() else 0
        if size != self._metrics_bytes:
            self._metrics_bytes = size
            self.time_left.watch(self.claim.run)
            self._given_up = self.study.watch(self.claim) is not None

    def _act(self) -> None:
        """Enter the next state."""
        leave = self.is_leaving() or self._given_up or (self._is_last_lease and self._seconds_left < LEAVE_SECONDS)
        if self.state == "running" and leave:
            self.state = "asked"
            self.process.terminate()
        if self.state in ("running", "asked"):
            if self._is_last_lease and self._seconds_left < KILL_SECONDS:
                self.state = "overdue"
                self.process.kill()
            elif time.monotonic() > self._stuck_at:
                self.state = "stuck"
                self.process.kill()

    @property
    def _seconds_left(self) -> float:
        return self.study.seconds_left(self.claim)

    def _ended(self) -> AttemptEnd:
        process = self.process
        process.join()
        assert process.exitcode is not None
        if process.exitcode == SERVER_DIED:
            _kill(process.pid, self.claim.run)
        if -process.exitcode in STOP_SIGNALS and self.state == "running":
            time.sleep(SIGNAL_SECONDS)
        code, why = process.exitcode, None
        if self.ranks and code not in (DONE, STOPPED):
            blamed = self.ranks.is_to_blame() or self.state == "stuck"
            why = (self.ranks.lost() or self._lost_rank) if blamed else None
            self.ranks.end()
            code = next((known for known in (MACHINE_FAULT, OUT_OF_MEMORY) if known in self.ranks.exit_codes()), code)
        if code == -signal.SIGKILL and self.state in ("running", "asked") and self._memory.was_just_now():
            code = OUT_OF_MEMORY
        out_of_time = self._is_last_lease and self.state in ("asked", "overdue")
        return AttemptEnd(self.claim, code, out_of_time, why)


def _kill(pid: int | None, run: RunDirectory) -> None:
    """Kill the attempt of a server that died."""
    assert pid is not None, "it has been started"
    while run.is_attempted():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
