"""Workers as real processes over attempts that cost nothing: hundreds of trials, and deaths of every kind."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.exit_codes import STOPPED
from harness.runs.files import read_json_lines
from harness.runs.result import read_result
from harness.search.open_study import open_study
from harness.search.status import read_status
from harness.search.storage.build import open_storage
from harness.search.workers import living_workers
from tests.search.conftest import BOTH_STORAGES, MakeSweep
from tests.search.studies import TRIAL_TOKENS, check_in_step, objective_of, overlaps
from tests.support import warm
from tests.support.warm import Process

pytestmark = pytest.mark.slow
Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a worker; what still runs when the test ends is killed."""
    processes = []

    def start_worker(directory: StudyDirectory, **environment: str) -> Process:
        arguments = ["-m", "tests.search.studies", directory.path.resolve()]
        with (tmp_path / "workers.txt").open("ab") as said:
            process = warm.shared(warm.SEARCH).start(
                "python", arguments, cwd=tmp_path, env={**os.environ, **environment}, stdout=said, stderr=said
            )
        processes.append(process)
        return process

    yield start_worker
    # Shown where the test failed.
    print("ended by themselves:", [process.poll() for process in processes])
    for process in processes:
        process.kill()
        process.wait()
    if processes:
        print((tmp_path / "workers.txt").read_text(errors="replace"))


