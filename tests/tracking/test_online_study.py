"""A whole sweep with real training, tracked online: what W&B shows of it when it has ended."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from harness.runs.directory import StudyDirectory
from harness.runs.result import read_result
from harness.tracking.identity import identity_of_run, identity_of_study
from tests.support.command import run_harness
from tests.support.corpus import TinyText
from tests.support.fake_wandb import FakeWandb


@pytest.mark.slow
def test_a_sweep_online_leaves_a_run_a_trial_and_one_of_the_study(
    tmp_path: Path, tiny_text: TinyText, backend: FakeWandb, online: dict[str, str]
) -> None:
    sweep = {
        "base": [override for override in tiny_text.overrides if override != "tracking=none"],
        "objective": {"metric": "val/domain/loss", "direction": "minimize"},
        "space": {"optim.lr": {"low": 1e-4, "high": 1e-1, "log": True}},
        "search": "random",
        "budget": {"trials": 2},
    }
    (tmp_path / "question.yaml").write_text(yaml.safe_dump(sweep))
    done = run_harness("sweep", "question.yaml", "--workers", "1", cwd=tmp_path, env=online, timeout_seconds=300)
    assert done.rc == 0, done

    study = StudyDirectory(tmp_path / "runs" / "question")
    trials = list(study.trials())
    assert {key[2] for key in backend.runs} == {identity_of_study(study).id, *(identity_of_run(trial).id for trial in trials)}
    for trial in trials:
        run, result = backend.runs[backend.entity, "harness", identity_of_run(trial).id], read_result(trial)
        assert (run.group, run.job_type, run.tags, run.state) == ("question", "trial", ["question", "random"], "finished")
        assert run.config["optim"]["lr"] == yaml.safe_load(trial.config.read_text())["optim"]["lr"]
        assert [row["_step"] for row in run.rows] == [row["step"] for row in trial.metrics.rows()]
        assert (run.summary["objective"], run.summary["state"], run.summary["tokens"]) == (
            result.objective,
            "complete",
            result.tokens.trained,
        )
    whole = backend.runs[backend.entity, "harness", identity_of_study(study).id]
    assert (whole.group, whole.job_type, whole.state) == ("question", "study", "finished")
    assert [row["_step"] for row in whole.rows] == [1, 2]
    assert whole.summary["best/objective"] == min(read_result(trial).objective or 0 for trial in trials)
    assert {artifact.collection for artifact in backend.artifacts} >= {"question-sweep", "question-report"}
    assert not list(study.path.glob("wandb/*run-*")), "the client's own files of it are of no use"


@pytest.mark.slow
def test_bad_data_are_no_run_in_wandb(tmp_path: Path, tiny_text: TinyText, backend: FakeWandb, online: dict[str, str]) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": 3}\n')
    overrides = [override for override in tiny_text.overrides if override != "tracking=none"]
    done = run_harness("train", *overrides, f"data.sources.domain.path={tmp_path}/bad.jsonl", cwd=tmp_path, env=online)
    assert done.rc == 2
    assert "bad.jsonl, line 1" in done.stderr
    assert "W&B" not in done.stderr
    assert backend.runs == {}


@pytest.mark.slow
def test_a_sweep_says_once_that_wandb_is_off(tmp_path: Path, tiny_text: TinyText, backend: FakeWandb, environment: dict[str, str]) -> None:
    sweep = {
        "base": [override for override in tiny_text.overrides if override != "tracking=none"],
        "objective": {"metric": "val/domain/loss", "direction": "minimize"},
        "space": {"optim.lr": {"low": 1e-4, "high": 1e-1, "log": True}},
        "search": "random",
        "budget": {"trials": 2},
    }
    (tmp_path / "question.yaml").write_text(yaml.safe_dump(sweep))
    # Without a key the client cannot begin.
    nobody = {**environment, "WANDB_MODE": "online", "WANDB_BASE_URL": backend.environment["WANDB_BASE_URL"]}
    done = run_harness("sweep", "question.yaml", "--workers", "1", cwd=tmp_path, env=nobody, timeout_seconds=300)
    assert done.rc == 0, done
    (said,) = [line for line in done.stderr.splitlines() if "W&B was off" in line]
    assert said.startswith("question: W&B was off since question/0000: ")
    assert "`harness sync question`" in said
    assert run_harness("sync", "question", cwd=tmp_path, env={**environment, **backend.environment}).rc == 0
    assert not StudyDirectory(tmp_path / "runs/question").wandb_off.exists()
