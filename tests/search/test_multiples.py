"""Batches are whole rows, widths whole heads: what a search proposes between is moved; what never fits is refused before the start."""

from __future__ import annotations

import re
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.search.checks import advice
from harness.search.load_sweep import load_sweep
from harness.search.open_study import open_study
from harness.search.study import Claim, Study
from harness.search.sweep import Sweep
from tests.search.conftest import WriteSweep
from tests.search.studies import Attempt, config_of

pytestmark = pytest.mark.usefixtures("composed_once")
BATCH = {"low": 64, "high": 512, "log": True}
"""Of the base, data.context_length is 32 and trainer.batch_tokens 128."""


def sweep_of(write_sweep: WriteSweep, space: dict[str, Any], *overrides: str, **document: Any) -> Sweep:
    return load_sweep(str(write_sweep(space=space, base=list(overrides), **document)), [])


def rows(point: dict[str, Any]) -> float:
    return float(point["trainer.batch_tokens"] / point.get("data.context_length", 32) / point.get("trainer.micro_batch_size", 1))


@pytest.mark.parametrize(
    "space",
    [
        {"trainer.batch_tokens": BATCH},
        {"trainer.batch_tokens": {"low": 50, "high": 500}},
        {"trainer.batch_tokens": BATCH, "data.context_length": {"choices": [8, 24, 32]}},
        {"trainer.batch_tokens": BATCH, "data.context_length": {"low": 5, "high": 32}},
        {"trainer.batch_tokens": BATCH, "trainer.micro_batch_size": {"low": 1, "high": 5}, "data.context_length": {"choices": [8, 24]}},
    ],
    ids=["log", "linear", "context too", "a range of contexts", "micro-batches too"],
)
def test_batches_are_whole_rows(write_sweep: WriteSweep, space: dict[str, Any]) -> None:
    sweep = sweep_of(write_sweep, space)
    points = sweep.points(40)
    assert {rows(point) % 1 for point in points} == {0.0}
    low, high = sweep.space["trainer.batch_tokens"].bounds
    assert all(low <= point["trainer.batch_tokens"] <= high for point in points)
    assert len({rows(point) for point in points}) > 3, "all over the range"
    for point in points:
        sweep.trial_config(point)
    assert not [line for line in advice(sweep) if "not valid" in line]


SMALL_CONTEXTS = {"choices": [8, 16]}
"""Not the base's."""
SHORT_RUNS = ("trainer.max_steps=null", "trainer.max_tokens=2000")
"""Shorter than a batch of the schema's default."""


@pytest.mark.parametrize(
    "space",
    [
        {"data.context_length": SMALL_CONTEXTS, "trainer.batch_tokens": {"low": 16, "high": 24}},
        {"data.context_length": SMALL_CONTEXTS, "trainer.initial_batch_tokens": {"low": 16, "high": 24}},
        {
            "data.context_length": {**SMALL_CONTEXTS, "ordered": True},
            "trainer.micro_batch_size": {"low": 1, "high": 4},
            "trainer.batch_tokens": {"low": 64, "high": 100, "log": True},
        },
        {"data.context_length": {"low": 4, "high": 8}, "trainer.batch_tokens": {"low": 8, "high": 20}},
    ],
    ids=["batches", "initial batches", "micro-batches", "a range of contexts"],
)
def test_what_no_trial_has_does_not_refuse_what_all_may_have(write_sweep: WriteSweep, space: dict[str, Any]) -> None:
    """The base's context is not among those that are searched."""
    sweep = sweep_of(write_sweep, space, "trainer.batch_tokens=64", *SHORT_RUNS)
    for point in sweep.points(40):
        sweep.trial_config(point)


def test_a_base_that_is_no_run_without_it_is_completed_by_a_whole_batch(write_sweep: WriteSweep) -> None:
    """Runs are shorter than the base's batch, and the range's low end is no multiple of the context."""
    sweep = sweep_of(write_sweep, {"trainer.batch_tokens": {"low": 50, "high": 200, "log": True}}, *SHORT_RUNS)
    assert sweep.base.config.trainer.batch_tokens == 64
    assert {point["trainer.batch_tokens"] % 32 for point in sweep.points(20)} == {0}


