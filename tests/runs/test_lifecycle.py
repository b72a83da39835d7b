"""How attempts end, what each ending makes of a run, and what is counted."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from harness.config.errors import InputError
from harness.runs import exit_codes
from harness.runs.directory import RunDirectory
from harness.runs.failure_kind import kind_of_failure
from harness.runs.files import write_yaml
from harness.runs.lifecycle import (
    COMPLETE,
    STOPPED,
    Ending,
    EndingKind,
    LiveResult,
    book,
    ending_of_error,
    ending_of_lost,
    ending_of_process,
    may_have_trained,
)
from harness.runs.place import JobOutcome
from harness.runs.result import Result, State, Tokens, read_result
from harness.runs.trial import Trial, write_trial


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A single run of 1000 tokens, of which a row is logged every 100."""
    run = RunDirectory(tmp_path / "trials" / "0000")
    run.path.mkdir(parents=True)
    write_yaml(run.config, {"trainer": {"log_every_steps": 2, "batch_tokens": 50}})
    return run


@pytest.fixture
def trial(run: RunDirectory) -> RunDirectory:
    write_trial(run, Trial(number=0, params={}, tokens=1000))
    return run


@pytest.mark.parametrize(
    ("kind", "state", "code", "failures"),
    [
        (EndingKind.COMPLETE, "complete", exit_codes.DONE, 0),
        (EndingKind.FAILED, "failed", exit_codes.FAILED, 0),
        (EndingKind.PRUNED, "pruned", exit_codes.DONE, 0),
        (EndingKind.STOPPED, "waiting", exit_codes.STOPPED, 0),
        (EndingKind.NOT_BEGUN, "waiting", exit_codes.TRUNK_UNDER_WAY, 0),
        (EndingKind.RESERVED_TOO_LITTLE, "waiting", exit_codes.RESERVED_TOO_LITTLE, 0),
        (EndingKind.INTERRUPTED, "waiting", exit_codes.FAILED, 0),
        (EndingKind.CRASHED, "waiting", exit_codes.FAILED, 1),
        (EndingKind.OUT_OF_MEMORY, "waiting", exit_codes.OUT_OF_MEMORY, 0),
        (EndingKind.MACHINE_FAULT, "waiting", exit_codes.MACHINE_FAULT, 0),
    ],
)
def test_every_ending_makes_one_state(kind: EndingKind, state: State, code: int, failures: int) -> None:
    result, ending = Result(state="running", attempts=2, booked_attempts=1, waits_for="before"), Ending(kind, "why", "lock")
    book(result, ending)
    assert (result.state, result.reason, result.waits_for) == (state, "why", "lock")
    assert (result.failures, result.booked_attempts) == (failures, 2)
    assert ending.exit_code == code


@pytest.mark.parametrize(
    ("last_row", "position", "expected"),
    [
        (0, 0, 100),  # no row yet
        (400, 300, 200),  # up to the row that it did not write
        (950, 300, 700),  # no further than the end
        (200, 600, 0),  # the row is an earlier attempt's: nothing is given back
    ],
)
def test_what_a_dead_attempt_may_have_trained(last_row: int, position: int, expected: int) -> None:
    tokens = Tokens(trained=5, shared=300, budgeted=700, position=position)
    assert may_have_trained(tokens, last_row=last_row, row_every=100) == expected


@pytest.mark.parametrize(
    ("exit_code", "was_asked", "expected"),
    [
        (75, False, STOPPED),
        (76, False, Ending(EndingKind.NOT_BEGUN, "said", "lock")),
        (77, False, Ending(EndingKind.RESERVED_TOO_LITTLE, "said")),
        (78, False, Ending(EndingKind.OUT_OF_MEMORY, "out of memory")),
        (79, False, Ending(EndingKind.MACHINE_FAULT, "said")),
        (1, False, Ending(EndingKind.CRASHED, "said")),
        (-9, True, Ending(EndingKind.CRASHED, "killed by SIGKILL")),
        (-15, False, Ending(EndingKind.CRASHED, "killed by SIGTERM")),
        (-15, True, STOPPED),
        (-2, True, STOPPED),
        (0, False, Ending(EndingKind.CRASHED, "its process ended with exit code 0")),
    ],
)
def test_how_a_process_ended(exit_code: int, was_asked: bool, expected: Ending) -> None:
    left = Result(state="waiting", reason="said", attempts=1, waits_for="lock")
    assert ending_of_process(left, exit_code, was_asked=was_asked) == expected
    done = Result(state="failed", reason="nan", attempts=1)
    assert ending_of_process(done, exit_code, was_asked=was_asked) == Ending(EndingKind.FAILED, "nan")


