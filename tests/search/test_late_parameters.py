"""Which parameters act late, seen from the configuration alone."""

from __future__ import annotations

from typing import Any

import pytest

from harness.search.late_parameters import LateParameters
from harness.search.load_sweep import load_sweep
from harness.search.sweep import Sweep
from tests.search.conftest import WriteSweep

BASE = ["schedule=wsd", "schedule.warmup=2", "trainer.max_steps=12"]
LATE: dict[str, Any] = {
    "schedule.decay_fraction": {"low": 0.1, "high": 0.5},
    "schedule.decay_shape": {"choices": ["linear", "1-sqrt"]},
    "schedule.floor": {"low": 0.0, "high": 0.2, "step": 0.1},
    "schedule.decay_replay_share": {"choices": [None, 0.5]},
}
EARLY: dict[str, Any] = {
    "optim.lr": {"choices": [1e-3, 1e-2]},
    "data.packing": {"choices": ["best_fit", "padded"]},
    "optim.eps": {"choices": [1e-8, 1e-6]},
    "schedule.warmup": {"choices": [2, 3]},
}


def swept(write_sweep: WriteSweep, space: dict[str, Any]) -> Sweep:
    base = [text for text in BASE if text.partition("=")[0] not in space]
    return load_sweep(str(write_sweep(base=base, space=space)), [])


def test_late_parameters_are_recognised(write_sweep: WriteSweep) -> None:
    sweep = swept(write_sweep, {**LATE, **EARLY})
    assert {parameter.key for parameter in LateParameters(sweep).parameters} == LATE.keys()


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({**LATE, **EARLY}, True),
        (LATE, True),
        ({**LATE, "optim.lr": {"low": 1e-4, "high": 1e-1, "log": True}}, False),
        ({"optim.lr": {"choices": [1e-3, 1e-2]}}, False),
    ],
)
def test_trunks_are_kept_where_trials_share_steps(space: dict[str, Any], expected: bool, write_sweep: WriteSweep) -> None:
    assert LateParameters(swept(write_sweep, space)).trials_share_steps is expected


def test_variants_are_the_longer_run_and_those_at_some_values_of_each_late_parameter(write_sweep: WriteSweep) -> None:
    sweep = swept(
        write_sweep, {"optim.lr": EARLY["optim.lr"], **{key: LATE[key] for key in ("schedule.decay_fraction", "schedule.decay_shape")}}
    )
    params = {"optim.lr": 1e-3, "schedule.decay_fraction": 0.2, "schedule.decay_shape": "linear"}
    assert LateParameters(sweep).variants(params, sweep.trial_config(params)) == [
        {"trainer.max_steps": 24},
        *({"schedule.decay_fraction": pytest.approx(value)} for value in (0.1, 0.3, 0.4, 0.5)),
        {"schedule.decay_shape": "1-sqrt"},
    ]


def test_choices_of_a_group_are_variants_with_all_that_they_bring(write_sweep: WriteSweep) -> None:
    space = {"schedule": {"choices": ["wsd", "cosine"]}, "schedule.decay_fraction": {"choices": [0.2, 0.4], "when": {"schedule": "wsd"}}}
    sweep = swept(write_sweep, space)
    params = {"schedule": "wsd", "schedule.decay_fraction": 0.4}
    found = LateParameters(sweep).variants(params, sweep.trial_config(params))
    assert {"schedule.decay_fraction": 0.2} in found
    assert {"schedule.name": "cosine", "schedule.decay_fraction": 0.2} in found
