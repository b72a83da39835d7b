"""Ranks as real processes that are killed, stopped and started by others."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from harness.config.load import load
from harness.config.validate import to_plain
from harness.runs.directory import RunDirectory
from harness.runs.files import write_yaml
from harness.runs.result import read_result
from tests.support import warm
from tests.support.command import call_harness
from tests.support.corpus import TinyText
from tests.training.runs import EXACT_RESUME, assert_same_run, final_state

pytestmark = pytest.mark.slow
TWO = (*EXACT_RESUME, "trainer.devices=2", "trainer.micro_batch_size=1", "trainer.max_steps=150", "trainer.checkpoint_every_steps=10")
SECONDS = 90.0

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def command(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        with (tmp_path / "log.txt").open("ab") as log:
            started.append(
                subprocess.Popen([sys.executable, "-m", *map(str, arguments)], stdout=log, stderr=log, env={**os.environ, **(env or {})})
            )
        return started[-1]

    yield command
    for process in started:
        process.kill()
        process.wait()


def wait_until(condition: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)


def step_of(run: RunDirectory) -> int:
    newest = run.metrics.newest()
    return newest["step"] if newest else 0


def other_rank(process: subprocess.Popen[bytes]) -> int:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])


def is_alive(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.mark.long
def test_killed_ranks_leave_nothing_behind_and_the_run_goes_on(tiny_text: TinyText, tmp_path: Path, start: Start) -> None:
    run, whole, log = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "whole"), tmp_path / "log.txt"
    first = start("harness", "train", *tiny_text.overrides, *TWO, "--dir", run.path)
    wait_until(lambda: step_of(run) >= 15, log)
    os.kill(other_rank(first), signal.SIGKILL)
    assert first.wait(SECONDS) == 1, log.read_text()
    ended = read_result(run)
    assert ended.reason == "rank 1 was killed by SIGKILL"
    assert not run.is_attempted()

    second = start("harness", "resume", run.path)
    reached = max(15, ended.step)
    wait_until(lambda: read_result(run).attempts == 2 and step_of(run) >= reached + 15, log)
    orphan = other_rank(second)
    second.kill()
    second.wait()
    wait_until(lambda: not is_alive(orphan), log)

    third = start("harness", "resume", run.path)
    wait_until(lambda: read_result(run).attempts == 3 and read_result(run).state == "running", log)
    wait_until(lambda: step_of(run) >= reached + 25, log)
    third.send_signal(signal.SIGTERM)
    assert third.wait(SECONDS) == 1
    assert read_result(run).state == "waiting", log.read_text()

    assert start("harness", "resume", run.path).wait(SECONDS) == 0, log.read_text()
    assert start("harness", "train", *tiny_text.overrides, *TWO, "--dir", whole.path).wait(SECONDS) == 0, log.read_text()
    assert_same_run(whole, run)


def test_torchrun_starts_one_run(tiny_text: TinyText, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    torchrun = ("torch.distributed.run", "--master-addr", "127.0.0.1", "--master-port", str(port), "--nproc-per-node", "2", "-m")
    command = [warm.shared().programs / "python", "-m", *torchrun, "harness", "train", *tiny_text.overrides, "trainer.devices=2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = list((tmp_path / "runs").iterdir())
    assert len(runs) == 1
    result = read_result(RunDirectory(runs[0]))
    assert (result.state, result.step, result.attempts) == ("complete", 4, 1)
    assert len(final_state(RunDirectory(runs[0]))["callbacks"]["StepEnd"]["random"]) == 2


def test_more_processes_than_ranks_are_refused(tiny_text: TinyText, tmp_path: Path) -> None:
    environment = {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    done = call_harness("train", *tiny_text.overrides, "trainer.devices=2", cwd=tmp_path, env=environment)
    assert done.rc == 2, done
    assert "trainer.devices=2: makes 2 ranks" in done.stderr
    assert "3 processes" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_several_machines_need_somebody_to_start_them(tiny_text: TinyText, tmp_path: Path) -> None:
    done = call_harness("train", *tiny_text.overrides, "trainer.nodes=2", cwd=tmp_path)
    assert done.rc == 2, done
    assert re.search(r"trainer.nodes=2: .*srun or torchrun", done.stderr)


def test_a_trial_of_a_sweep_on_two_ranks(tiny_text: TinyText, tmp_path: Path) -> None:
    from harness.search.attempts import AttemptServer
    from harness.work.attempt import attempt_trial

    run = RunDirectory(tmp_path / "trial")
    run.path.mkdir()
    write_yaml(run.config, to_plain(load([*tiny_text.overrides, "trainer.devices=2"]).config))
    process = AttemptServer(attempt_trial, ["harness.training.train"]).start(run.path)
    process.join(SECONDS)
    assert process.exitcode == 0, run.log.read_text()
    assert read_result(run).state == "complete"
