"""trial.json as studies of older harnesses have left it."""

from __future__ import annotations

import json
from pathlib import Path

from harness.runs.directory import RunDirectory
from harness.runs.place import Place
from harness.runs.trial import ClaimedBy, Trial, read_trial, write_trial

CLAIM = ClaimedBy(worker="node-1-ab", place=Place(node="node", job="12_3", restart=1), began=7.0)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    run, trial = RunDirectory(tmp_path), Trial(number=3, params={"optim.lr": 0.1}, tokens=512, claims=[CLAIM])
    assert read_trial(run) is None
    write_trial(run, trial)
    assert read_trial(run) == trial


def test_claims_are_read_under_their_former_name(tmp_path: Path) -> None:
    visit = {"worker": "node-1-ab", "place": {"node": "node", "job": "12_3", "restart": 1}, "began": 7.0}
    (tmp_path / "trial.json").write_text(json.dumps({"number": 3, "params": {}, "tokens": 512, "visits": [visit]}))
    found = read_trial(RunDirectory(tmp_path))
    assert found == Trial(number=3, params={}, tokens=512, claims=[CLAIM])
