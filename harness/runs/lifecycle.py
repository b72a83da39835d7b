"""The life of an attempt on a run: the ways in which it ends, the state that each makes of the run, and who writes that to result.json.

While an attempt lives it holds the run's attempt lock and alone writes result.json, through `LiveResult`. Afterwards the study's workers
write it (`harness.search.settle`); they decide whether a trial is tried again. A single run is not tried again by itself, so its attempt
books its own end; one that was killed is booked by the next attempt.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from signal import SIGINT
from types import TracebackType

from harness.config.errors import InputError
from harness.runs import exit_codes
from harness.runs.directory import RunDirectory
from harness.runs.files import read_yaml
from harness.runs.machine_faults import machine_fault
from harness.runs.place import JobOutcome
from harness.runs.result import FINAL_STATES, Result, State, Tokens, read_result, write_result
from harness.runs.signals import STOP_SIGNALS, signal_name
from harness.runs.trial import Trial

CLEAN_STOP = "stopped"
"""Why a run waits that saved a checkpoint because it was asked to stop."""
OUT_OF_MEMORY = "out of memory"
"""How the reason begins of an attempt for which there was too little memory."""
DISK_FAILED = "its disk failed, so that nothing could be written"
"""The reason of an attempt that could not even leave a reason."""
STOPPED_EARLY = tuple(-number for number in (*STOP_SIGNALS, SIGINT))
"""Exit codes of an attempt that is asked to stop before it can save anything: nothing is lost."""


class EndingKind(Enum):
    """The ways in which an attempt ends."""

    COMPLETE = "complete"
    FAILED = "failed"
    """Another attempt would come to the same: a wrong value, a loss that is not finite; or none is allowed any more."""
    PRUNED = "pruned"
    """It has ended before its planned length, and is not to go on: its study gave the trial up, or a callback ended the run."""
    STOPPED = "stopped"
    """It was asked to leave, and saved a checkpoint."""
    NOT_BEGUN = "not begun"
    """It waits for a trunk that another run trains, or never started: it does not count as an attempt."""
    RESERVED_TOO_LITTLE = "reserved too little"
    """It has not begun: a trunk is gone, and it would train more than the study reserved for it."""
    INTERRUPTED = "interrupted"
    """Something outside of it ended it, such as a preempted job: it may happen any number of times."""
    CRASHED = "crashed"
    """An exception, or a signal that it could not answer: it counts as a failure."""
    OUT_OF_MEMORY = "out of memory"
    """Another attempt would come to the same, unless it needs less."""
    MACHINE_FAULT = "machine fault"
    """The machine failed it, a disk that is full as a rule: it costs nothing, and its worker leaves."""


_STATES: dict[EndingKind, State] = {EndingKind.COMPLETE: "complete", EndingKind.FAILED: "failed", EndingKind.PRUNED: "pruned"}
"""Every other ending leaves the run waiting."""
_EXIT_CODES = {
    EndingKind.COMPLETE: exit_codes.DONE,
    EndingKind.PRUNED: exit_codes.DONE,
    EndingKind.STOPPED: exit_codes.STOPPED,
    EndingKind.NOT_BEGUN: exit_codes.TRUNK_UNDER_WAY,
    EndingKind.RESERVED_TOO_LITTLE: exit_codes.RESERVED_TOO_LITTLE,
    EndingKind.OUT_OF_MEMORY: exit_codes.OUT_OF_MEMORY,
    EndingKind.MACHINE_FAULT: exit_codes.MACHINE_FAULT,
}


@dataclass(frozen=True)
class Ending:
    """How an attempt ended, and why."""

    kind: EndingKind
    reason: str | None = None
    waits_for: str | None = None
    """The lock of the lease under which another run trains what this one needs."""

    @property
    def state(self) -> State:
        return _STATES.get(self.kind, "waiting")

    @property
    def exit_code(self) -> int:
        """What the attempt's process tells its worker."""
        return _EXIT_CODES.get(self.kind, exit_codes.FAILED)

    @property
    def is_orderly(self) -> bool:
        """Whether nothing broke."""
        return self.kind in (
            EndingKind.COMPLETE,
            EndingKind.PRUNED,
            EndingKind.STOPPED,
            EndingKind.NOT_BEGUN,
            EndingKind.RESERVED_TOO_LITTLE,
        )


