"""A recipe of a study that is tracked online goes to W&B, too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.recipes.conftest import SECRETS, Shared
from tests.support.fake_wandb import FakeWandb

pytestmark = pytest.mark.slow


@pytest.fixture
def online(shared: Shared) -> Iterator[Shared]:
    """The study as it would be if its owner had not named an account of his own."""
    sweep = shared.home / "runs/question/sweep.yaml"
    frozen = yaml.safe_load(sweep.read_text())
    frozen["base"] = [text for text in frozen["base"] if not text.startswith("tracking.")]
    frozen["config"]["tracking"] |= {"entity": None, "tags": []}
    before = sweep.read_text()
    sweep.write_text(yaml.safe_dump(frozen))
    configs = {path: path.read_text() for path in (shared.home / "runs/question").glob("trials/*/config.yaml")}
    for path, text in configs.items():
        config = yaml.safe_load(text)
        config["tracking"] |= {"entity": None, "tags": []}
        path.write_text(yaml.safe_dump(config))
    yield shared
    sweep.write_text(before)
    for path, text in configs.items():
        path.write_text(text)


def test_its_bundle_is_an_artifact_of_the_studys_run(online: Shared, tmp_path: Path) -> None:
    with FakeWandb() as backend:
        environment = {**backend.environment, "WANDB_MODE": "online", "WANDB_ERROR_REPORTING": "false"}
        done = online.harness("--config-dir", tmp_path, "best", "question", "--export", "kept", "--json", env=environment)
        assert done.rc == 0, done
        [artifact] = backend.artifacts
    assert json.loads(done.stdout)["artifact"] == f"{backend.entity}/harness/question-kept:v0"
    assert sorted(artifact.aliases) == ["kept", "latest"]
    assert {"bundle.json", "config.yaml", "sweep.yaml", "trials.parquet", "README.md"} <= set(artifact.files)
    said = b"".join(artifact.files.values()).lower()
    assert not [secret for secret in SECRETS if secret.lower().encode() in said]


def test_where_wandb_is_not_to_be_had_the_bundle_is_written_all_the_same(online: Shared, tmp_path: Path) -> None:
    nowhere = {"WANDB_MODE": "online", "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_API_KEY": "x" * 40, "WANDB_ERROR_REPORTING": "false"}
    done = online.harness("--config-dir", tmp_path, "best", "question", "--export", "kept", env={**nowhere, "WANDB_INIT_TIMEOUT": "5"})
    assert done.rc == 0, done
    assert "the bundle is written, but not in W&B" in done.stderr
    assert (tmp_path / "experiment/best/kept/bundle.json").is_file()
