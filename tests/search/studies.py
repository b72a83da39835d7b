"""Studies whose trials cost nothing: attempts that write what training would, in a millisecond, or die in the ways that it can."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import optuna
from optuna.storages import JournalStorage

from benchmarks.simulation.attempt import FakeAttempt
from harness.config.errors import InputError
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.exit_codes import BAD_INPUT
from harness.runs.files import append_json_line, read_yaml
from harness.runs.record import StudyRecord, load_study
from harness.runs.trial import Trial, read_trial
from harness.search import confirm as confirm_module
from harness.search import settle as settle_module
from harness.search import study as study_module
from harness.search.status import read_status
from harness.search.storage.build import open_storage
from harness.search.study import Answer, Claim, Study
from harness.search.sweep import LENGTH_KEYS, thaw
from harness.search.worker import Worker

TRIAL_TOKENS = 512
METRICS = {"val/domain/loss": 2.0, "val/general/forgetting": 0.1}


class Attempt(FakeAttempt):
    """An attempt on a trial of TRIAL_TOKENS, or of as many as the trial of a trunk search has."""

    def __init__(self, run: RunDirectory, *, shared: int = 0) -> None:
        """shared: tokens of a trunk that another run has trained."""
        trial = read_trial(run)
        length = TRIAL_TOKENS if trial is None or trial.rung is None else trial.tokens
        super().__init__(run, length=length, shared=shared, position=shared or None)

    def complete(self, objective: float | None = 2.0, **metrics: float) -> int:  # type: ignore[override]
        """Train to the end; without an objective none was logged."""
        logged = {**METRICS, **metrics, **({} if objective is None else {"val/domain/loss": objective})}
        if objective is None:
            del logged["val/domain/loss"]
        return super().complete(logged)

    def vanish(self, reached: int) -> int:  # type: ignore[override]
        """Be killed: a last row says how far it got."""
        append_json_line(self.run.metrics.path, {"step": reached, "tokens": reached})
        return super().vanish()


def objective_of(params: dict[str, Any]) -> float:
    """A smooth function of the point, so that a sampler has something to find."""
    return float(round(abs(params["optim.lr"] - 0.003) + 0.1 * (params.get("schedule") == "linear"), 9))


def run_all(directory: StudyDirectory, loss: Callable[[Trial], float | None], **metrics: float) -> None:
    """Every trial of a study, by one worker. loss: None for one that diverges."""
    study = Study(directory, thaw(directory.sweep), "here-1-aa")
    while isinstance(claim := study.claim(), Claim):
        trial = read_trial(claim.run)
        assert trial is not None
        value = loss(trial)
        attempt = Attempt(claim.run)
        study.settle(claim, attempt.complete(value, **metrics) if value is not None else attempt.fail("the loss is nan"))


def fake_attempt(directory: str) -> int:
    """An attempt whose fate the environment names, by trial: FATES="3:crash,4:kill_once"; all others complete."""
    run = RunDirectory(Path(directory))
    trial = read_trial(run)
    assert trial is not None
    assert trial.params is not None
    fates = dict(part.split(":") for part in os.environ.get("FATES", "").split(",") if part)
    fate = fates.get(str(trial.number), fates.get("all", "complete"))
    with _alone(run):
        time.sleep(float(os.environ.get("ATTEMPT_SECONDS", "0")))
        if fate == "die_early":
            os.kill(os.getpid(), signal.SIGKILL)
        attempt = Attempt(run)
        first = attempt.result.attempts == 1
        if fate == "crash" or (fate == "crash_once" and first):
            return attempt.crash(100)
        if fate == "bad_input":
            return attempt.fail("model.path=nowhere: no such directory")
        if fate == "diverge":
            return attempt.fail(f"the loss of step {trial.number} is nan")
        if fate == "kill" or (fate == "kill_once" and first):
            os.kill(os.getpid(), signal.SIGKILL)
        if fate == "kill_worker_once" and first:
            os.kill(_worker_pid(run), signal.SIGKILL)
            time.sleep(60)
        if fate == "kill_server_once" and first:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(60)
        if fate == "hang_once" and first:
            time.sleep(60)
        if fate == "no_metric":
            return attempt.complete(None)
        if fate == "stoppable" and first:
            stopped: list[int] = []
            signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
            while not stopped:
                time.sleep(0.01)
            return attempt.stop(TRIAL_TOKENS // 2)
        return attempt.complete(objective_of(trial.params))


def _worker_pid(run: RunDirectory) -> int:
    trial = read_trial(run)
    assert trial is not None
    assert trial.worker is not None
    return int(trial.worker.split("-")[-2])


@contextmanager
def _alone(run: RunDirectory) -> Iterator[None]:
    """Writes down when an attempt begins and ends, for `overlaps`."""
    log = run.path / "times.jsonl"
    append_json_line(log, {"begin": time.time(), "pid": os.getpid()})
    try:
        yield
    finally:
        append_json_line(log, {"end": time.time(), "pid": os.getpid()})


def work(study: str) -> int:
    """A worker of a study over fake attempts."""
    try:
        return Worker(StudyDirectory(Path(study)), fake_attempt, ["tests.search.studies"]).work()
    except InputError as error:
        print(error, file=sys.stderr)
        return BAD_INPUT


# What must hold of a study.


def claim_and_status_agree(study: Study) -> Answer:
    """Claims; a study is finished by its status if, and only if, a worker finds that nothing is left to do."""
    finished = read_status(study.directory).is_finished
    answer = study.claim()
    assert (answer == "done") == read_status(study.directory).is_finished, answer
    assert answer == "done" or not finished, answer
    return answer


def optuna_trials(directory: StudyDirectory) -> list[optuna.trial.FrozenTrial]:
    """Optuna's own view, read from the storage."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = open_storage(directory)
    try:
        return optuna.load_study(study_name=directory.name, storage=storage.optuna).get_trials()
    finally:
        storage.close()