COMPLETE = Ending(EndingKind.COMPLETE)
STOPPED = Ending(EndingKind.STOPPED, CLEAN_STOP)


# What result.json says of an ending.


def report(result: Result, ending: Ending) -> None:
    """Record how an attempt ended, for its study to book."""
    result.state, result.reason, result.waits_for = ending.state, ending.reason, ending.waits_for


def book(result: Result, ending: Ending) -> None:
    """Record how the latest attempt ended, and count it. Where no further attempt is allowed it is booked again, as FAILED."""
    report(result, ending)
    result.failures += ending.kind is EndingKind.CRASHED
    result.booked_attempts = result.attempts


def book_unreported_tokens(run: RunDirectory, result: Result) -> None:
    """Count what a killed attempt may have trained: its result still says "running"."""
    if result.state != "running" or not result.tokens.length:
        return
    newest, trainer = run.metrics.newest(), read_yaml(run.config)["trainer"]
    if trainer.get("max_steps") == 0:
        # How far it came is unknown: there is no row before the end.
        result.tokens.read += result.tokens.length - result.tokens.position
        return
    # How many tokens a step of so many pairs has at the most is not known here.
    by_pairs = trainer.get("batch_pairs") is not None
    every = result.tokens.length if by_pairs else trainer["log_every_steps"] * trainer["batch_tokens"]
    result.tokens.trained += may_have_trained(result.tokens, last_row=newest["tokens"] if newest else 0, row_every=every)


def may_have_trained(tokens: Tokens, *, last_row: int, row_every: int) -> int:
    """The most that an attempt trained from `tokens.position`, where it began: all up to the next row of metrics, which it did not write.

    Args: last_row, tokens of the run up to the last row; row_every, tokens from a row to the next one at the most.
    """
    return max(0, min(last_row + row_every, tokens.length) - tokens.position)


def current_state(run: RunDirectory, result: Result, trial: Trial | None) -> State:
    """The state that readers are shown: a run whose process was killed waits, whatever its result says."""
    if result.state not in FINAL_STATES:
        return "running" if run.is_attempted() else "waiting"
    # A trial whose training has ended is complete once its study has judged it.
    return "running" if trial and result.state == "complete" and result.objective is None else result.state


# How an attempt ended.


def ending_of_error(error: BaseException, run: RunDirectory | None = None) -> Ending:
    """From the exception that ended it. What training raises says more, see `harness.work.attempt.ending_of`.

    run: whose attempt it was, for errors that do not say where.
    """
    if (fault := machine_fault(error, run.path if run else None)) is not None:
        # Our own errors say what could not be done; the system's are named by their path.
        said = fault.said if isinstance(error, OSError) else str(error)
        return Ending(EndingKind.MACHINE_FAULT, f"{said}; {fault.disk}")
    match error:
        case InputError():
            return Ending(EndingKind.FAILED, str(error))
        case KeyboardInterrupt() | SystemExit():  # the latter is what Lightning makes of the former
            return Ending(EndingKind.INTERRUPTED, "interrupted")
        case _:
            return Ending(EndingKind.CRASHED, f"{type(error).__name__}: {error}")


def ending_of_process(result: Result, exit_code: int, *, was_asked: bool) -> Ending:
    """From what it left and how its process ended. exit_code: minus the signal that killed it; was_asked: by its worker, to stop."""
    if result.state in FINAL_STATES:
        return Ending(EndingKind(result.state), result.reason)
    if exit_code == exit_codes.STOPPED or (was_asked and exit_code in STOPPED_EARLY):
        return STOPPED
    # What a killed process left as its reason is an earlier attempt's.
    said = result.reason if exit_code > 0 else None
    match exit_code:
        case exit_codes.TRUNK_UNDER_WAY:
            return Ending(EndingKind.NOT_BEGUN, said or "waits for a trunk", result.waits_for)
        case exit_codes.RESERVED_TOO_LITTLE:
            return Ending(EndingKind.RESERVED_TOO_LITTLE, said or "its trunk is gone")
        case exit_codes.OUT_OF_MEMORY:
            return _out_of_memory(result)
        case exit_codes.MACHINE_FAULT:
            return Ending(EndingKind.MACHINE_FAULT, said or DISK_FAILED)
        case _:
            return Ending(EndingKind.CRASHED, said or _death(exit_code))


