"""A study on a cluster that confirms its best by itself, within its budget: search.confirm."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.runs.confirmation_plan import confirmation_directory
from harness.runs.record import load_study
from harness.search.reserve import FEWEST_RUNS
from harness.search.status import read_status
from tests.search.studies import check_in_step
from tests.slurm.conftest import EVERY, NewStudy, OnSlurm
from tests.support.command import call_harness
from tests.support.slurm.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.long]
TRIALS = 8
BASE = ("trainer.max_steps=300", f"trainer.checkpoint_every_steps={EVERY}")


def test_the_workers_of_an_array_end_with_a_confirmed_winner(slurm: Cluster, new_study: NewStudy, tmp_path: Path) -> None:
    """A job is cancelled under a run over a fresh seed: another worker takes it over, and the budget pays for it once."""
    study = new_study(base=BASE, search={"name": "random", "confirm": True}, budget={"trials": TRIALS})
    array = study.submit(3)
    over_seeds = OnSlurm(slurm, confirmation_directory(study.directory))
    study.wait(lambda: over_seeds.run().trial.exists(), "a run over a fresh seed")
    over_seeds.wait_for_step(2 * EVERY)
    reached, first = over_seeds.step(), over_seeds.trial().claims[-1].place.job
    slurm.command("scancel", str(first))
    study.wait(lambda: read_status(study.directory).is_finished, "the end of the study")
    study.wait(lambda: not slurm.live_elements(), "all workers to leave")

    found = load_study(study.directory)
    assert [run.state for run in found.runs] == ["complete"] * (TRIALS - FEWEST_RUNS), study.said()
    assert [(run.state, run.result.failures) for run in found.paid_for] == [("complete", 0)] * FEWEST_RUNS, study.said()
    claims = [claim.place.job for run in found.paid_for if run.trial for claim in run.trial.claims]
    assert set(claims) <= {f"{array}_{task}" for task in range(3)}
    assert over_seeds.result().attempts == 2
    assert over_seeds.trial().claims[-1].place.job != first
    assert over_seeds.result().tokens.position >= reached, "it went on"
    trials = read_status(study.directory).budget.trials
    assert (trials.used, trials.reserved) == (TRIALS, 0)
    for directory in (study.directory, over_seeds.directory):
        check_in_step(directory, ended=True)

    # What the command of a laptop ends with, whoever looks at it first is told.
    assert found.confirmed is not None
    said = f"study: trial {found.confirmed.number} is the winner: val/domain/loss"
    assert said in call_harness("status", "study", cwd=tmp_path).stdout
    again = call_harness("sweep", "study", "launcher=slurm", cwd=tmp_path)
    assert "study: finished, nothing was submitted" in again.stdout.replace(str(study.directory.path), "study")
    assert said in again.stderr