@pytest.mark.parametrize("log", [True, False])
def test_multiples_of_both_are_the_same_on_either_scale(write_sweep: WriteSweep, log: bool) -> None:
    """The context is 32."""
    sweep = sweep_of(write_sweep, {"trainer.batch_tokens": {"low": 90, "high": 400, "log": log, "multiple_of": 48}})
    assert {point["trainer.batch_tokens"] for point in sweep.points(40)} == {96, 192, 288, 384}
    with pytest.raises(InputError, match=r"trainer\.batch_tokens=60 is not valid: .*must be a multiple of data\.context_length=32"):
        sweep_of(write_sweep, {"trainer.batch_tokens": {"low": 50, "high": 150, "log": log, "multiple_of": 60}})


def test_what_is_given_counts_where_it_is_not_searched(write_sweep: WriteSweep) -> None:
    sweep = sweep_of(write_sweep, {"trainer.batch_tokens": {**BATCH, "multiple_of": 48}}, "trainer.micro_batch_size=2")
    assert {point["trainer.batch_tokens"] for point in sweep.points(40)} == {192, 384}


def test_widths_are_whole_heads(write_sweep: WriteSweep) -> None:
    sweep = sweep_of(write_sweep, {"model.hidden_size": {"low": 16, "high": 96, "log": True}, "model.heads": {"choices": [1, 2, 3, 4]}})
    for point in sweep.points(40):
        assert point["model.hidden_size"] % (2 * point["model.heads"]) == 0
        sweep.trial_config(point)


@pytest.mark.parametrize("search", ["random", "tpe", "grid"])
def test_trials_have_what_is_valid_and_the_record_what_led_to_it(write_sweep: WriteSweep, search: str) -> None:
    space = {"trainer.batch_tokens": BATCH, "data.context_length": {"choices": [16, 32], "ordered": True}}
    sweep = sweep_of(write_sweep, space, search={"name": search, "startup_trials": 3}, budget={"trials": 8})
    study = Study(open_study(sweep), sweep, "w")
    seen = []
    while isinstance(claim := study.claim(), Claim):
        assert study.prepare(claim)
        config = config_of(claim.run)
        assert config["trainer"]["batch_tokens"] % config["data"]["context_length"] == 0
        seen.append((config["trainer"]["batch_tokens"], config["data"]["context_length"]))
        study.settle(claim, Attempt(claim.run).complete(1.0))
    assert len(seen) == 8
    if search == "grid":
        assert len(set(seen)) == 8, "points that moved to the same are one"


@pytest.mark.parametrize(
    ("space", "base", "said"),
    [
        (
            {"trainer.micro_batch_size": {"low": 1, "high": 4}},
            [],
            r"space\.trainer\.micro_batch_size: trainer\.micro_batch_size=3 is not valid: .*of those tried valid are 1, 2, 4",
        ),
        (
            {"trainer.batch_tokens": {"low": 100, "high": 120, "log": True}},
            [],
            r"space\.trainer\.batch_tokens: trainer\.batch_tokens=100 is not valid: .*must be a multiple of data\.context_length=32",
        ),
        (
            {"data.context_length": {"choices": [32, 1024]}},
            ["model.max_context=2048", "trainer.batch_tokens=512"],
            r"space\.data\.context_length: data\.context_length=1024 is not valid: .*must be a multiple of data\.context_length=1024",
        ),
    ],
    ids=["inside a range", "no multiple in it", "none beside a choice"],
)
def test_what_does_not_fit_is_found_before_the_start(write_sweep: WriteSweep, space: dict[str, Any], base: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        sweep_of(write_sweep, space, *base)


def test_what_seldom_goes_together_is_said_and_what_never_does_is_refused(write_sweep: WriteSweep) -> None:
    space = {"trainer.initial_batch_tokens": {"low": 64, "high": 128}, "trainer.batch_tokens": {"choices": [32, 64, 128]}}
    (line,) = [line for line in advice(sweep_of(write_sweep, space)) if "not valid" in line]
    assert re.match(r"\d+ of 16 points drawn from the space are not valid and would fail, e\.g\. trainer\.initial_batch_tokens=", line)
    never = {"trainer.initial_batch_tokens": {"low": 96, "high": 128}, "trainer.batch_tokens": {"choices": [32, 64]}}
    with pytest.raises(InputError, match=r"space: none of 16 points drawn from it is valid, e\.g\. .*at most trainer\.batch_tokens="):
        sweep_of(write_sweep, never)
