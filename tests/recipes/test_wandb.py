"""A recipe of a study that is tracked online goes to W&B, too."""

from __future__ import annotations

import json
import os
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import pytest

from tests.recipes.conftest import OWNER, SECRETS, Shared
from tests.support.fake_wandb import FakeWandb
from tests.tracking.attempts import forked

pytestmark = pytest.mark.slow


def test_its_bundle_is_an_artifact_of_the_studys_run(shared: Shared, tmp_path: Path) -> None:
    with FakeWandb() as backend:
        environment = {**backend.environment, "WANDB_MODE": "online", "WANDB_ERROR_REPORTING": "false"}
        done = shared.harness("--config-dir", tmp_path, "best", "question", "--export", "kept", "--json", env=environment)
        assert done.rc == 0, done
        [artifact] = backend.artifacts
    # In the account that the study names, to which its owner alone has the key.
    assert json.loads(done.stdout)["artifact"] == f"{OWNER}/harness/question-kept:v0"
    assert sorted(artifact.aliases) == ["kept", "latest"]
    assert {"bundle.json", "config.yaml", "sweep.yaml", "trials.parquet", "README.md"} <= set(artifact.files)
    said = b"".join(artifact.files.values()).lower()
    assert not [secret for secret in SECRETS if secret.lower().encode() in said]


def export_without_wandb(home: Path, environment: dict[str, str]) -> str:
    """What `harness best` says on stderr in this process, which does not wait for W&B as long as people would."""
    from harness.cli.best import best
    from harness.tracking import study_overview

    os.chdir(home)
    os.environ.update(environment)
    study_overview.INIT_SECONDS = 3.0
    # Not by its descriptor: that is the one of the server it was forked from, which may be older than a test's capture.
    with redirect_stderr(StringIO()) as said:
        best("question", export="kept")
    return said.getvalue()


def test_where_wandb_is_not_to_be_had_the_bundle_is_written_all_the_same(shared: Shared, tmp_path: Path) -> None:
    nowhere = {"WANDB_MODE": "online", "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "x" * 40, "WANDB_ERROR_REPORTING": "false"}
    environment = {**nowhere, "HARNESS_CONFIG_DIR": str(tmp_path), "HARNESS_RUNS": str(shared.home / "runs")}
    said = forked(export_without_wandb, shared.home, environment)
    assert "the bundle is written, but not in W&B" in said
    assert (tmp_path / "experiment/best/kept/bundle.json").is_file()
