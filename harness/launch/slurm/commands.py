"""Slurm's commands: each call with a timeout and a bounded number of tries, and Slurm's own words where it refuses.

A controller that is down or restarts makes them fail after some ten seconds, or hang. What they print is asked for in columns of our own
choosing (`squeue -O`, `sacct -P`): their JSON changes from version to version, and sbatch and scontrol have none.
"""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.config.errors import InputError
from harness.launch.slurm.job_elements import Accounted, JobElement, QueuedElement, parse_elements
from harness.launch.slurm.states import parse_state

log = logging.getLogger(__name__)

KEPT_VARIABLES = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS")
"""The only ones of Slurm's variables that its commands are given: inside a job, all others would be taken for options."""
OPTION_VARIABLES = ("SLURM_", "SBATCH_", "SRUN_", "SQUEUE_", "SACCT_", "SCANCEL_", "SCONTROL_")
FIRST_PAUSE_SECONDS = 0.5
MAX_PAUSE_SECONDS = 10.0
SETTLE_SECONDS = 1.0
# What the commands say when it is not the request that is wrong (src/common/slurm_errno.c), and so may be worth another try.
TRANSIENT = (
    "Unable to contact slurm controller",
    "Unable to establish controller machine",
    "Socket timed out",
    "connect failure",
    "Connection refused",
    "Connection reset",
    "Connection timed out",
    "Communication connection failure",
    "Communication shutdown failure",
    "Message receive failure",
    "Message send failure",
    "Unexpected message received",
    "Zero Bytes were transmitted or received",
    "Transport endpoint is not connected",
    "Slurm backup controller in standby mode",
    "Slurm temporarily unable to accept job",
    "Resource temporarily unavailable",
    "Protocol authentication error",
    "Munge encode failed",
    "Insane message length",
    "DbdMessage",
    "Unable to connect to database",
    "Problem talking to the database",
)
QUEUE_COLUMNS = {
    **{"JobArrayID": 400, "State": 20, "Reason": 80, "NodeList": 400, "RestartCnt": 8, "SubmitTime": 24, "StartTime": 24, "EndTime": 24},
    **{"Partition": 80, "tres-alloc": 200, "Command": 1024},
}
"""Of squeue, with their widths: it cuts off what is wider."""
SEPARATOR = "\x1f"
ACCOUNTING_COLUMNS = ("JobID", "State", "Start")


class SlurmRefusedError(InputError):
    """Slurm refused what it was asked; the message has its own words."""


class SlurmUnavailableError(Exception):
    """Slurm does not answer; the message says which command, for how long, and its last words."""


@dataclass(frozen=True)
class _Answer:
    rc: int
    stdout: str
    words: str
    """What it said on stderr, in one line."""

    def says_only(self, texts: tuple[str, ...]) -> bool:
        """Whether each of its complaints is one of these."""
        return bool(self.words) and all(any(text in part for text in texts) for part in self.words.split("; "))

    @property
    def is_transient(self) -> bool:
        return self.rc != 0 and any(text in self.words for text in TRANSIENT)


