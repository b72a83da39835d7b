"""`harness sweep` with real training: interrupted, stopped and continued, it ends with the results of an undisturbed study."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness.runs.directory import StudyDirectory, runs_root
from harness.search.workers import living_workers
from tests.search.conftest import WriteSweep
from tests.search.studies import check_in_step, halted
from tests.support.command import SURROUNDINGS, run_harness, start_harness

pytestmark = pytest.mark.slow
TRIALS = 3
STEPS = 150
LONG = [f"trainer.max_steps={STEPS}", "trainer.checkpoint_every_steps=20"]


class Command:
    """A `harness sweep` under way, in a process group of its own, as a shell starts it."""

    def __init__(self, cwd: Path, *arguments: str) -> None:
        self.stderr = cwd / "stderr.txt"
        with (cwd / "stdout.txt").open("ab") as stdout, self.stderr.open("ab") as stderr:
            self.process = start_harness("sweep", *arguments, cwd=cwd, env=SURROUNDINGS, stdout=stdout, stderr=stderr)

    def wait(self, seconds: float = 120.0) -> int:
        return self.process.wait(timeout=seconds)


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    started: list[Command] = []

    def start(*arguments: str) -> Command:
        started.append(Command(tmp_path, *arguments))
        return started[-1]

    yield start
    for command in started:
        command.process.kill()
        command.process.wait()
    for path in runs_root().iterdir() if runs_root().exists() else ():
        for worker in living_workers(StudyDirectory(path)):
            os.kill(worker["pid"], signal.SIGKILL)


def wait_until(condition: Callable[[], object], *, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def directory(name: str = "study") -> StudyDirectory:
    return StudyDirectory(runs_root() / name)


def is_training(study: StudyDirectory, number: int, *, step: int = 6) -> Callable[[], bool]:
    """Whether a trial is under way and past this step."""

    def look() -> bool:
        run = study.trial(number)
        last = run.metrics.last() if run.is_attempted() else None
        return last is not None and last["step"] >= step

    return look


def outcome(study: StudyDirectory) -> list[tuple[Any, ...]]:
    record = check_in_step(study, ended=True)
    return [(run.number, run.state, run.params, run.result.objective, run.result.metrics["train/loss"]) for run in record.runs]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny: list[str]) -> list[tuple[Any, ...]]:
    """What the study comes to when nobody disturbs it."""
    import yaml

    from tests.search.conftest import SPACE

    folder = tmp_path_factory.mktemp("undisturbed")
    document = {
        "base": [*tiny, *LONG],
        "objective": {"metric": "val/domain/loss"},
        "space": SPACE,
        "search": "random",
        "budget": {"trials": TRIALS},
        "launcher": {"workers": 1},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(document))
    environment = {"HARNESS_RUNS": str(folder / "runs"), "HARNESS_CACHE": str(folder / "cache")}
    done = run_harness("sweep", folder / "study.yaml", cwd=folder, env=environment)
    assert done.rc == 0, done
    return outcome(StudyDirectory(folder / "runs" / "study"))


@pytest.mark.parametrize(("how", "workers"), [pytest.param("ctrl_c", 2, marks=pytest.mark.long), ("sigterm", 1)])
def test_a_stopped_study_goes_on_to_the_same_end(
    write_sweep: WriteSweep, sweep: Callable[..., Command], undisturbed: list[tuple[Any, ...]], tmp_path: Path, how: str, workers: int
) -> None:
    path = str(write_sweep(base=LONG, budget={"trials": TRIALS}))
    command = sweep(path, "--workers", str(workers))
    study = directory()
    wait_until(is_training(study, workers - 1))
    if how == "ctrl_c":
        os.killpg(command.process.pid, signal.SIGINT)
    else:  # the workers hear of it from the command alone
        command.process.send_signal(signal.SIGTERM)
    assert command.wait(20) == 1
    said = command.stderr.read_text()
    assert "study: stopped; " in said
    assert "`harness resume study` goes on with it" in said
    assert "Traceback" not in said
    assert living_workers(study) == []
    record = check_in_step(study, ended=True)
    left = [run for run in record.runs if run.state == "waiting"]
    assert left, "it was stopped in the middle of a trial"
    for run in left:
        assert (run.result.reason, run.result.failures) == ("stopped", 0)
        # One that was stopped before its first step has nothing to save.
        assert bool(list(run.directory.checkpoints.glob("*.ckpt"))) == (run.result.step > 0)
    again = run_harness("sweep", path, "--workers", str(workers), cwd=tmp_path)
    assert again.rc == 0, again
    assert outcome(study) == undisturbed
    for run in check_in_step(study).runs:
        assert run.result.failures == 0
        assert run.result.tokens.trained == run.result.tokens.budgeted, "no step was trained twice, or counted twice"
        assert run.result.attempts == 1 + sum(other.result.attempts for other in left if other.number == run.number)


def test_detach_status_and_stop(write_sweep: WriteSweep, sweep: Callable[..., Command], tmp_path: Path) -> None:
    path = str(write_sweep(base=LONG, budget={"trials": TRIALS}))

    def status() -> dict[str, Any]:
        done = run_harness("status", "study", "--json", cwd=tmp_path)
        assert done.rc == 0, done
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    assert sweep(path, "--detach").wait() == 0
    study = directory()
    wait_until(is_training(study, 0))
    with ThreadPoolExecutor(1) as pool:
        # The commands take longer to start than the trial would to end.
        with halted(study, 0):
            seen = status()
            stopping = pool.submit(run_harness, "stop", "study", cwd=tmp_path)
            wait_until(study.stop_request.exists)
        done = stopping.result()
    assert seen["trials"][0]["state"] == "running"
    assert seen["trials"][0]["worker"] == seen["workers"][0]["id"]
    assert seen["budget"] == {"trials": {"limit": TRIALS, "used": 0, "reserved": 1}}
    assert (seen["best"], seen["finished"]) == (None, False)
    assert (done.rc, done.stdout) == (0, "study: stopped; `harness resume study` goes on\n")
    seen = status()
    assert [trial["state"] for trial in seen["trials"]] == ["waiting"]
    assert (seen["workers"], seen["missing_workers"]) == ([], 1)
    assert "workers live: no trial is lost" in run_harness("status", "study", cwd=tmp_path).stdout
    assert run_harness("stop", "study", cwd=tmp_path).stdout == "study: no worker is running\n"

    # A second start beside one that is at work adds the workers that are missing, and follows.
    assert sweep(path, "--detach").wait() == 0
    wait_until(lambda: living_workers(study))
    done = run_harness("sweep", path, cwd=tmp_path)
    assert done.rc == 0, done
    seen = status()
    assert [trial["state"] for trial in seen["trials"]] == ["complete"] * TRIALS
    assert seen["finished"] is True
    assert seen["best"]["objective"] == min(trial["objective"] for trial in seen["trials"])
    for trial in seen["trials"]:
        assert set(trial) >= {"number", "state", "params", "objective", "metrics", "attempts", "worker", "seconds", "tokens"}
        assert trial["tokens"] == {**trial["tokens"], "trained": trial["tokens"]["budgeted"], "shared": 0}


def test_a_second_interrupt_kills(write_sweep: WriteSweep, sweep: Callable[..., Command], tmp_path: Path) -> None:
    path = str(write_sweep(base=[*LONG, "trainer.max_steps=2000"]))
    command = sweep(path)
    wait_until(is_training(directory(), 0))
    os.kill(living_workers(directory())[0]["pid"], signal.SIGSTOP)  # one that does not listen
    for _ in range(2):
        os.killpg(command.process.pid, signal.SIGINT)
        time.sleep(1)
    assert command.wait(10) == 1
    assert living_workers(directory()) == []


def test_workers_that_cannot_start_say_why(write_sweep: WriteSweep, tmp_path: Path) -> None:
    """A broken environment: the search library cannot be imported."""
    broken = tmp_path / "broken" / "optuna"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('libbroken.so: cannot open shared object file')")
    done = run_harness("sweep", write_sweep(), cwd=tmp_path, env={"PYTHONPATH": str(broken.parent)}, cold=True)
    assert done.rc == 1, done
    assert "study: not finished, its workers died; no trial" in done.stderr
    assert "ImportError: libbroken.so: cannot open shared object file" in done.stderr
    assert "workers/log.txt" in done.stderr


def test_a_cause_that_fails_every_trial_ends_the_study_with_it(write_sweep: WriteSweep, tmp_path: Path, tiny_model: Path) -> None:
    """The model's weights are broken: every trial would fail at the same place."""
    import shutil

    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    (model / "model.safetensors").write_bytes(b"broken")
    path = write_sweep(base=["model=pretrained", f"model.path={model}"], budget={"trials": 50})
    done = run_harness("sweep", path, cwd=tmp_path)
    assert done.rc == 1, done
    assert "trials 0, 1, 2 failed alike and none is complete" in done.stderr
    assert "model.path" in done.stderr
    assert len(check_in_step(directory(), ended=True).runs) == 3


