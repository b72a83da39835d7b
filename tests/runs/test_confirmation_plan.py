"""The plan of a confirmation, as W&B holds it."""

import json
from dataclasses import asdict

import pytest

from harness.runs.confirmation_plan import ConfirmationPlan, plan_of

PLAN = ConfirmationPlan(study="question", launched="2026-11-27T02:00:00", first_seed=1, runs=[{"candidate": 3, "seed": 1}])


def test_a_plan_is_read_back_whatever_a_later_version_adds() -> None:
    assert plan_of(json.dumps(asdict(PLAN))) == PLAN
    assert plan_of(json.dumps({**asdict(PLAN), "paired": True})) == PLAN


@pytest.mark.parametrize("held", [None, 3, "", "no JSON", "[]", "{}", json.dumps({**asdict(PLAN), "runs": [{"candidate": "third"}]})])
def test_what_is_no_plan_is_none(held: object) -> None:
    assert plan_of(held) is None