def check_in_step(directory: StudyDirectory, *, ended: bool = False) -> StudyRecord:
    """Optuna's trials and the files tell the same story; ended: and nothing is left RUNNING."""
    from optuna.trial import TrialState

    record = load_study(directory)
    by_number = {run.number: run for run in record.runs}
    trials = optuna_trials(directory)
    assert list(by_number) == list(range(len(by_number)))
    assert len(trials) <= len(by_number) <= len(trials) + 1, "a trial is reserved before Optuna hears of it"
    for trial in trials:
        run = by_number[trial.number]
        match trial.state:
            case TrialState.COMPLETE:
                assert run.result.state == "complete"
                assert trial.value == run.result.objective == run.result.metrics[record.objective.metric]
                # The length of a trunk search's run is no parameter of Optuna's.
                chosen = run.params.keys() - (LENGTH_KEYS if run.trial and run.trial.rung is not None else ())
                assert trial.params.keys() == chosen
            case TrialState.FAIL:
                assert run.result.state == "failed"
                assert run.result.reason
            case TrialState.PRUNED:
                assert run.result.state == "pruned"
                assert run.result.reason
            case TrialState.WAITING:
                assert run.result.state == "waiting"
            case TrialState.RUNNING:
                assert not ended, f"trial {trial.number} is still RUNNING"
            case _:
                raise AssertionError(trial.state)
        if trial.state.is_finished():
            assert run.result.booked_attempts == run.result.attempts
    return record


def overlaps(directory: StudyDirectory) -> list[str]:
    """Trials on which two attempts worked at the same time; an attempt without an end was killed."""
    from harness.runs.files import read_json_lines

    found = []
    for run in directory.trials():
        spans: dict[int, list[float]] = {}
        for row in read_json_lines(run.path / "times.jsonl"):
            spans.setdefault(row["pid"], []).append(row.get("begin") or row["end"])
        whole = sorted(span for span in spans.values() if len(span) == 2)
        found += [run.name for before, after in pairwise(whole) if after[0] < before[1]]
    return found


@contextmanager
def alive(directory: StudyDirectory, worker: str) -> Iterator[None]:
    """A living worker of this name, as others see it: its lock is held."""
    storage = open_storage(directory)
    storage.announce(worker)
    try:
        yield
    finally:
        storage.close()


def signal_attempt(study: StudyDirectory, number: int, what: signal.Signals) -> None:
    """Send a signal to the process of a trial under way: the one that holds the trial's attempt lock."""
    status = study.trial(number).attempt_lock.stat()
    file = f" {os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino} "
    held = [line.split() for line in Path("/proc/locks").read_text().splitlines() if file in line]
    os.kill(int(held[0][4]), what)


def kill_attempt(study: StudyDirectory, number: int) -> None:
    signal_attempt(study, number, signal.SIGKILL)


@contextmanager
def halted(study: StudyDirectory, number: int) -> Iterator[None]:
    """The trial's attempt stands still, so that it is under way still, however long a look at the study takes."""
    signal_attempt(study, number, signal.SIGSTOP)
    try:
        yield
    finally:
        signal_attempt(study, number, signal.SIGCONT)


def config_of(run: RunDirectory) -> dict[str, Any]:
    return read_yaml(run.config)


# Dying between two writes.

WRITES = [
    (confirm_module, "write_plan"),
    (confirm_module, "write_yaml"),
    (study_module, "write_trial"),
    (settle_module, "write_trial"),
    (settle_module, "write_result"),
    *(
        (JournalStorage, name)
        for name in (
            "create_new_trial",
            "set_trial_param",
            "set_trial_system_attr",
            "set_trial_state_values",
            "set_trial_intermediate_value",
        )
    ),
]


@contextmanager
def dying_before(write: int, die: Callable[[], None]) -> Iterator[None]:
    """Call `die` before the n-th write of a study to the disk; never if n is negative or there are fewer."""
    left = write

    def wrap(original: Any) -> Any:
        def wrapped(*arguments: Any, **keywords: Any) -> Any:
            nonlocal left
            if left == 0:
                die()
            left -= 1
            return original(*arguments, **keywords)

        return wrapped

    with ExitStack() as stack:
        for owner, name in WRITES:
            stack.enter_context(mock.patch.object(owner, name, wrap(getattr(owner, name))))
        yield


if __name__ == "__main__":
    with dying_before(int(os.environ.get("DIES_BEFORE_WRITE", "-1")), lambda: os._exit(9)):
        sys.exit(work(sys.argv[1]))


def params_of(claim: Claim) -> dict[str, Any]:
    trial = read_trial(claim.run)
    assert trial is not None
    assert trial.params is not None
    return trial.params


# The life of a trial.


class Killed(BaseException):
    """What a SIGKILL looks like from inside: nothing after it happens."""


def die() -> None:
    raise Killed
