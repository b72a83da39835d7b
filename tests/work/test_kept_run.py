"""Runs that a command needs on its way: which of them have ended, and what is said of the others."""

from __future__ import annotations

from pathlib import Path

import pytest

import harness
from harness.config.load import load
from harness.config.validate import to_plain
from harness.runs.directory import RunDirectory
from harness.runs.files import write_json, write_yaml
from harness.work.kept_run import kept_run


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("complete", None),
        ("pruned", None),
        ("failed", r"run: failed: no room; valid: the same command again when the cause is removed"),
        ("waiting", r"run: no room; the same command goes on"),
    ],
)
def test_what_a_callback_ended_has_ended(state: str, said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, run = load(["experiment=evaluate", "model.path=nowhere"], checked_by=lambda config: None).config, RunDirectory(tmp_path / "run")
    write_yaml(run.config, to_plain(config))
    write_json(run.result, {"state": state, "reason": "no room"})
    monkeypatch.setattr("harness.work.kept_run.continue_run", lambda run: None)
    if said is None:
        assert kept_run(config, run).state == state
        return
    with pytest.raises(harness.UnfinishedError, match=said):
        kept_run(config, run)
