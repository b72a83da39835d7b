"""Real processes that are killed, asked to stop and resumed, and end with the bits of one that was left alone."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from harness.config.load import load
from harness.config.validate import to_plain
from harness.models.checkpoint_files import checkpoints
from harness.runs.directory import RunDirectory
from harness.runs.files import write_yaml
from harness.runs.result import read_result
from tests.support.command import start_harness
from tests.support.corpus import TinyText
from tests.training.runs import EXACT_RESUME, assert_same_run, train_here

pytestmark = pytest.mark.slow

STEPS = 100
LONG = (*EXACT_RESUME, f"trainer.max_steps={STEPS}", "trainer.checkpoint_every_steps=7", "trainer.keep_checkpoints=2")
"""Long enough to be met in the middle: its text is worn out on the way."""

SECONDS = 120.0


LORA = ("adapter=lora", "adapter.dropout=0.2", "optim.lr=1e-2")


@pytest.fixture(scope="module")
def undisturbed(tiny_text: TinyText, session_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., RunDirectory]:
    """The run that nobody disturbs, with these overrides."""

    @cache
    def run_with(*overrides: str) -> RunDirectory:
        run = RunDirectory(tmp_path_factory.mktemp("whole"))
        config = load([*tiny_text.overrides, *LONG, *overrides, f"data.cache_dir={session_cache}"]).config
        write_yaml(run.config, to_plain(config))
        train_here(run)
        return run

    return run_with


@pytest.fixture
def whole(undisturbed: Callable[..., RunDirectory]) -> RunDirectory:
    return undisturbed()


class Command:
    """`harness …` in a process of its own."""

    def __init__(self, *arguments: str | Path, log: Path, cold: bool) -> None:
        self.log = log
        with log.open("ab") as stream:
            self.process = start_harness(*arguments, stdout=stream, stderr=stream, cold=cold)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert self.process.poll() is None, f"it ended by itself:\n{self.output}"
            assert time.monotonic() < deadline, self.output
            time.sleep(0.002)

    def end(self) -> int:
        return self.process.wait(timeout=SECONDS)

    @property
    def output(self) -> str:
        return self.log.read_text()


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    started: list[Command] = []

    def start(*arguments: str | Path, cold: bool = False) -> Command:
        started.append(Command(*arguments, log=tmp_path / f"log-{len(started)}.txt", cold=cold))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


@pytest.fixture
def train(command: Callable[..., Command], tiny_text: TinyText, tmp_path: Path) -> Callable[..., tuple[Command, RunDirectory]]:
    def start(*overrides: str, cold: bool = False) -> tuple[Command, RunDirectory]:
        run = RunDirectory(tmp_path / "run")
        return command("train", *tiny_text.overrides, *LONG, *overrides, "--dir", run.path, cold=cold), run

    return start


def step_of(run: RunDirectory) -> int:
    newest = run.metrics.newest()
    return newest["step"] if newest else 0


@pytest.mark.parametrize("overrides", [(), LORA], ids=["all weights", "lora"])
def test_killed_at_random_steps(
    train: Callable[..., tuple[Command, RunDirectory]],
    command: Callable[..., Command],
    undisturbed: Callable[..., RunDirectory],
    overrides: tuple[str, ...],
) -> None:
    one, run = train(*overrides)
    chance = random.Random(0)
    for kills, after in enumerate((chance.randrange(8, 35), chance.randrange(45, 70)), start=1):
        one.wait_until(lambda after=after: step_of(run) >= after)
        one.process.send_signal(signal.SIGKILL)
        assert one.end() == -signal.SIGKILL
        assert not run.is_attempted()
        assert read_result(run).state == "running"
        assert max(checkpoints(run.checkpoints)) < STEPS
        one = command("resume", run.path)
        one.wait_until(lambda kills=kills: read_result(run).attempts > kills)
    assert one.end() == 0, one.output
    done = read_result(run)
    assert (done.state, done.step, done.attempts, done.failures) == ("complete", STEPS, 3, 2)
    # At most one checkpoint interval was trained again each time, and it is counted.
    again = done.tokens.trained - done.tokens.budgeted
    assert 0 <= again <= 2 * 8 * done.tokens.budgeted / STEPS * 1.5
    assert_same_run(undisturbed(*overrides), run)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop(
    train: Callable[..., tuple[Command, RunDirectory]], command: Callable[..., Command], whole: RunDirectory, number: signal.Signals
) -> None:
    one, run = train()
    one.wait_until(lambda: step_of(run) >= 20)
    one.process.send_signal(number)
    assert one.end() == 1
    stopped = read_result(run)
    assert stopped.state == "waiting"
    assert 20 <= stopped.step < STEPS
    assert max(checkpoints(run.checkpoints)) == stopped.step
    assert f"stopped at step {stopped.step}; `harness resume {run.path}` goes on" in one.output
    again = command("resume", run.path)
    assert again.end() == 0, again.output
    done = read_result(run)
    assert (done.state, done.attempts, done.failures) == ("complete", 2, 0)
    assert done.tokens.trained == done.tokens.budgeted
    assert_same_run(whole, run)


@pytest.mark.parametrize("delay_seconds", [0.0, pytest.param(1.0, marks=pytest.mark.long)])
def test_asked_to_stop_while_it_starts(
    train: Callable[..., tuple[Command, RunDirectory]], command: Callable[..., Command], delay_seconds: float
) -> None:
    """From the moment that the run's lock is there, however far the imports, the data and the model have come."""
    one, run = train(cold=True)
    one.wait_until(run.attempt_lock.exists)
    time.sleep(delay_seconds)
    one.process.send_signal(signal.SIGTERM)
    assert one.end() == 1, one.output
    stopped = read_result(run)
    assert stopped.state == "waiting", one.output
    assert stopped.step < STEPS
    assert f"stopped at step {stopped.step}" in one.output
    assert "Traceback" not in one.output


def test_interrupted_twice(train: Callable[..., tuple[Command, RunDirectory]]) -> None:
    """An impatient user is obeyed at once; what is lost is no more than a checkpoint interval."""
    one, run = train()
    one.wait_until(lambda: step_of(run) >= 20)
    one.process.send_signal(signal.SIGINT)
    one.process.send_signal(signal.SIGINT)
    assert one.end() == 1
    assert read_result(run).state == "waiting"
    assert not run.is_attempted()
