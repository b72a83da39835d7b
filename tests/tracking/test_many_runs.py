"""Runs that log online at the same moment, to a server that refuses, and is dead for a while."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.tracking.identity import identity_of_run
from tests.support.command import run_harness
from tests.support.fake_wandb import FakeWandb
from tests.tracking.at_once import Overrun, log_at_once, rows_of
from tests.tracking.attempts import Environment, ReadBack, forked, read_back
from tests.tracking.studies import study_in, trial_in

RUNS, STEPS = 12, 30
LOG_SECONDS = 0.25
"""What a call may take at worst: far less than any request."""


@pytest.mark.slow
@pytest.mark.long
def test_no_run_of_many_is_lost_and_no_step_is_there_twice(tmp_path: Path, backend: FakeWandb, online: Environment) -> None:
    """What a client could not bring in before its attempt ended, `harness sync` brings in from the attempt's own log."""
    study = study_in(tmp_path / "runs")
    trials = [trial_in(study, number, lr=1e-3 * (number + 1)) for number in range(RUNS)]
    overrun = backend.refusal = Overrun(backend, runs=RUNS, requests=100)
    outcomes = log_at_once(trials, online, steps=STEPS, step_seconds=0.05, finish_seconds=30)
    assert all(overrun.said.values()), "each kind of refusal was met"
    assert max(seconds for outcome in outcomes for seconds in outcome.log_seconds) < LOG_SECONDS
    assert all(len(outcome.warnings) <= 1 for outcome in outcomes)

    backend.refusal = None
    done = run_harness("sync", "question", cwd=tmp_path, env={**online, "HARNESS_RUNS": str(tmp_path / "runs")})
    assert done.rc == 0, done
    found: dict[str, ReadBack] = {run.id: run for run in forked(read_back, online, "harness", {"jobType": "trial"})}
    for trial in trials:
        run = found[identity_of_run(trial).id]
        assert run.rows == rows_of(trial)
        assert (run.state, run.group, run.summary["objective"]) == ("finished", "question", trial.metrics.rows()[25]["val/docs/loss"])
