"""Checkpoints as artifacts, where they are asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.runs.directory import RunDirectory
from harness.tracking.identity import identity_of_run
from tests.support.command import run_harness
from tests.support.fake_wandb import FakeWandb
from tests.tracking.studies import attempted, study_in, trial_in, write_config

Environment = dict[str, str]


def with_checkpoint(run: RunDirectory) -> RunDirectory:
    run.checkpoints.mkdir(parents=True)
    (run.checkpoints / "step-00000005.ckpt").write_bytes(b"earlier")
    (run.checkpoints / "step-00000010.ckpt").write_bytes(run.path.name.encode())
    return run


@pytest.mark.slow
def test_a_single_run_brings_its_model_with_a_link_to_itself_if_it_is_asked_to(
    tmp_path: Path, backend: FakeWandb, online: Environment
) -> None:
    for name, tracking in {"asked": {"log_model": "best"}, "not_asked": {}}.items():
        run = with_checkpoint(RunDirectory(tmp_path / name))
        write_config(run, tracking=tracking)
        attempted(run, online, 0, 10, state="complete")
    [model] = backend.artifacts
    assert (model.collection, sorted(model.files)) == ("asked-model", ["config.yaml", "step-00000010.ckpt"])
    assert model.files["step-00000010.ckpt"] == b"asked"
    [logged] = [stored for stored in backend.runs.values() if stored.display_name == "asked"]
    facts = json.loads(model.metadata or "")
    assert facts["run"] == "asked"
    assert facts["url"].endswith(f"/runs/{logged.id}")


@pytest.mark.slow
def test_sync_brings_the_best_model_of_a_study_that_has_ended(tmp_path: Path, backend: FakeWandb, environment: Environment) -> None:
    offline = {**environment, "WANDB_MODE": "offline"}
    env = {**environment, **backend.environment, "HARNESS_RUNS": str(tmp_path / "runs")}
    tracking = {"log_model": "best"}
    study = study_in(tmp_path / "runs", tracking=tracking, budget={"trials": 2})
    worse, best = (with_checkpoint(trial_in(study, number, tracking=tracking)) for number in range(2))
    attempted(worse, offline, 0, 10, state="complete")
    attempted(best, offline, 0, 20, state="complete")
    assert run_harness("sync", "question", cwd=tmp_path, env=env).rc == 0
    [model] = [artifact for artifact in backend.artifacts if artifact.type == "model"]
    assert (model.collection, sorted(model.aliases)) == ("question-0001-model", ["best", "latest"])
    assert model.files["step-00000010.ckpt"] == b"0001"
    facts = json.loads(model.metadata or "")
    # Of the trial, though it is logged to the run of the study.
    assert (facts["run"], facts["objective"]) == ("question/0001", 2 / 21)
    assert facts["url"].endswith(f"/runs/{identity_of_run(best).id}")


@pytest.mark.slow
def test_sync_brings_the_model_of_every_complete_trial_if_all_are_asked_for(
    tmp_path: Path, backend: FakeWandb, environment: Environment
) -> None:
    offline = {**environment, "WANDB_MODE": "offline"}
    env = {**environment, **backend.environment, "HARNESS_RUNS": str(tmp_path / "runs")}
    tracking = {"log_model": "all"}
    study = study_in(tmp_path / "runs", tracking=tracking, budget={"trials": 3})
    trials = [with_checkpoint(trial_in(study, number, tracking=tracking)) for number in range(3)]
    for run, state in zip(trials, ("complete", "complete", "failed"), strict=True):
        attempted(run, offline, 0, 10, state=state)
    assert run_harness("sync", "question", cwd=tmp_path, env=env).rc == 0
    models = {artifact.collection: artifact for artifact in backend.artifacts if artifact.type == "model"}
    assert {name: (sorted(model.files), json.loads(model.metadata or "")["run"]) for name, model in models.items()} == {
        f"question-{number:04d}-model": (["config.yaml", "step-00000010.ckpt"], f"question/{number:04d}") for number in range(2)
    }
    assert [models[f"question-{number:04d}-model"].files["step-00000010.ckpt"] for number in range(2)] == [b"0000", b"0001"]
    # None is called the best: that is what log_model=best does.
    assert all("best" not in model.aliases for model in models.values())
