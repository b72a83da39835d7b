"""The study's own W&B run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.runs.directory import StudyDirectory
from harness.tracking.identity import identity_of_study
from harness.tracking.study_overview import log_directory
from tests.support.fake_wandb import FakeWandb
from tests.tracking.attempts import forked
from tests.tracking.studies import study_in

Environment = dict[str, str]


def log_bundle(directory: Path, environment: Environment) -> str | None:
    os.environ.update(environment)
    return log_directory(StudyDirectory(directory), directory / "bundle", name="recipe", kind="bundle", aliases=["best"])


@pytest.mark.slow
def test_a_directory_becomes_an_artifact_of_the_studys_run_and_a_new_version_only_when_it_changed(
    tmp_path: Path, backend: FakeWandb, online: Environment
) -> None:
    study = study_in(tmp_path)
    (study.path / "bundle" / "plots").mkdir(parents=True)
    (study.path / "bundle" / "README.md").write_text("read me")
    (study.path / "bundle" / "plots" / "a.svg").write_text("<svg/>")
    assert forked(log_bundle, study.path, online) == f"{backend.entity}/harness/recipe:v0"
    assert forked(log_bundle, study.path, online) == f"{backend.entity}/harness/recipe:v0"
    (study.path / "bundle" / "README.md").write_text("read me again")
    assert forked(log_bundle, study.path, online) == f"{backend.entity}/harness/recipe:v1"
    first, second = backend.artifacts
    assert first.files == {"README.md": b"read me", "plots/a.svg": b"<svg/>"}
    assert sorted(second.aliases) == ["best", "latest"]
    [run] = backend.runs.values()
    assert (run.id, run.job_type, run.group, run.tags) == (identity_of_study(study).id, "study", "question", ["question", "tpe"])
    assert run.config["sweep"]["name"] == "question"


def test_a_study_that_is_not_tracked_online_gets_no_artifact(tmp_path: Path, environment: Environment) -> None:
    study = study_in(tmp_path)
    assert forked(log_bundle, study.path, {**environment, "WANDB_MODE": "offline"}) is None
    assert list(study.path.iterdir()) == [study.sweep]
