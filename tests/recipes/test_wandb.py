"""A recipe of a study that is tracked online goes to W&B, too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.recipes.conftest import OWNER, SECRETS, Shared
from tests.support.fake_wandb import FakeWandb

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


def test_where_wandb_is_not_to_be_had_the_bundle_is_written_all_the_same(shared: Shared, tmp_path: Path) -> None:
    nowhere = {"WANDB_MODE": "online", "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "x" * 40, "WANDB_ERROR_REPORTING": "false"}
    done = shared.harness("--config-dir", tmp_path, "best", "question", "--export", "kept", env={**nowhere, "WANDB_INIT_TIMEOUT": "5"})
    assert done.rc == 0, done
    assert "the bundle is written, but not in W&B" in done.stderr
    assert (tmp_path / "experiment/best/kept/bundle.json").is_file()