@dataclass(frozen=True)
class Slurm:
    """The commands of a cluster."""

    cluster: str | None = None
    """The name of one of several clusters that the commands serve (--clusters); None: the one of this machine."""
    timeout_seconds: float = 60.0
    """What one call may take."""
    patience_seconds: float = 120.0
    """For how long a call is tried again while the controller does not answer."""

    # Submitting and ending.

    def submit(self, script: Path) -> JobElement:
        """Submit a batch script; the job (of an array: of all its elements). Its options stand in the script itself.

        A controller that was too slow to answer may have taken the job: before another try, and after it, the queue is looked at for jobs
        of this very script, and only one is kept. So give every submission a file of its own.
        Raises SlurmRefusedError, SlurmUnavailableError.
        """
        path = script.resolve()
        tries = 0

        def taken() -> list[int]:
            return sorted({queued.element.job for queued in self.queue(script=path) if queued.state.is_alive})

        def already() -> _Answer | None:
            nonlocal tries
            tries += 1
            time.sleep(SETTLE_SECONDS)  # a controller that answers again handles what has piled up in no particular order
            found = taken()
            return _Answer(0, f"{found[0]}\n", "") if found else None

        answer = self._call("sbatch", ["--parsable", str(path)], before_retry=already)
        # "123" or "123;cluster", below whatever a site's own wrapper may have said.
        number = answer.stdout.split()[-1].partition(";")[0] if answer.stdout.split() else ""
        if not number.isdigit():
            raise SlurmRefusedError(f"sbatch {path}: gave no job id: {answer.stdout.strip() or answer.words!r}")
        job = int(number)
        if tries:
            self.cancel([JobElement(other) for other in taken() if other != job])
        return JobElement(job)

    def test(self, script: Path) -> str:
        """Ask whether the script would be accepted (sbatch --test-only); what Slurm says of it. Raises SlurmRefusedError."""
        return self._call("sbatch", ["--test-only", str(script.resolve())]).words

    def cancel(self, elements: Collection[JobElement]) -> None:
        """Cancel jobs and elements; those that have ended already are passed over. Raises SlurmRefusedError, SlurmUnavailableError."""
        names = sorted(map(str, elements))
        for start in range(0, len(names), 500):  # the length of a command line is limited
            self._call(
                "scancel",
                names[start : start + 500],
                harmless=("Job/step already completing or completed", "Invalid job id specified"),
            )

    def requeue(self, element: JobElement) -> None:
        """Put a job, or one element of an array, back into the queue. Raises SlurmRefusedError where it does not run, or may not be."""
        self._call("scontrol", ["requeue", str(element)])

    def update(self, element: JobElement, **changes: str) -> None:
        """Change a job that waits or runs (scontrol update): `ArrayTaskThrottle="4"`. Raises SlurmRefusedError."""
        self._call("scontrol", ["update", f"JobId={element}", *(f"{name}={value}" for name, value in changes.items())])

    # Looking.

    def queue(self, jobs: Collection[int] = (), *, script: Path | None = None) -> list[QueuedElement]:
        """What squeue says of these jobs, or of those of one script, element by element; in one call, whatever their number (a second
        one where what waits of an array is a very long list).

        Also those that ended within the last minutes (MinJobAge, usually five); a job that squeue does not know (any more) is left out.
        Raises SlurmUnavailableError.
        """
        if not jobs and script is None:
            return []
        chosen = ["--jobs", ",".join(map(str, sorted(jobs)))] if jobs else ["--user", str(os.getuid())]
        found: list[QueuedElement] = []
        cut_off: set[int] = set()
        for cells in self._squeue(*chosen):
            try:
                found += _queued(cells)
            except ValueError:  # a list of indices that is longer than its column
                cut_off.add(int(cells["JobArrayID"].partition("_")[0]))
        if cut_off:
            # Only now a line for each element: Slurm 22.05 then leaves out the last one of what it writes as "1-99:2" otherwise.
            known = {queued.element for queued in found}
            rows = self._squeue("--array", "--jobs", ",".join(map(str, sorted(cut_off))))
            found += [queued for cells in rows for queued in _queued(cells) if queued.element not in known]
        return [queued for queued in found if script is None or queued.script == str(script)]

    def _squeue(self, *chosen: str) -> list[dict[str, str]]:
        """Its lines, by the names of their columns."""
        columns = ",".join(f"{name}:{width}{SEPARATOR}" for name, width in QUEUE_COLUMNS.items())
        answer = self._call(
            "squeue", ["--noheader", "--states=all", *chosen, f"--Format={columns}"], harmless=("Invalid job id specified",)
        )
        lines = [line.split(SEPARATOR) for line in answer.stdout.splitlines() if SEPARATOR in line]
        return [dict(zip(QUEUE_COLUMNS, (cell.strip() for cell in cells), strict=False)) for cells in lines]

    def accounting(self, jobs: Collection[int]) -> list[Accounted] | None:
        """What sacct says of all allocations of these jobs, those before a requeue too; it lags by seconds. None: no accounting here.

        Raises SlurmUnavailableError.
        """
        if not jobs:
            return []
        answer = self._call(
            "sacct",
            [
                *("--allocations", "--duplicates", "--parsable2", "--noheader"),
                *("--jobs", ",".join(map(str, sorted(jobs))), f"--format={','.join(ACCOUNTING_COLUMNS)}"),
            ],
            harmless=("accounting storage is disabled",),
        )
        if answer.rc != 0:
            return None
        return [accounted for line in answer.stdout.splitlines() if "|" in line for accounted in _accounted(line)]

    # One call.

    def _call(
        self,
        program: str,
        arguments: Sequence[str],
        *,
        harmless: tuple[str, ...] = (),
        before_retry: Callable[[], _Answer | None] = lambda: None,
    ) -> _Answer:
        """Run a command until it answers.

        harmless: complaints that are an answer, too. before_retry: says whether what was asked has been done in spite of all.
        """
        command = [program, *([f"--clusters={self.cluster}"] if self.cluster else []), *arguments]
        deadline = time.monotonic() + self.patience_seconds
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                answer = _run(command, self.timeout_seconds)
                if answer.rc == 0 or answer.says_only(harmless):
                    return answer
                if not answer.is_transient:
                    raise SlurmRefusedError(f"{program}: {answer.words or f'exit code {answer.rc}'}")
                words = answer.words
            except subprocess.TimeoutExpired:
                words = f"no answer within {self.timeout_seconds:.0f} s"
            if time.monotonic() + pause > deadline:
                raise SlurmUnavailableError(f"{program}: Slurm does not answer: {words} (tried for {self.patience_seconds:.0f} s)")
            log.info("%s: %s; once more in %.1f s", program, words, pause)
            time.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)
            done = before_retry()
            if done is not None:
                return done