def wait_until(condition: Callable[[], object], *, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def end(*workers: Process, seconds: float = 400.0) -> list[int]:
    return [worker.wait(timeout=seconds) for worker in workers]


def attempt_pid(run: RunDirectory) -> int:
    """The process of the attempt that began last."""
    return int(list(read_json_lines(run.path / "times.jsonl"))[-1]["pid"])


def kill_an_attempt(directory: StudyDirectory) -> None:
    """Whichever is under way and still there when the signal comes: any may end in between."""

    def killed() -> bool:
        for run in directory.trials():
            if run.is_attempted():
                with suppress(ProcessLookupError):
                    os.kill(attempt_pid(run), signal.SIGKILL)
                    return True
        return False

    wait_until(killed)


def servers(workers: list[Process]) -> list[int]:
    """The fork servers of the workers: one that has only just started has none yet."""
    found: list[int] = []
    for worker in workers:
        with suppress(OSError):
            children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
            found += [int(pid) for pid in children if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    return found


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize("storage", ["journal", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True)
def test_workers_that_are_killed_end_with_a_confirmed_winner_within_the_budget(make_sweep: MakeSweep, start: Start) -> None:
    """Runs over fresh seeds are claimed, adopted and paid for like trials; fates are by number, of either kind."""
    sweep = make_sweep(budget={"trials": 20}, launcher={"workers": 3}, search={"confirm": True})
    directory = open_study(sweep)
    fates = "1:kill_worker_once,2:kill_once,4:kill_server_once"
    workers = [start(directory, FATES=fates) for _ in range(3)]
    # A killed worker's place is taken, as a launcher does.
    while any(code != 0 for code in end(*workers)):
        workers = [start(directory, FATES=fates)]
    record = check_in_step(directory, ended=True)
    assert len(record.runs) + len(record.paid_for) == 20
    assert record.confirmation is not None
    assert record.confirmation.is_complete
    assert record.confirmed is not None
    confirmation = check_in_step(record.confirmation.directory, ended=True)
    assert {run.state for run in (*record.runs, *confirmation.runs)} == {"complete"}
    assert read_result(confirmation.runs[1].directory).attempts > 1
    assert overlaps(directory) == overlaps(record.confirmation.directory) == []
    assert read_status(directory).is_finished


@pytest.mark.parametrize("storage", ["journal", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True)
def test_eight_workers_never_overspend_nor_share_a_trial(make_sweep: MakeSweep, start: Start) -> None:
    sweep = make_sweep(budget={"trials": 30}, launcher={"workers": 8})
    directory = open_study(sweep)
    fates = ",".join([*(f"{n}:crash_once" for n in range(5, 25, 5)), *(f"{n}:kill_once" for n in range(8, 30, 10)), "20:crash"])
    assert end(*(start(directory, FATES=fates) for _ in range(8))) == [0] * 8
    record = check_in_step(directory, ended=True)
    assert len(record.runs) == 30
    assert [run.number for run in record.runs if run.state != "complete"] == [20]
    assert overlaps(directory) == []
    for run in record.runs:
        if run.state == "complete":
            assert run.result.objective == objective_of(run.params)
            assert run.result.failures == run.result.attempts - 1
    assert len({run.params["optim.lr"] for run in record.runs}) == 30, "no two workers drew the same point"


def test_workers_share_a_budget_of_tokens(make_sweep: MakeSweep, start: Start) -> None:
    sweep = make_sweep(budget={"trials": None, "tokens": 13 * TRIAL_TOKENS - 1}, launcher={"workers": 4})
    directory = open_study(sweep)
    assert end(*(start(directory, FATES="3:crash_once") for _ in range(4))) == [0] * 4
    record = check_in_step(directory, ended=True)
    assert len(record.runs) == 12
    assert sum(run.result.tokens.trained for run in record.runs) <= 13 * TRIAL_TOKENS - 1
    assert overlaps(directory) == []


@BOTH_STORAGES
def test_a_killed_worker_takes_its_attempt_along_and_another_adopts_the_trial(make_sweep: MakeSweep, start: Start) -> None:
    sweep = make_sweep(budget={"trials": 3})
    directory = open_study(sweep)
    first = start(directory, FATES="0:hang_once")
    wait_until(directory.trial(0).is_attempted)
    child = attempt_pid(directory.trial(0))
    second = start(directory)
    wait_until(lambda: read_result(directory.trial(2)).state == "complete")
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(child), seconds=2.0)
    assert end(second) == [0]
    record = check_in_step(directory, ended=True)
    assert [(run.state, run.result.attempts, run.result.failures) for run in record.runs] == [
        ("complete", 2, 1),
        ("complete", 1, 0),
        ("complete", 1, 0),
    ]
    assert overlaps(directory) == []


def test_an_attempt_whose_server_died_is_not_left_training(make_sweep: MakeSweep, start: Start) -> None:
    sweep = make_sweep(budget={"trials": 2})
    directory = open_study(sweep)
    assert end(start(directory, FATES="0:kill_server_once")) == [0]
    record = check_in_step(directory, ended=True)
    assert [(run.state, run.result.attempts, run.result.failures) for run in record.runs] == [("complete", 2, 1), ("complete", 1, 0)]
    assert overlaps(directory) == []


def _completed(directory: StudyDirectory) -> int:
    return sum(read_result(run).state == "complete" for run in directory.trials())


@pytest.mark.parametrize("storage", ["journal", pytest.param("postgresql", marks=pytest.mark.long)], indirect=True)
def test_kills_at_random_times_change_nothing(make_sweep: MakeSweep, start: Start) -> None:
    """Workers, attempts, servers, all at once; whatever dies, trial n ends with the values and the objective of an undisturbed study."""
    chance = random.Random(7)
    sweep = make_sweep(budget={"trials": 24}, search={"max_attempts": 20})
    directory = open_study(sweep)
    # So many and so long that there is somebody to kill each time, also where a worker takes seconds to start.
    workers = [start(directory, ATTEMPT_SECONDS="2") for _ in range(3)]
    for victim in ("worker", "attempt", "server", "everybody"):
        enough = _completed(directory) + 2
        wait_until(lambda enough=enough: _completed(directory) >= enough)  # type: ignore[misc]
        time.sleep(chance.uniform(0, 0.3))
        match victim:
            case "worker":
                one = chance.choice(workers)
                one.kill()
                workers[workers.index(one)] = start(directory, ATTEMPT_SECONDS="2")
            case "server":
                wait_until(lambda: servers(workers))
                os.kill(chance.choice(servers(workers)), signal.SIGKILL)
            case "everybody":
                for one in workers:
                    one.kill()
                end(*workers)
                workers[:] = [start(directory, ATTEMPT_SECONDS="2") for _ in range(3)]
            case _:
                kill_an_attempt(directory)
    assert end(*workers) == [0] * 3
    other = make_sweep(name="undisturbed", budget={"trials": 24})
    assert end(start(open_study(other))) == [0]
    runs = check_in_step(directory, ended=True).runs
    undisturbed = check_in_step(open_study(other), ended=True).runs
    assert [(run.params, run.result.objective) for run in runs] == [(run.params, run.result.objective) for run in undisturbed]
    assert overlaps(directory) == []


@pytest.mark.parametrize("write", range(6))
def test_a_worker_gone_between_two_writes_loses_nothing(make_sweep: MakeSweep, start: Start, write: int) -> None:
    sweep = make_sweep(budget={"trials": 2})
    directory = open_study(sweep)
    assert end(start(directory, DIES_BEFORE_WRITE=str(write))) == [9]
    assert end(start(directory)) == [0]
    record = check_in_step(directory, ended=True)
    assert [(run.state, run.result.failures) for run in record.runs] == [("complete", 0)] * 2


def test_a_trial_that_always_dies_is_failed_with_its_reason_and_the_study_goes_on(make_sweep: MakeSweep, start: Start) -> None:
    sweep = make_sweep(budget={"trials": 4}, search={"max_attempts": 3})
    directory = open_study(sweep)
    assert end(start(directory, FATES="0:kill,1:die_early,2:no_metric")) == [0]
    record = check_in_step(directory, ended=True)
    assert [run.state for run in record.runs] == ["failed", "failed", "failed", "complete"]
    assert [run.result.reason for run in record.runs[:3]] == [
        "killed by SIGKILL (attempt 3 of 3)",
        "killed by SIGKILL (attempt 3 of 3)",
        "val/domain/loss: no finite value was logged",
    ]
    assert (record.runs[0].result.attempts, record.runs[0].result.failures) == (3, 3)


def test_a_study_that_fails_everywhere_stops_early(make_sweep: MakeSweep, start: Start, tmp_path: Path) -> None:
    sweep = make_sweep(budget={"trials": 50})
    directory = open_study(sweep)
    storage = open_storage(directory)
    with storage.locked():  # no trial fails before both are there: what has failed by the time that a worker starts does not count to it
        workers = [start(directory, FATES="all:bad_input") for _ in range(2)]
        wait_until(lambda: len(living_workers(directory)) == 2)
    storage.close()
    assert set(end(*workers)) <= {2}
    record = check_in_step(directory, ended=True)
    assert 3 <= len(record.runs) <= 6, "each worker counts what fails from when it first has the study's lock"
    assert "failed alike and none is complete" in (tmp_path / "workers.txt").read_text()


@pytest.mark.parametrize(
    ("by", "fate"), [("SIGTERM", "stoppable"), ("SIGUSR2", "hang_once"), ("request", "stoppable"), ("request", "hang_once")]
)
def test_a_worker_that_is_asked_to_stop_leaves_its_trial_whole(make_sweep: MakeSweep, start: Start, by: str, fate: str) -> None:
    """hang_once: an attempt that has no handler yet is ended by the signal; that is no crash."""
    sweep = make_sweep(budget={"trials": 2})
    directory = open_study(sweep)
    worker = start(directory, FATES=f"0:{fate}")
    wait_until(lambda: read_result(directory.trial(0)).attempts == 1)
    assert len(living_workers(directory)) == 1
    if by == "request":
        directory.stop_request.touch()
    else:
        worker.send_signal(signal.Signals[by])
    # Whoever is asked by a signal leaves work behind, and says so.
    assert end(worker, seconds=10) == [0 if by == "request" else STOPPED]
    assert living_workers(directory) == []
    run = check_in_step(directory, ended=True).runs[0]
    assert (run.state, run.result.reason, run.result.failures) == ("waiting", "stopped", 0)
    open_study(sweep)
    assert end(start(directory)) == [0]
    record = check_in_step(directory, ended=True)
    assert [(run.state, run.result.failures) for run in record.runs] == [("complete", 0)] * 2
    assert record.runs[0].result.tokens.trained == TRIAL_TOKENS