def ending_of_lost(result: Result, outcome: JobOutcome) -> Ending:
    """From what the attempt left and what became of its worker's job, where nobody saw how its process ended."""
    if result.state in FINAL_STATES:
        return Ending(EndingKind(result.state), result.reason)
    if result.attempts == result.booked_attempts:
        return Ending(EndingKind.NOT_BEGUN, result.reason or "its worker died before it began", result.waits_for)
    if result.state == "waiting" and result.reason == CLEAN_STOP:
        return STOPPED
    match outcome:
        case "out_of_memory":
            return _out_of_memory(result)
        case "interrupted":
            return Ending(EndingKind.INTERRUPTED, "its job was interrupted")
        case "machine_fault":
            return Ending(EndingKind.MACHINE_FAULT, result.reason or DISK_FAILED)
        case _:
            return Ending(EndingKind.CRASHED, result.reason or "its worker died")


def _out_of_memory(result: Result) -> Ending:
    said = result.reason if result.reason and result.reason.startswith(OUT_OF_MEMORY) else OUT_OF_MEMORY
    return Ending(EndingKind.OUT_OF_MEMORY, said)


def _death(exit_code: int) -> str:
    if exit_code < 0:
        return f"killed by {signal_name(-exit_code)}"
    return f"its process ended with exit code {exit_code}"


# While it lives.


class LiveResult:
    """result.json while an attempt lives. As a context it is entered when the attempt begins, and left when it has ended.

    Whoever trains keeps `result` up to date; what it says is written when training starts and at the end.
    """

    def __init__(
        self, run: RunDirectory, ending_of: Callable[[BaseException], Ending] = ending_of_error, *, is_written: bool = True
    ) -> None:
        """Args: ending_of, how an attempt ended that an exception ends; is_written, not by a rank other than 0."""
        self.run = run
        self.result = read_result(run) if is_written else Result()
        self.ending: Ending | None = None
        """Set by the attempt where no exception ends it."""
        self._ending_of = ending_of
        self._before = replace(self.result.tokens)
        self._is_written = is_written
        self._began = time.perf_counter()

    def begin(self) -> None:
        """The attempt begins."""
        result = self.result
        if result.state == "running":
            # A single run that was killed. Of a trial, its study has taken note before it is tried again.
            book_unreported_tokens(self.run, result)
            book(result, Ending(EndingKind.CRASHED))
        # Not running yet: an attempt that dies before its first step has trained nothing.
        result.state, result.reason, result.waits_for = "waiting", None, None
        result.attempts += 1
        self._write()

    def running(self) -> None:
        """It begins to train, or to evaluate: `result` says from where on, and how long the run is."""
        self.result.state = "running"
        self._before = replace(self.result.tokens)
        self._write()

    def died(self, reason: str) -> None:
        """The process is about to be killed."""
        book_unreported_tokens(self.run, self.result)
        self.end(Ending(EndingKind.CRASHED, reason))

    def end(self, ending: Ending) -> None:
        """The attempt has ended."""
        result = self.result
        result.seconds += time.perf_counter() - self._began
        if ending.kind in (EndingKind.NOT_BEGUN, EndingKind.RESERVED_TOO_LITTLE):
            result.attempts -= 1
        if ending.kind is EndingKind.MACHINE_FAULT:
            # What the machine lost costs nothing; what is in a checkpoint need not be trained again, and is paid for.
            result.tokens.trained = self._before.trained + max(0, result.tokens.position - self._before.position)
            result.tokens.read = self._before.read
        if self.run.study is not None:
            report(result, ending)
        else:
            book(result, ending)
            if ending.kind in (EndingKind.CRASHED, EndingKind.OUT_OF_MEMORY):
                book(result, Ending(EndingKind.FAILED, ending.reason))
        self._write()

    def __enter__(self) -> LiveResult:
        self.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is not None:
            self.ending = self._ending_of(error)
        assert self.ending is not None, "an attempt that raises nothing says how it ended"
        self.end(self.ending)

    def _write(self) -> None:
        if self._is_written:
            write_result(self.run, self.result)
