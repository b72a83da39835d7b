"""`harness confirm` with real training: killed and started again, it runs the rest, and best, compare and the export say what it found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from harness.runs.directory import StudyDirectory, runs_root
from harness.runs.files import read_yaml
from harness.runs.record import load_study
from harness.runs.result import Result, write_result
from harness.runs.trial import Trial, write_trial
from harness.search.confirm import open_confirmation
from harness.search.workers import living_workers
from tests.search.conftest import WriteSweep
from tests.search.studies import check_in_step
from tests.support.command import call_harness, run_harness, start_harness
from tests.support.warm import Process

pytestmark = pytest.mark.slow
CONFIRM = ["confirm", "study", "--top", "2", "--seeds", "2"]


def kill_all(command: Process | subprocess.Popen[bytes], study: StudyDirectory) -> None:
    """With -9: the command, and its workers, whose trials go with them."""
    workers = living_workers(study)
    for pid in [command.pid, *(worker["pid"] for worker in workers)]:
        os.kill(pid, signal.SIGKILL)
    command.wait()
    while any(run.is_attempted() for run in study.trials()):
        time.sleep(0.05)


def wait_for_rows(study: StudyDirectory) -> None:
    deadline = time.monotonic() + 120
    while not any(run.metrics.last() for run in study.trials()):
        assert time.monotonic() < deadline, "no trial began"
        time.sleep(0.02)


def test_killed_and_started_again_it_confirms_the_winner(tmp_path: Path, write_sweep: WriteSweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    space = {"optim.lr": {"choices": [1e-3, 1e-2]}}
    constraints = {"val/domain/loss": {"max": 100.0}}
    length = ["trainer.max_steps=30", "trainer.checkpoint_every_steps=10", "trainer.log_every_steps=1"]
    write_sweep(base=length, space=space, search="grid", budget=None, constraints=constraints)
    assert run_harness("sweep", "study.yaml", cwd=tmp_path).rc == 0
    before = json.loads(run_harness("best", "study", "--json", cwd=tmp_path).stdout)
    assert before["confirmed"] is False

    confirmation = StudyDirectory(runs_root() / "study-confirm")
    with (tmp_path / "said.txt").open("wb") as said:
        command = start_harness(*CONFIRM, cwd=tmp_path, stdout=said, stderr=said)
    wait_for_rows(confirmation)
    kill_all(command, confirmation)
    assert json.loads(run_harness("best", "study", "--json", cwd=tmp_path).stdout)["confirmed"] is False

    done = run_harness(*CONFIRM, "--json", cwd=tmp_path)
    assert done.rc == 0, done
    document = json.loads(done.stdout)
    assert document["runs"] == {"planned": 4, "ended": 4}
    assert [candidate["values"].keys() for candidate in document["candidates"]] == [{"1", "2"}] * 2
    assert 0 < document["probability_best"] < 1
    record = check_in_step(confirmation, ended=True)
    assert [run.state for run in record.runs] == ["complete"] * 4
    assert {read_yaml(run.directory.config)["seed"] for run in record.runs} == {1, 2}
    assert len({json.dumps(run.result.fingerprints, sort_keys=True) for run in record.runs}) == 1, "the same data and model for all"
    of_search = load_study(StudyDirectory(runs_root() / "study"))
    assert all(run.result.attempts == 1 for run in of_search.runs)

    # Once more: there is nothing left to run.
    attempts = [run.result.attempts for run in record.runs]
    assert sum(attempts) > 4, "what was killed went on, with its number"
    again = run_harness(*CONFIRM, cwd=tmp_path)
    assert again.rc == 0, again
    assert "is the winner" in again.stdout
    assert [run.result.attempts for run in load_study(confirmation).runs] == attempts

    best = run_harness("best", "study", "--export", "sure", "--json", cwd=tmp_path)
    assert best.rc == 0, best
    found = json.loads(best.stdout)
    assert found["confirmed"] is True
    assert found["number"] == document["winner"]
    assert found["interval"][0] <= found["objective"] <= found["interval"][1]
    exported = (tmp_path / "conf/experiment/best/sure.yaml").read_text()
    assert "interval over 2 seeds, 1 to 2" in exported
    assert yaml.safe_load(exported)

    compared = run_harness("compare", "study", "--html", "page.html", cwd=tmp_path)
    assert compared.rc == 0, compared
    assert "±" in compared.stdout
    assert "seed noise" in compared.stdout
    assert "Confirmation over 2 seeds" in (tmp_path / "page.html").read_text()
    assert f"trial {document['winner']} is the winner" in run_harness("status", "study", cwd=tmp_path).stdout


@pytest.mark.long
def test_it_goes_on_in_rounds_until_a_trial_that_is_expected_to_hold_the_constraints_does(
    tmp_path: Path, write_sweep: WriteSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    space = {"optim.lr": {"choices": [1e-3, 3e-3, 1e-2]}}
    write_sweep(base=["trainer.max_steps=10"], space=space, search="grid", budget=None, constraints={"val/domain/loss": {"max": 100.0}})
    assert run_harness("sweep", "study.yaml", cwd=tmp_path).rc == 0
    study = load_study(StudyDirectory(runs_root() / "study"))
    best, second, third = (run.number for run in sorted(study.runs, key=lambda run: run.result.objective or 0.0))
    # What fresh seeds do to the best is made up: real runs of it do not break this bound.
    confirmation = open_confirmation(study, top=1, seeds=2, workers=1)
    for number in range(2):
        write_trial(confirmation.trial(number), Trial(number=number, params={}, tokens=1))
        write_result(confirmation.trial(number), Result(state="complete", metrics={"val/domain/loss": 101.0}, objective=101.0))

    alone = run_harness("confirm", "study", "--top", "1", "--seeds", "2", "--json", cwd=tmp_path)
    assert alone.rc == 1, alone
    assert json.loads(alone.stdout)["to_try_next"] == [second]
    assert "--rounds" in run_harness("best", "study", cwd=tmp_path).stdout
    done = run_harness("confirm", "study", "--top", "1", "--seeds", "2", "--rounds", "3", "--json", cwd=tmp_path)
    assert done.rc == 0, done
    document = json.loads(done.stdout)
    assert document["winner"] == second
    assert {candidate["number"] for candidate in document["candidates"]} == {best, second}, f"{third} was worse in the search"
    assert f"trials {second} over seeds 1, 2: 2 runs to go" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["nowhere"], "unknown study 'nowhere'"),
        (["study", "--seeds", "1"], "--seeds=1"),
        (["study", "--rounds", "0"], "--rounds=0"),
        (["study", "--trial", "0", "--rounds", "2"], "--trial and --rounds exclude each other"),
        (["study", "--top", "9"], "nothing to confirm"),
        (["study", "--trial", "7"], "--trial=7"),
    ],
)
def test_bad_input_is_one_message(
    arguments: list[str], fragment: str, tmp_path: Path, write_sweep: WriteSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    if arguments[0] == "study":
        from harness.search.load_sweep import load_sweep
        from harness.search.open_study import open_study

        open_study(load_sweep(str(write_sweep()), []))
    done = call_harness("confirm", *arguments, cwd=tmp_path)
    assert done.rc == 2, done
    assert fragment in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