def test_a_line_a_trial_and_a_budget_that_is_raised_and_lowered(write_sweep: WriteSweep, tmp_path: Path) -> None:
    path = write_sweep()
    told: list[str] = []
    for trials, expected in ((2, 2), (3, 3), (1, 3)):
        done = run_harness("sweep", path, f"budget.trials={trials}", "--name", "other", cwd=tmp_path)
        assert done.rc == 0, done
        assert f"other: {expected} complete;" in done.stderr
        told += done.stdout.splitlines()
    runs = check_in_step(directory("other"), ended=True).runs
    assert len(told) == 3, "every trial is told once, when it ends"
    for line, run in zip(told, runs, strict=True):
        assert line.startswith(f"trial {run.number}: complete  val/domain/loss {run.result.objective:.4f}  lr=")


def test_a_study_that_is_killed_while_it_confirms_goes_on_to_its_winner(
    write_sweep: WriteSweep, sweep: Callable[..., Command], tmp_path: Path
) -> None:
    """kill -9 of the command, its workers and their attempts, in the middle of a run over a fresh seed: the same command goes on."""
    limits = {"trials": 7}
    path = str(
        write_sweep(
            search={"name": "random", "confirm": True}, budget=limits, base=["trainer.checkpoint_every_steps=5", "trainer.max_steps=120"]
        )
    )
    command = sweep(path, "--workers", "2")
    study, confirmation = directory(), directory("study-confirm")
    wait_until(is_training(confirmation, 0, step=10), seconds=240)
    workers = living_workers(study)
    os.killpg(command.process.pid, signal.SIGKILL)
    for worker in workers:
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker["pid"], signal.SIGKILL)
    wait_until(lambda: not living_workers(study))
    again = sweep(path, "--workers", "2")
    assert again.wait(240) == 0, again.stderr.read_text()
    record = check_in_step(study, ended=True)
    assert len(record.runs) + len(record.paid_for) <= limits["trials"]
    assert record.confirmed is not None
    assert check_in_step(confirmation, ended=True).runs[0].result.attempts > 1
    said = again.stderr.read_text()
    assert f"study: trial {record.confirmed.number} is the winner: val/domain/loss" in said
    assert " runs over fresh seeds; " in said
