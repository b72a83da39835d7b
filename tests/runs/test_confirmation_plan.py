"""The plan of a confirmation, as W&B holds it."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from harness.config.documents import DamagedError
from harness.runs.confirmation_plan import ConfirmationPlan, plan_of, read_plan, write_plan
from harness.runs.directory import StudyDirectory

PLAN = ConfirmationPlan(study="question", launched="2026-11-27T02:00:00", first_seed=1, runs=[{"candidate": 3, "seed": 1}])


def test_a_plan_is_read_back_whatever_a_later_version_adds() -> None:
    assert plan_of(json.dumps(asdict(PLAN))) == PLAN
    assert plan_of(json.dumps({**asdict(PLAN), "paired": True})) == PLAN


@pytest.mark.parametrize("held", [None, 3, "", "no JSON", "[]", "{}", json.dumps({**asdict(PLAN), "runs": [{"candidate": "third"}]})])
def test_what_is_no_plan_is_none(held: object) -> None:
    assert plan_of(held) is None


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    directory = StudyDirectory(tmp_path)
    assert read_plan(directory) is None
    write_plan(directory, PLAN)
    assert read_plan(directory) == PLAN


@pytest.mark.parametrize(
    "runs",
    [
        {"candidate": 3},
        [{"candidate": 3, "seed": []}],
        [{"candidate": 3}],
        [{"candidate": "../../x", "seed": 1}],
        [{"candidate": 3, "seed": 1}, {"candidate": 3, "seed": 2}, {"candidate": 4, "seed": 1}],
        [{"candidate": 3, "seed": 1}, {"candidate": 3, "seed": 1}],
    ],
)
def test_a_damaged_plan_is_named(tmp_path: Path, runs: object) -> None:
    (tmp_path / "confirmation.json").write_text(json.dumps({**asdict(PLAN), "runs": runs}))
    with pytest.raises(DamagedError, match=r"confirmation\.json: damaged"):
        read_plan(StudyDirectory(tmp_path))
