"""The worker: claims trials of a study and runs them, one at a time, until nothing is left or it is asked to stop."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import Any, Protocol, TypedDict

from harness.config.errors import InputError
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.exit_codes import DONE, OUT_OF_MEMORY, STOPPED
from harness.runs.files import write_json
from harness.runs.memory import oom_kills
from harness.runs.place import AskFates, Place
from harness.runs.signals import STOP_SIGNALS
from harness.search.attempts import AttemptFunction, AttemptServer
from harness.search.job_lookup import JobLookup
from harness.search.storage.build import open_storage
from harness.search.storage.contract import StorageLostError
from harness.search.study import Claim, Study
from harness.search.sweep import thaw
from harness.search.time_left import TimeLeft

POLL_SECONDS = 0.2
MAX_WAIT_SECONDS = 2.0
"""Between two looks for work when there is none: many workers that look all the time would keep the others from settling."""
RECONNECT_SECONDS = 600.0
"""A database that is moved or restarted comes back within minutes."""
MAX_RECONNECT_PAUSE_SECONDS = 10.0
RENEW_SECONDS = 5.0
"""A lease is made longer when it has so much left."""
LEAVE_SECONDS = 3.0
"""What an attempt is given to save a checkpoint, when its lease cannot be made longer."""
KILL_SECONDS = 1.0
"""What is kept back, so that it is gone when its lease ends."""
SERVER_DIED = 255
"""What multiprocessing takes for the exit code of a process whose fork server is gone, whether or not the process lives."""
STUCK_SECONDS = 10.0
"""How long rank 0 may need to notice that another rank has fallen out, before it is ended."""
SIGNAL_SECONDS = 0.5
"""Slurm signals all processes of a step, one after the other: an attempt may have left before we hear of it."""
log = logging.getLogger(__name__)


class Card(TypedDict):
    """What a worker says of itself in workers/<id>.json."""

    id: str
    pid: int
    host: str
    started: float
    """Seconds since the epoch."""
    ends: float | None
    """When the job that it sits in ends."""
    node: str
    job: str | None
    restart: int
    """These three: see `harness.runs.place.Place`."""


class Crew(Protocol):
    """The other ranks of a worker whose trials train in several tasks of a step: see `harness.launch.crew`."""

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

    def end(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Seat:
    """Where a worker sits, as whoever started it knows."""

    place: Place = field(default_factory=lambda: Place(node=socket.gethostname()))
    ends: float | None = None
    """When the job ends, in seconds since the epoch; None where nothing ends it."""
    ask: AskFates | None = None
    """How to ask after the jobs of other workers; None where there is no cluster to ask."""
    crew: Crew | None = None
    """The other ranks; None where an attempt starts its own, or needs none."""
    threads: int | None = None
    """The CPU threads of its trials; None: an equal share of the machine's cores for each of the study's workers."""


class Worker:
    """One worker of a study, in this process."""

    def __init__(
        self,
        directory: StudyDirectory,
        attempt: AttemptFunction,
        preload: list[str],
        seat: Seat | None = None,
        *,
        settled: Callable[[], None] = lambda: None,
    ) -> None:
        """settled: called after the end of every attempt."""
        self.directory = directory
        self._settled = settled
        self._stop = False
        # Before anything that takes time: whoever is told to leave while it starts leaves as it should.
        for number in STOP_SIGNALS:
            signal.signal(number, self._ask_to_stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command that started us; it tells us
        self._seat = seat or Seat()
        self._job_lookup = JobLookup(self._seat.ask, own=self._seat.place)
        self._time_left = TimeLeft(self._seat.ends)
        self._sweep = thaw(directory.sweep)
        self._join()
        self._server = AttemptServer(attempt, preload)

    def _join(self) -> None:
        """Become a worker of the study, under a new name: what one of an older name held is for others to take over."""
        # Process ids come again, after a restart in a container even the same ones: a dead worker must not look alive by its successor.
        self.id = f"{self._seat.place.node}-{os.getpid()}-{secrets.token_hex(3)}"
        self._storage = open_storage(self.directory, self.id)
        self._storage.announce(self.id)
        place = self._seat.place
        card = Card(
            id=self.id,
            pid=os.getpid(),
            host=socket.gethostname(),
            started=time.time(),
            ends=self._seat.ends,
            node=place.node,
            job=place.job,
            restart=place.restart,
        )
        write_json(self.directory.workers / f"{self.id}.json", card)
        self._study = Study(
            self.directory,
            self._sweep,
            self.id,
            self._storage,
            place=place,
            job_lookup=self._job_lookup,
            threads=self._seat.threads,
        )

    def work(self) -> int:
        """Pull trials until nothing is left to do, or until it has to leave: asked by a signal or `harness stop`, or short of time.

        Returns the exit code: DONE, or STOPPED where the study has work left and wants a worker in its place.
        """
        while not self._stopping:
            try:
                if self._pull():
                    return DONE
                break
            except StorageLostError as error:
                log.warning("%s", error)
                self._rejoin()
        return DONE if self._dismissed else STOPPED

    def _pull(self) -> bool:
        """Whether nothing will come any more; else there is no time left, or it was asked to leave."""
        pause = POLL_SECONDS
        while not self._stopping:
            if not self._time_left.holds_an_interval:
                log.info("leaves: what is left of its job's time does not hold the way to a checkpoint")
                return False
            answer = self._study.claim()
            if answer == "done":
                return True
            if answer == "wait":
                self._job_lookup.ask()
                time.sleep(pause)
                pause = min(1.5 * pause, MAX_WAIT_SECONDS)
                continue
            pause = POLL_SECONDS
            if self._study.prepare(answer):
                self._run(answer)
            if self._seat.crew and self._seat.crew.broken:
                log.warning("leaves: %s", self._seat.crew.broken)
                return False
        return False

    def _rejoin(self) -> None:
        self._storage.close()
        deadline = time.monotonic() + RECONNECT_SECONDS
        pause = POLL_SECONDS
        while not self._stopping:
            try:
                self._join()
                return
            except (InputError, StorageLostError) as error:
                if time.monotonic() > deadline:
                    raise
                log.warning("%s; once more in %.0f s", error, pause)
            time.sleep(pause)
            pause = min(2 * pause, MAX_RECONNECT_PAUSE_SECONDS)

    @property
    def _stopping(self) -> bool:
        return self._stop or self._dismissed

    @property
    def _dismissed(self) -> bool:
        """Whether nobody is wanted in its place: the study is being stopped, or is to have fewer workers."""
        return self.directory.stop_request.exists() or self.directory.leave_request(self.id).exists()

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop = True

    def _run(self, claim: Claim) -> None:
        log.info("trial %d starts", claim.number)
        killed_before = oom_kills()
        crew = self._seat.crew
        process = self._server.start(claim.run.path, *(crew.begin(str(claim.run.path)) if crew else ()))
        fallen: str | None = None
        stuck = math.inf
        asked = given_up = expired = False
        size = 0
        while process.sentinel not in wait(
            [process.sentinel, *self._storage.sentinels, *(crew.sentinels if crew else ())], timeout=POLL_SECONDS
        ):
            if self._storage.is_lost():
                process.kill()
                process.join()
                raise StorageLostError(f"the storage does not answer: trial {claim.number} was ended, and goes on from its last checkpoint")
            if not (asked or given_up) and (written := _size(claim.run.metrics.path)) != size:
                size = written
                self._time_left.watch(claim.run)
                given_up = self._study.watch(claim) is not None
            left = claim.lease_ends - time.time()
            if not expired and left < RENEW_SECONDS:
                longer = self._study.extend(claim)
                claim, expired = longer or claim, longer is None
            if crew and fallen is None and (fallen := crew.lost()):
                stuck = time.monotonic() + STUCK_SECONDS
            if time.monotonic() > stuck:
                process.kill()
            leaving = self._stopping or self._time_left.is_over
            if not asked and (leaving or given_up or (expired and left < LEAVE_SECONDS)):
                asked = True
                process.terminate()  # a request: it saves a checkpoint at the end of its step
            if expired and left < KILL_SECONDS:
                process.kill()
        process.join()
        assert process.exitcode is not None
        if process.exitcode == SERVER_DIED:
            _kill(process.pid, claim.run)
        if -process.exitcode in STOP_SIGNALS and not asked:
            time.sleep(SIGNAL_SECONDS)
        code = process.exitcode
        if crew:
            blamed = code not in (DONE, STOPPED) and (crew.is_to_blame() or time.monotonic() > stuck)
            fallen = crew.lost() or fallen
            crew.end()
            if code not in (DONE, STOPPED) and OUT_OF_MEMORY in crew.exit_codes():
                code = OUT_OF_MEMORY
        if code == -signal.SIGKILL and killed_before is not None and (oom_kills() or 0) > killed_before:
            code = OUT_OF_MEMORY
        stopping = self._stopping or self._time_left.is_over
        result = self._study.settle(claim, code, stopping=stopping, expired=expired and asked, why=fallen if crew and blamed else None)
        log.info("trial %d: %s%s", claim.number, result.state, f" ({result.reason})" if result.reason else "")
        self._settled()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _kill(pid: int | None, run: RunDirectory) -> None:
    """End the attempt of a server that died: nobody would watch over it any more."""
    assert pid is not None, "it has been started"
    while run.is_attempted():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
