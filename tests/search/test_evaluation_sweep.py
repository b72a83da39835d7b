"""A study of runs that train nothing: its budget, a kill, and all that reads a study."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.runs.directory import StudyDirectory, runs_root
from harness.runs.record import load_study
from harness.runs.result import read_result
from harness.runs.trial import read_trial
from harness.search.load_sweep import load_sweep
from tests.search.conftest import WriteSweep
from tests.search.studies import check_in_step
from tests.support.command import run_harness, start_harness
from tests.support.corpus import TinyText

CONTEXTS = [2, 4, 6, 8, 12, 16, 24, 32]
BOUND = 700


@pytest.fixture
def question(write_sweep: WriteSweep, tiny_text: TinyText, tiny_model: Path) -> Path:
    """At which context is the loss lowest? Eight trials, two workers, on a budget that holds each once, and two of them again."""
    return write_sweep(
        "contexts",
        base=[
            "trainer.max_steps=0",
            "model=pretrained",
            f"model.path={tiny_model}",
            f"data.max_evaluation_tokens={BOUND // 2}",
            "trainer.evaluation_batch_tokens=32",
        ],
        space={"data.context_length": {"choices": CONTEXTS}},
        search={"name": "grid"},
        budget={"tokens": 10 * BOUND},
        launcher={"name": "local", "workers": 2},
    )


def test_its_cost_is_known_before_its_data_are_looked_at(question: Path, write_sweep: WriteSweep) -> None:
    assert load_sweep(str(question), []).largest_trial_tokens == BOUND
    unbounded = write_sweep(
        "unbounded", base=["trainer.max_steps=0", "data.validation.domain.max_tokens=null"], space={"seed": {"choices": [0, 1]}}
    )
    assert load_sweep(str(unbounded), []).has_unbounded_trials
    with pytest.raises(InputError, match=r"budget\.tokens=1000: how much a trial reads is not bounded.*data\.max_evaluation_tokens=N"):
        load_sweep(str(unbounded), ["budget.tokens=1000"])
    varied = write_sweep(
        "varied",
        base=["trainer.max_steps=0"],
        space={"data.max_evaluation_tokens": {"choices": [100, 300]}, "seed": {"choices": [0, 1]}},
        budget={"tokens": 5000},
    )
    sweep = load_sweep(str(varied), [])
    assert (sweep.largest_trial_tokens, sweep.trial_tokens({"data.max_evaluation_tokens": 100, "seed": 1})) == (600, 200)


def test_a_group_may_set_what_bounds_it(write_sweep: WriteSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("small", 100), ("large", 300)):
        path = tmp_path / "conf" / "data" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"max_evaluation_tokens: {most}\n")
    monkeypatch.chdir(tmp_path)
    grouped = write_sweep("grouped", base=["trainer.max_steps=0"], space={"data": {"choices": ["small", "large"]}}, budget={"tokens": 5000})
    sweep = load_sweep(str(grouped), [])
    assert (sweep.largest_trial_tokens, sweep.trial_tokens({"data": "small"})) == (600, 200)


@pytest.mark.parametrize("metric", ["train/loss", "val/domain/forgetting"])
def test_only_what_evaluations_log_can_be_looked_for(write_sweep: WriteSweep, metric: str) -> None:
    """Nothing is trained; and what was forgotten by a run that trains nothing is always 0."""
    path = write_sweep(base=["trainer.max_steps=0"], space={"seed": {"choices": [0, 1]}}, objective={"metric": metric})
    with pytest.raises(InputError, match=rf"objective\.metric: unknown metric '{metric}'"):
        load_sweep(str(path), [])


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"search": {"name": "trunk"}}, r"search\.name=trunk: not with trainer\.max_steps=0"),
        ({"stopping": {"name": "median"}}, r"stopping=median: not with trainer\.max_steps=0"),
    ],
)
def test_what_only_training_has_is_refused(write_sweep: WriteSweep, sections: dict[str, Any], said: str) -> None:
    base = ["trainer.max_steps=0", "trainer.evaluate_every_steps=2"]
    with pytest.raises(InputError, match=said):
        load_sweep(str(write_sweep("refused", base=base, space={"data.context_length": {"choices": CONTEXTS}}, **sections)), [])


def shown(*command: str, cwd: Path) -> Any:
    done = run_harness(*command, "--json", cwd=cwd)
    assert done.rc == 0, done
    return json.loads(done.stdout)


@pytest.mark.slow
def test_a_kill_changes_nothing_and_everything_reads_it(question: Path, tmp_path: Path) -> None:
    undisturbed = run_harness("sweep", str(question), "--name", "undisturbed", cwd=tmp_path)
    assert undisturbed.rc == 0, undisturbed
    with (tmp_path / "said.txt").open("wb") as said:
        disturbed = start_harness("sweep", str(question), "--name", "disturbed", cwd=tmp_path, stdout=said, stderr=said)
    study = StudyDirectory(tmp_path / "runs" / "disturbed")
    kill_a_worker(study)
    assert disturbed.wait(timeout=240) == 0, (tmp_path / "said.txt").read_text()
    check_in_step(study, ended=True)

    found = {}
    for name in ("undisturbed", "disturbed"):
        runs = load_study(StudyDirectory(tmp_path / "runs" / name)).runs
        assert {run.params["data.context_length"] for run in runs} == set(CONTEXTS)
        assert all(run.state == "complete" for run in runs)
        found[name] = {run.params["data.context_length"]: run.result.objective for run in runs}
    assert found["disturbed"] == found["undisturbed"]

    status = shown("status", "undisturbed", cwd=tmp_path)
    read = [trial["tokens"]["read"] for trial in status["trials"]]
    assert all(0 < tokens <= BOUND for tokens in read)
    assert status["budget"]["tokens"]["used"] == sum(read)
    again = shown("status", "disturbed", cwd=tmp_path)["budget"]["tokens"]["used"]
    assert sum(read) <= again <= 10 * BOUND
    best = min(found["undisturbed"], key=lambda context: found["undisturbed"][context] or 0.0)
    assert status["finished"]
    assert status["best"]["params"] == {"data.context_length": best}
    compared = shown("compare", "undisturbed", cwd=tmp_path)
    assert len(compared["runs"]) == len(CONTEXTS)

    confirmed = shown("confirm", "undisturbed", "--top", "2", "--seeds", "2", cwd=tmp_path)
    assert confirmed["winner"] == status["best"]["number"]
    exported = shown("best", "undisturbed", "--export", "context", cwd=tmp_path)
    assert exported["confirmed"]
    card = (tmp_path / "conf" / "experiment" / "best" / "context" / "README.md").read_text()
    assert "val/domain/loss" in card
    reproduced = shown("reproduce", f"undisturbed/{status['best']['number']}", cwd=tmp_path)
    assert reproduced["verdict"] == "exact"
    evaluated = shown("evaluate", f"undisturbed/{status['best']['number']}", cwd=tmp_path)
    assert evaluated["metrics"]["val/domain/loss"] == found["undisturbed"][best]


def kill_a_worker(study: StudyDirectory) -> None:
    """SIGKILL for the worker of the first trial that is under way, and with it its attempt."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for run in study.trials():
            trial = read_trial(run)
            if trial is not None and trial.worker is not None and read_result(run).state == "running":
                card = json.loads((study.workers / f"{trial.worker}.json").read_bytes())
                os.kill(card["pid"], signal.SIGKILL)
                return
        time.sleep(0.002)
    raise AssertionError(f"no trial of {runs_root()} was seen running")