@pytest.mark.parametrize(
    ("left", "outcome", "expected"),
    [
        (Result(state="complete", attempts=1), "ended", COMPLETE),
        (Result(attempts=1, booked_attempts=1, reason="before"), "interrupted", Ending(EndingKind.NOT_BEGUN, "before")),
        (Result(attempts=0), "ended", Ending(EndingKind.NOT_BEGUN, "its worker died before it began")),
        (Result(attempts=1, reason="stopped"), "interrupted", STOPPED),
        (Result(state="running", attempts=1), "interrupted", Ending(EndingKind.INTERRUPTED, "its job was interrupted")),
        (Result(state="running", attempts=1), "out_of_memory", Ending(EndingKind.OUT_OF_MEMORY, "out of memory")),
        (Result(attempts=1, reason="out of memory: 3 GB"), "out_of_memory", Ending(EndingKind.OUT_OF_MEMORY, "out of memory: 3 GB")),
        (Result(state="running", attempts=1), "ended", Ending(EndingKind.CRASHED, "its worker died")),
        (Result(attempts=1, reason="said"), "machine_fault", Ending(EndingKind.MACHINE_FAULT, "said")),
        (Result(attempts=1, reason="ValueError: x"), "ended", Ending(EndingKind.CRASHED, "ValueError: x")),
    ],
)
def test_how_an_attempt_ended_whose_worker_died_too(left: Result, outcome: JobOutcome, expected: Ending) -> None:
    assert ending_of_lost(left, outcome) == expected


def test_how_an_error_ends_an_attempt() -> None:
    assert ending_of_error(InputError("model.path=x: no weights")) == Ending(EndingKind.FAILED, "model.path=x: no weights")
    assert ending_of_error(KeyboardInterrupt()) == Ending(EndingKind.INTERRUPTED, "interrupted")
    assert ending_of_error(ValueError("a bug")) == Ending(EndingKind.CRASHED, "ValueError: a bug")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES])
def test_what_a_disk_does_is_the_machines_fault(number: int, run: RunDirectory) -> None:
    system = OSError(number, os.strerror(number), str(run.config))
    ending = ending_of_error(system)
    assert ending.kind is EndingKind.MACHINE_FAULT
    assert (ending.reason or "").startswith(f"{run.config}: {os.strerror(number)}; the disk at /")
    ours = InputError("data.cache_dir=x: cannot be written")
    ours.__cause__ = system
    assert (ending_of_error(ours).reason or "").startswith("data.cache_dir=x: cannot be written; the disk at /")
    written = OSError(number, os.strerror(number))  # a write, unlike open, does not say where
    assert (ending_of_error(written, run).reason or "").startswith(f"{run.path}: ")
    rust = ValueError(f"Error while serializing: I/O error: {os.strerror(number)} (os error {number})")
    assert ending_of_error(rust).kind is EndingKind.MACHINE_FAULT


def test_a_missing_file_is_not_the_machines_fault() -> None:
    assert ending_of_error(FileNotFoundError(errno.ENOENT, "no", "x")).kind is EndingKind.CRASHED


def test_what_the_machine_lost_costs_nothing(trial: RunDirectory) -> None:
    live = LiveResult(trial)
    live.begin()
    live.result.tokens.budgeted, live.result.tokens.trained, live.result.tokens.position = 1000, 50, 100
    live.running()
    live.result.tokens.trained, live.result.tokens.position = 450, 300  # 400 more, of which 200 are in a checkpoint
    live.end(Ending(EndingKind.MACHINE_FAULT, "full"))
    left = read_result(trial)
    assert (left.state, left.reason, left.tokens.trained) == ("waiting", "full", 250)


