"""The worker: claims trials of a study and runs them, one at a time, until nothing is left or it is asked to stop."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from types import FrameType

from harness.config.errors import InputError
from harness.runs.directory import StudyDirectory
from harness.runs.exit_codes import DONE, MACHINE_FAULT, STOPPED
from harness.runs.files import write_json
from harness.runs.machine_faults import machine_fault
from harness.runs.place import AskJobOutcomes, Place
from harness.runs.signals import STOP_SIGNALS
from harness.search.attempt_watch import POLL_SECONDS, AttemptWatch, OtherRanks
from harness.search.attempts import AttemptFunction, AttemptServer
from harness.search.job_lookup import JobLookup
from harness.search.storage.build import open_storage
from harness.search.storage.contract import StorageLostError
from harness.search.study import Claim, Study
from harness.search.sweep import thaw
from harness.search.time_left import TimeLeft

MAX_WAIT_SECONDS = 2.0
"""Between two looks for work when there is none: many workers that look all the time would keep the others from settling."""
RECONNECT_SECONDS = 600.0
"""A database that is moved or restarted comes back within minutes."""
MAX_RECONNECT_PAUSE_SECONDS = 10.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WorkerPlacement:
    """Where a worker runs, and with whom."""

    place: Place = field(default_factory=lambda: Place(node=socket.gethostname()))
    ends: float | None = None
    """When the job ends, in seconds since the epoch; None where nothing ends it."""
    ask: AskJobOutcomes | None = None
    """Asks the cluster for the outcome of other workers' jobs; None without a cluster."""
    ranks: OtherRanks | None = None
    """The other ranks; None where an attempt starts its own or has one."""
    threads: int | None = None
    """The CPU threads of its trials; None: an equal share of the machine's cores for each of the study's workers."""


class Worker:
    """One worker of a study, in this process."""

    def __init__(
        self,
        directory: StudyDirectory,
        attempt: AttemptFunction,
        preload: list[str],
        placement: WorkerPlacement | None = None,
        *,
        settled: Callable[[], None] = lambda: None,
    ) -> None:
        """settled: called after the end of every attempt."""
        self.directory = directory
        self._settled = settled
        self._stop = False
        self._fault: str | None = None
        """Which disk has failed it."""
        # First: a signal that arrives while it starts must not be lost.
        for number in STOP_SIGNALS:
            signal.signal(number, self._ask_to_stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command that started us; it tells us
        self._placement = placement or WorkerPlacement()
        self._job_lookup = JobLookup(self._placement.ask, own=self._placement.place)
        self._time_left = TimeLeft(self._placement.ends)
        self._sweep = thaw(directory.sweep)
        self._join()
        self._server = AttemptServer(attempt, preload)

    def _join(self) -> None:
        """Join the study under a new name: trials of the old name are for others to take over."""
        # Process ids are reused, in a restarted container even the same ones: a successor must not make a dead worker look alive.
        self.id = f"{self._placement.place.node}-{os.getpid()}-{secrets.token_hex(3)}"
        self._storage = open_storage(self.directory, self.id)
        self._storage.announce(self.id)
        place = self._placement.place
        process = {"id": self.id, "pid": os.getpid(), "host": socket.gethostname(), "started": time.time()}
        write_json(self.directory.worker_file(self.id), {**process, "ends": self._placement.ends, **asdict(place)})
        self._study = Study(
            self.directory,
            self._sweep,
            self.id,
            self._storage,
            place=place,
            job_lookup=self._job_lookup,
            threads=self._placement.threads,
        )

    def work(self) -> int:
        """Run trials until nothing is left, or until it has to leave: by a signal, `harness stop`, or its time limit.

        Returns the exit code: DONE, STOPPED where the study has work left and wants a worker in its place, or MACHINE_FAULT where a disk
        failed it, which it says. What it was at costs nothing then, and waits for whoever comes next.
        """
        try:
            return self._work()
        except OSError as error:
            if (fault := machine_fault(error, self.directory.path)) is None:
                raise
            log.error("leaves: %s", fault)
            # It cannot write any more, but whoever takes its trial over should know.
            with contextlib.suppress(OSError):
                self.directory.worker_file(self.id).rename(self.directory.fault_note(self.id))
            return MACHINE_FAULT

    def _work(self) -> int:
        while not self._stopping:
            try:
                if self._pull():
                    return DONE
                break
            except StorageLostError as error:
                log.warning("%s", error)
                self._rejoin()
        if self._fault is not None:
            log.error("leaves: %s", self._fault)
            return MACHINE_FAULT
        return DONE if self._dismissed else STOPPED

    def _pull(self) -> bool:
        """True when nothing is left; False when it has to leave."""
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
            if self._fault is not None:
                return False
            if self._placement.ranks and self._placement.ranks.broken:
                log.warning("leaves: %s", self._placement.ranks.broken)
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
        """Whether it needs no successor: the study is being stopped, or is to have fewer workers."""
        return self.directory.stop_request.exists() or self.directory.leave_request(self.id).exists()

    @property
    def _is_leaving(self) -> bool:
        return self._stopping or self._time_left.is_over

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop = True

    def _run(self, claim: Claim) -> None:
        log.info("trial %d starts", claim.number)
        ranks = self._placement.ranks
        process = self._server.start(claim.run.path, *(ranks.begin(str(claim.run.path)) if ranks else ()))
        watch = AttemptWatch(
            process,
            claim,
            self._study,
            self._storage,
            is_leaving=lambda: self._is_leaving,
            time_left=self._time_left,
            ranks=ranks,
        )
        end = watch.follow()
        result = self._study.settle(end.claim, end.exit_code, stopping=self._is_leaving, expired=end.out_of_time, why=end.why)
        if end.exit_code == MACHINE_FAULT:
            self._fault = result.reason
        log.info("trial %d: %s%s", claim.number, result.state, f" ({result.reason})" if result.reason else "")
        self._settled()