def _run(command: list[str], timeout_seconds: float) -> _Answer:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            check=False,
            env=slurm_environment(os.environ),
        )
    except FileNotFoundError:
        raise InputError(f"{command[0]}: not on this machine's search path; launcher=slurm needs Slurm's commands (a login node)") from None
    # "sbatch: error: Batch job submission failed: …": the program's name once is enough.
    lines = [line.removeprefix(f"{command[0]}: ").removeprefix("error: ").strip() for line in done.stderr.splitlines()]
    return _Answer(done.returncode, done.stdout, "; ".join(line for line in lines if line))


def slurm_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a command of Slurm: without the variables of a job that we may be in, in plain English, times as numbers, and
    lists of array indices whole."""
    kept = {name: value for name, value in environment.items() if name in KEPT_VARIABLES or not name.startswith(OPTION_VARIABLES)}
    return {**kept, "LC_ALL": "C", "SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}


def _queued(cells: dict[str, str]) -> list[QueuedElement]:
    state = parse_state(cells["State"])
    return [
        QueuedElement(
            element=element,
            state=state,
            reason=cells["Reason"] if state.phase == "waiting" and cells["Reason"] not in ("None", "") else None,
            nodes=cells["NodeList"] if cells["NodeList"] != "(null)" else "",
            restarts=int(cells["RestartCnt"] or 0),
            submitted=_time(cells["SubmitTime"]),
            started=_time(cells["StartTime"]),
            ends=_time(cells["EndTime"]),
            partition=cells["Partition"],
            resources=cells["tres-alloc"],
            script=cells["Command"],
        )
        for element in parse_elements(cells["JobArrayID"])
    ]


def _accounted(line: str) -> list[Accounted]:
    job, state, started = line.split("|")[:3]
    return [Accounted(element, parse_state(state), _time(started)) for element in parse_elements(job)]


def _time(text: str) -> float | None:
    """Seconds since the epoch; None for "N/A", "Unknown" and "NONE"."""
    return float(text) if text.isdigit() else None