@pytest.mark.parametrize(
    ("reasons", "alike"),
    [
        (["the loss of step 1 is nan (learning rate 1e-3)", "the loss of step 20 is inf (learning rate 0.25)"], True),
        (["/a/trials/0001/x.ckpt: full (attempt 3 of 3)", "/a/trials/0002/x.ckpt: full (attempt 3 of 3)"], True),
        (["model.heads=3: must divide model.hidden_size=32", "model.heads=5: must divide model.hidden_size=64"], True),
        (["unknown sampler 'a'", "unknown sampler 'b'"], True),
        (["killed by SIGKILL", "killed by SIGSEGV"], False),
        (["model.path=x: no weights", "model.path=x: no tokenizer"], False),
    ],
)
def test_failures_are_alike_but_for_paths_steps_and_values(reasons: list[str], alike: bool) -> None:
    assert (len({kind_of_failure(reason) for reason in reasons}) == 1) == alike


def test_an_attempt_writes_when_it_begins_runs_and_ends(run: RunDirectory) -> None:
    with LiveResult(run) as live:
        began = read_result(run)
        assert (began.state, began.attempts, began.reason) == ("waiting", 1, None)
        live.result.tokens.budgeted = 1000
        live.running()
        assert (read_result(run).state, read_result(run).tokens.length) == ("running", 1000)
        live.result.tokens.trained = 1000
        live.ending = COMPLETE
    ended = read_result(run)
    assert ended == live.result
    assert (ended.state, ended.tokens.trained, ended.seconds > 0) == ("complete", 1000, True)


def raise_in(run: RunDirectory, error: BaseException) -> Result:
    with pytest.raises(type(error)), LiveResult(run):
        raise error
    return read_result(run)


def test_a_single_run_that_crashed_has_failed(run: RunDirectory) -> None:
    failed = raise_in(run, ValueError("a bug"))
    assert (failed.state, failed.reason, failed.failures, failed.attempts) == ("failed", "ValueError: a bug", 1, 1)
    waiting = raise_in(run, KeyboardInterrupt())
    assert (waiting.state, waiting.reason, waiting.failures, waiting.attempts) == ("waiting", "interrupted", 1, 2)


def test_of_a_trial_that_crashed_its_study_decides(trial: RunDirectory) -> None:
    left = raise_in(trial, ValueError("a bug"))
    assert (left.state, left.reason, left.attempts) == ("waiting", "ValueError: a bug", 1)
    assert (left.failures, left.booked_attempts) == (0, 0), "counted once, by its study"


def test_what_has_not_begun_is_no_attempt(trial: RunDirectory) -> None:
    live = LiveResult(trial)
    live.begin()
    live.end(Ending(EndingKind.NOT_BEGUN, "another run trains its trunk", "lock"))
    left = read_result(trial)
    assert (left.state, left.attempts, left.waits_for) == ("waiting", 0, "lock")


def test_the_next_attempt_books_a_single_run_that_was_killed(run: RunDirectory) -> None:
    killed = LiveResult(run)
    killed.begin()
    killed.result.tokens.budgeted = 1000
    killed.running()
    run.metrics.append({"step": 8, "tokens": 400})
    LiveResult(run).begin()
    again = read_result(run)
    assert (again.state, again.tokens.trained, again.attempts, again.failures) == ("waiting", 500, 2, 1)
    LiveResult(run).begin()
    assert read_result(run).tokens.trained == 500, "it had not begun to train: nothing more"


def test_an_attempt_that_is_about_to_be_ended_says_what_it_may_have_trained(run: RunDirectory) -> None:
    live = LiveResult(run)
    live.begin()
    live.result.tokens.budgeted = 1000
    live.running()
    run.metrics.append({"step": 8, "tokens": 400})
    live.died("rank 1 was killed by SIGKILL")
    failed = read_result(run)
    assert (failed.state, failed.reason, failed.tokens.trained) == ("failed", "rank 1 was killed by SIGKILL", 500)


def test_another_rank_writes_nothing(run: RunDirectory) -> None:
    with LiveResult(run, is_written=False) as live:
        live.running()
        live.ending = STOPPED
    assert not run.result.exists()
