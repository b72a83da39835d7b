"""An attempt under way, seen from its worker: what it is asked, when it is killed, and how it has ended."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal, Protocol

from harness.runs.directory import RunDirectory
from harness.runs.exit_codes import DONE, OUT_OF_MEMORY, STOPPED
from harness.runs.oom_kills import OutOfMemoryKills
from harness.runs.signals import STOP_SIGNALS
from harness.search.storage.contract import StorageLostError, StudyStorage
from harness.search.study import Claim, Study
from harness.search.time_left import TimeLeft

POLL_SECONDS = 0.2
RENEW_SECONDS = 5.0
"""A lease is made longer when it has so much left."""
LEAVE_SECONDS = 3.0
"""What an attempt is given to save a checkpoint, when its lease cannot be made longer."""
KILL_SECONDS = 1.0
"""What is kept back, so that it is gone when its lease ends."""
STUCK_SECONDS = 10.0
"""How long rank 0 may need to notice that another rank has fallen out, before it is ended."""
SIGNAL_SECONDS = 0.5
"""Slurm signals all processes of a step, one after the other: an attempt may have left before we hear of it."""
SERVER_DIED = 255
"""What multiprocessing takes for the exit code of a process whose fork server is gone, whether or not the process lives."""

State = Literal["running", "asked", "stuck", "overdue"]
"""asked: to save a checkpoint at the end of its step, and to leave; stuck and overdue: killed, because another rank has fallen out, or
because its lease is over. An attempt may end by itself in any state; none leads back."""


class OtherRanks(Protocol):
    """The other ranks of a worker whose trials train in several tasks of a step: see `harness.launch.rank_group`."""

    broken: str | None
    """Who is gone for good."""

    @property
    def sentinels(self) -> list[int]: ...

    def begin(self, run: str) -> tuple[Any, ...]:
        """Have all join an attempt; what the attempt of this process is told besides its run."""

    def lost(self) -> str | None:
        """Who has fallen out of the attempt under way, in words."""

    def is_to_blame(self) -> bool: ...

    def exit_codes(self) -> set[int]: ...

    def end(self) -> None:
        """Have all end their parts in the attempt."""


@dataclass(frozen=True)
class AttemptEnd:
    """How an attempt has ended."""

    claim: Claim
    """With its lease as it was in the end."""
    exit_code: int
    out_of_time: bool
    """Whether it was asked to leave when its lease could not be made longer."""
    why: str | None
    """Why it failed, where its own files cannot know."""


class AttemptWatch:
    """Follows one attempt to its end."""

    def __init__(
        self,
        process: BaseProcess,
        claim: Claim,
        study: Study,
        storage: StudyStorage,
        *,
        is_leaving: Callable[[], bool],
        time_left: TimeLeft,
        ranks: OtherRanks | None,
    ) -> None:
        """Args: process, the attempt of this worker, started; is_leaving, whether the worker is on its way out."""
        self.state: State = "running"
        self._process = process
        self._claim = claim
        self._study = study
        self._storage = storage
        self._is_leaving = is_leaving
        self._time_left = time_left
        self._ranks = ranks
        self._lost_rank: str | None = None
        self._stuck_at = math.inf
        self._given_up = False
        self._is_last_lease = False
        self._metrics_bytes = 0
        self._memory = OutOfMemoryKills()

    def follow(self) -> AttemptEnd:
        """Returns when the attempt is over, in all ranks. Raises StorageLostError, and then it is over as well."""
        try:
            while not self._has_ended():
                self._look()
                self._act()
            return self._ended()
        except BaseException:
            # Nobody would watch over it any more, and another worker may take its trial over.
            self._process.kill()
            self._process.join()
            raise
        finally:
            if self._ranks:
                self._ranks.end()

    def _has_ended(self) -> bool:
        others = self._ranks.sentinels if self._ranks else []
        return self._process.sentinel in wait([self._process.sentinel, *self._storage.sentinels, *others], timeout=POLL_SECONDS)

    def _look(self) -> None:
        """Take note of what has happened since the last look."""
        self._memory.look()
        if self._storage.is_lost():
            problem = f"trial {self._claim.number} was ended, and goes on from its last checkpoint"
            raise StorageLostError(f"the storage does not answer: {problem}")
        if self.state == "running" and not self._given_up:
            self._look_at_metrics()
        if not self._is_last_lease and self._seconds_left < RENEW_SECONDS:
            longer = self._study.extend(self._claim)
            self._claim, self._is_last_lease = longer or self._claim, longer is None
        if self._ranks and self._lost_rank is None and (lost := self._ranks.lost()):
            self._lost_rank, self._stuck_at = lost, time.monotonic() + STUCK_SECONDS

    def _look_at_metrics(self) -> None:
        path = self._claim.run.metrics.path
        size = path.stat().st_size if path.exists() else 0
        if size != self._metrics_bytes:
            self._metrics_bytes = size
            self._time_left.watch(self._claim.run)
            self._given_up = self._study.watch(self._claim) is not None

    def _act(self) -> None:
        """Go over to the state that follows from it."""
        leave = self._is_leaving() or self._given_up or (self._is_last_lease and self._seconds_left < LEAVE_SECONDS)
        if self.state == "running" and leave:
            self.state = "asked"
            self._process.terminate()
        if self.state in ("running", "asked"):
            if self._is_last_lease and self._seconds_left < KILL_SECONDS:
                self.state = "overdue"
                self._process.kill()
            elif time.monotonic() > self._stuck_at:
                self.state = "stuck"
                self._process.kill()

    @property
    def _seconds_left(self) -> float:
        return self._claim.lease_ends - time.time()

    def _ended(self) -> AttemptEnd:
        process = self._process
        process.join()
        assert process.exitcode is not None
        if process.exitcode == SERVER_DIED:
            _kill(process.pid, self._claim.run)
        if -process.exitcode in STOP_SIGNALS and self.state == "running":
            time.sleep(SIGNAL_SECONDS)
        code, why = process.exitcode, None
        if self._ranks and code not in (DONE, STOPPED):
            blamed = self._ranks.is_to_blame() or self.state == "stuck"
            why = (self._ranks.lost() or self._lost_rank) if blamed else None
            self._ranks.end()
            if OUT_OF_MEMORY in self._ranks.exit_codes():
                code = OUT_OF_MEMORY
        if code == -signal.SIGKILL and self.state in ("running", "asked") and self._memory.was_just_now():
            code = OUT_OF_MEMORY
        out_of_time = self._is_last_lease and self.state in ("asked", "overdue")
        return AttemptEnd(self._claim, code, out_of_time, why)


def _kill(pid: int | None, run: RunDirectory) -> None:
    """End the attempt of a server that died: nobody would watch over it any more."""
    assert pid is not None, "it has been started"
    while run.is_attempted():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
