"""A budget of tokens with real training: eight workers keep to it, and a study whose budget is raised goes on along its trunks."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from harness.runs.directory import RunDirectory, StudyDirectory, runs_root
from harness.runs.record import RunRecord, load_study
from harness.runs.result import read_result
from harness.search.workers import living_workers
from tests.search.conftest import WriteSweep
from tests.search.studies import check_in_step, kill_attempt
from tests.support.command import HARNESS, run_harness
from tests.training.runs import assert_same_run, train_here

pytestmark = pytest.mark.slow
STEPS = 100
BATCH_TOKENS = 128
WHOLE = STEPS * BATCH_TOKENS
"""Tokens of the longest run, at most."""
EVERY = 10
"""Steps between checkpoints."""
BASE = ["schedule=wsd", "schedule.warmup=2", f"trainer.max_steps={STEPS}", f"trainer.checkpoint_every_steps={EVERY}"]
RATE: dict[str, Any] = {"low": 1e-4, "high": 1e-1, "log": True}
LENGTHS = {"space": {"optim.lr": RATE, "trainer.max_steps": {"low": STEPS // 4, "high": STEPS}}, "search": "random"}
TRUNKS = {
    "space": {"optim.lr": RATE, "schedule.decay_fraction": {"low": 0.2, "high": 0.5}},
    "search": {"name": "trunk", "rungs": 3, "reduction_factor": 2, "branches": 2, "startup_trials": 4, "confirm": False},
}


def promised(before: list[RunRecord], moment: float) -> int:
    """What trials that had begun earlier held of the budget at a moment: what they cost if they had ended, else what was reserved, or
    what their plan came to, where it found a deeper trunk than was counted on."""
    held = 0
    for run in before:
        assert run.trial is not None
        ended = run.trial.spans[-1][1] <= moment
        held += run.result.tokens.trained if ended else min(run.trial.tokens, run.result.tokens.budgeted)
    return held


@pytest.mark.long
@pytest.mark.parametrize("document", [LENGTHS, TRUNKS], ids=["random", "trunk"])
def test_eight_workers_that_train_never_start_what_does_not_fit(write_sweep: WriteSweep, tmp_path: Path, document: dict[str, Any]) -> None:
    limit = 14 * WHOLE + 77
    base = [text for text in BASE if text.partition("=")[0] not in document["space"]]
    path = write_sweep("eight", base=base, budget={"tokens": limit}, launcher={"name": "local", "workers": 8}, **document)
    study = StudyDirectory(runs_root() / "eight")
    with (tmp_path / "said.txt").open("ab") as said:
        sweep = subprocess.Popen([HARNESS, "sweep", str(path)], cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=said)
    try:
        killed = _kill_one_past_its_first_checkpoint(sweep, study)
        assert sweep.wait(timeout=400) == 0, (tmp_path / "said.txt").read_text()
    finally:
        sweep.kill()
        for worker in living_workers(study):
            os.kill(worker["pid"], signal.SIGKILL)
    record = check_in_step(study, ended=True)
    assert [run.result.failures for run in record.runs if run.number == killed] == [1]
    assert sum(run.result.tokens.trained for run in record.runs) <= limit
    in_order = sorted(record.runs, key=lambda run: run.trial.claims[0].began if run.trial else 0.0)
    assert len({run.trial.claims[0].worker for run in in_order if run.trial}) == 8
    for position, run in enumerate(in_order):
        assert run.trial is not None
        assert promised(in_order[:position], run.trial.claims[0].began) + run.trial.tokens <= limit
        tokens = run.result.tokens
        last = run.rows[-1]
        assert run.state == "complete"
        assert tokens.trained + tokens.shared >= last["tokens"], "every step that a row tells of was paid for by somebody"
        if not run.result.failures:
            assert tokens.trained == last["tokens"] - tokens.shared <= run.trial.tokens
    left = limit - sum(run.result.tokens.trained for run in record.runs)
    assert left < WHOLE, "what fits is started"


def _kill_one_past_its_first_checkpoint(sweep: subprocess.Popen[bytes], study: StudyDirectory) -> int:
    """SIGKILL an attempt that will have to go over some of its steps again, and tell of which trial."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and sweep.poll() is None:
        for run in study.trials():
            last = run.metrics.last() if run.is_attempted() else None
            if last is not None and last["step"] % EVERY >= 3 and list(run.checkpoints.glob("*.ckpt")):
                number = int(run.path.name)
                kill_attempt(study, number)
                return number
        time.sleep(0.01)
    raise AssertionError("no trial got so far")


@pytest.mark.long
def test_a_trunk_search_whose_budget_is_raised_goes_on_along_its_trunks(write_sweep: WriteSweep, tmp_path: Path) -> None:
    study = StudyDirectory(runs_root() / "raised")

    def sweep(tokens: float) -> list[RunRecord]:
        path = write_sweep("raised", base=[*BASE, "model.attention_dropout=0.1"], budget={"tokens": int(tokens)}, **TRUNKS)
        done = run_harness("sweep", path, cwd=tmp_path, timeout_seconds=400)
        assert done.rc == 0, done
        runs = load_study(study).runs
        assert {run.state for run in runs} == {"complete"}
        assert sum(run.result.tokens.trained for run in runs) <= tokens
        return runs

    before = {run.number: run.result.tokens.trained for run in sweep(2.2 * WHOLE)}
    runs = sweep(5 * WHOLE)
    assert {run.number: run.result.tokens.trained for run in runs if run.number in before} == before, "what had ended is left alone"
    later = [run for run in runs if run.number not in before]
    on_old_trunks = [run for run in later if run.trial and run.trial.parent in before]
    assert on_old_trunks
    assert all(run.result.tokens.shared > 0 for run in on_old_trunks)
    scratch = sum(run.result.tokens.trained + run.result.tokens.shared for run in later)
    assert sum(run.result.tokens.trained for run in later) < scratch
    branch = max(on_old_trunks, key=lambda run: run.result.step).directory
    assert read_result(branch).tokens.shared > 0
    alone = RunDirectory(tmp_path / "alone")
    alone.path.mkdir()
    alone.config.write_text(branch.config.read_text())
    train_here(alone)
    assert_same_run(branch, alone)
