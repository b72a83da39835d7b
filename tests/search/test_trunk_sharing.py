"""A study whose trials share trunks: each step of a trunk is trained once, and every trial ends like a run of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.runs.directory import RunDirectory, StudyDirectory, runs_root
from harness.runs.result import read_result
from tests.search.conftest import WriteSweep
from tests.support.command import run_harness
from tests.training.runs import assert_same_run, train_here

pytestmark = pytest.mark.slow
BASE = ["schedule=wsd", "schedule.warmup=2", "trainer.max_steps=40", "trainer.checkpoint_every_steps=7", "model.attention_dropout=0.1"]
SPACE = {
    "schedule.decay_fraction": {"choices": [0.25, 0.5]},
    "schedule.decay_shape": {"choices": ["linear", "cosine", "1-sqrt"]},
    "optim.lr": {"choices": [1e-3, 3e-3]},
}


def test_trunks_are_trained_once_and_trials_end_like_runs_of_their_own(write_sweep: WriteSweep, tmp_path: Path) -> None:
    trials = 8
    sweep = write_sweep("decay", base=BASE, space=SPACE, budget={"trials": trials}, launcher={"name": "local", "workers": 3})
    done = run_harness("sweep", sweep, cwd=tmp_path)
    assert done.rc == 0, done
    study = StudyDirectory(runs_root() / "decay")
    results = [read_result(run) for run in study.trials()]
    assert [result.state for result in results] == ["complete"] * trials
    assert all(result.tokens.trained == result.tokens.budgeted for result in results)
    shared = [result.tokens.shared for result in results]
    assert 0 in shared  # somebody has to train it
    # At most two trunks, and a branch of half a run each.
    whole = results[0].tokens.trained + results[0].tokens.shared
    assert sum(result.tokens.trained for result in results) < (2 + (trials - 2) * 0.55) * whole
    document = json.loads(run_harness("status", "decay", "--json", cwd=tmp_path).stdout)
    assert [trial["tokens"]["shared"] for trial in document["trials"]] == shared
    branch = next(run for run in study.trials() if read_result(run).tokens.shared)
    scratch = RunDirectory(tmp_path / "scratch")
    scratch.path.mkdir()
    scratch.config.write_text(branch.config.read_text())
    train_here(scratch)
    assert_same_run(branch, scratch)


def test_a_longer_study_goes_on_from_the_trunks_of_a_shorter_one(write_sweep: WriteSweep, tmp_path: Path) -> None:
    space = {key: SPACE[key] for key in ("schedule.decay_shape", "optim.lr")}
    short = write_sweep("short", base=BASE, space=space, budget={"trials": 2})
    long = write_sweep("long", base=[*BASE, "trainer.max_steps=60"], space=space, budget={"trials": 2})
    for sweep in (short, long):
        done = run_harness("sweep", sweep, cwd=tmp_path)
        assert done.rc == 0, done
    results = [read_result(run) for run in StudyDirectory(runs_root() / "long").trials()]
    assert all(result.tokens.shared > 0 for result in results)
