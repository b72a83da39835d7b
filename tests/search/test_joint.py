"""The model of all rungs, and what it has a trunk search do: as functions of numbers."""

from __future__ import annotations

import dataclasses
import math
import random
from typing import Any

import numpy as np
import pytest

from harness.search.cube import Cube
from harness.search.joint import ALIKE, Prices, joint_proposals
from harness.search.space import parse_space
from harness.search.surrogate import Hyperparameters, Places, Surrogate, _between, _density, fit
from harness.search.trunk_search import Proposal, Rungs, TrialSummary

GROUPS = np.arange(2)
SPACE = parse_space(
    {
        "optim.lr": {"low": 1e-4, "high": 1e-1, "log": True},
        "data.packing": {"choices": ["best_fit", "concat"]},
        "schedule.decay_fraction": {"low": 0.1, "high": 0.5},
    }
)
LENGTHS = (100, 300, 900)
RUNGS = Rungs(LENGTHS, "trainer.max_steps", 3, 4, late=(SPACE["schedule.decay_fraction"],))


def observed(count: int) -> tuple[Places, np.ndarray[Any, Any]]:
    """Runs of a smooth function whose optimum in the first dimension shifts with the length."""
    generator = np.random.default_rng(0)
    x, s = generator.random((count, 2)), generator.choice([1.0, 0.5, 0.0], count, p=[0.7, 0.2, 0.1])
    return apart(x, s), truth(x, s)


def apart(x: Any, s: Any) -> Places:
    """Each run on a trunk of its own."""
    return Places(x, s, np.arange(len(s)))


def truth(x: Any, s: Any) -> Any:
    return 2 + 1.2 * s + 3 * (x[:, 0] - 0.5 - 0.2 * s) ** 2 + 0.3 * x[:, 1]


def model(count: int = 60) -> Surrogate:
    places, values = observed(count)
    return Surrogate(places, values, GROUPS, fit(places, values, GROUPS))


def test_the_gradient_is_that_of_the_density() -> None:
    places, values = observed(20)
    places = dataclasses.replace(places, trunk=np.arange(20) // 3)
    squares = np.stack([(places.x[:, None, d] - places.x[None, :, d]) ** 2 for d in range(2)])
    theta = np.log([0.4, 0.6, 1.1, 0.5, 0.2, 0.1])
    fixed = (values, squares, *_between(places, places), places.noise_correlation)
    _, gradient = _density(theta, *fixed)
    for index in range(len(theta)):
        step = np.eye(len(theta))[index] * 1e-5
        above, below = (_density(theta + sign * step, *fixed)[0] for sign in (1, -1))
        assert gradient[index] == pytest.approx((above - below) / 2e-5, rel=1e-4, abs=1e-6)


def test_short_runs_foretell_full_ones_although_the_optimum_shifts() -> None:
    x = np.random.default_rng(1).random((200, 2))
    mean, deviation = model().predict(apart(x, np.zeros(200)))
    error = np.abs(mean - truth(x, 0.0))
    assert error.mean() < 0.03
    assert (error < 3 * deviation).mean() > 0.95


def test_a_longer_run_resolves_more_and_an_expected_one_leaves_less_to_resolve() -> None:
    x = np.random.default_rng(2).random((50, 2))
    shares = [model().resolved(apart(x, np.full(50, s))).mean() for s in (1.0, 0.5, 0.0)]
    assert shares[0] < shares[1] < shares[2]
    place = apart(x[:1], np.zeros(1))
    expecting = model().expecting(place)
    assert expecting.predict(place)[1] < model().predict(place)[1]
    assert expecting.predict(place)[0] == pytest.approx(model().predict(place)[0], rel=1e-3)


def test_runs_that_share_a_trunk_share_its_noise() -> None:
    """A dozen decays of one trunk say little more of their place than one of them, and one more says nothing."""
    count = 12
    x, s, values = np.column_stack([np.full(count, 0.5), np.linspace(0.4, 0.6, count)]), np.zeros(count), np.linspace(2.0, 2.1, count)
    held = Hyperparameters(np.array([0.5, 2.0]), amplitude=1.0, slope=0.16, remainder=0.01, noise=0.09)
    place = Places(np.array([[0.5, 0.5]]), np.zeros(1), np.zeros(1, dtype=np.int64))
    deviation, resolved = [], []
    for trunk in (np.arange(count), np.zeros(count, dtype=np.int64)):
        known = Surrogate(Places(x, s, trunk), values, GROUPS, held)
        deviation.append(float(known.predict(place)[1][0]))
        resolved.append(float(known.resolved(place)[0]))
    noise = 0.3 * values.std()
    assert deviation[0] < 0.35 * noise
    assert deviation[1] > 0.8 * noise
    assert resolved[1] < 0.05
    elsewhere = dataclasses.replace(place, trunk=np.array([count]))
    assert known.resolved(elsewhere)[0] > 5 * resolved[1]


def test_points_lie_in_the_cube_and_near_ones_in_the_space() -> None:
    space = parse_space(
        {**{"schedule": {"choices": ["wsd", "cosine"]}}, "schedule.decay_fraction": {"low": 0.1, "high": 0.5, "when": {"schedule": "wsd"}}}
    )
    cube, generator = Cube(space), random.Random(0)
    points = [cube.drawn(generator) for _ in range(30)]
    points += [cube.near(point, generator, 0.1) for point in points]
    assert cube.encoded(points).min() >= 0
    assert cube.encoded(points).max() <= 1
    for point in points:
        assert set(point) == ({"schedule", "schedule.decay_fraction"} if point["schedule"] == "wsd" else {"schedule"})
    given = {"schedule": "wsd", "schedule.decay_fraction": 0.2}
    varied = cube.drawn(generator, given, ["schedule.decay_fraction"])
    assert varied["schedule"] == "wsd"
    assert varied["schedule.decay_fraction"] != 0.2


def loss(params: dict[str, Any], rung: int) -> float:
    distance = math.log10(params["optim.lr"]) + 2.3
    return 2 + 0.5 * (2 - rung) + 0.3 * distance**2 + (0.1 if params["data.packing"] == "concat" else 0.0)


def forgotten(params: dict[str, Any], rung: int) -> float:
    """Beyond the bound; grows with the length, so that the best of a short rung break it at full length."""
    return math.log10(params["optim.lr"]) + 2.5 + 0.15 * rung


def searched(trials: int) -> list[TrialSummary]:
    """A search by one worker."""
    cube, seen, generator = Cube(SPACE), list[TrialSummary](), random.Random(0)
    prices = Prices(LENGTHS, {}, lambda params: 1 - params["schedule.decay_fraction"])
    for number in range(trials):
        proposal = Proposal(0, params=cube.drawn(generator))
        if number >= 8:
            proposal = next(joint_proposals(RUNGS, cube, seen, 0, prices))
        assert proposal.params is not None
        margin = forgotten(proposal.params, proposal.rung)
        value = (max(0.0, margin), loss(proposal.params, proposal.rung))
        seen.append(TrialSummary(number, proposal.rung, proposal.parent, proposal.params, "complete", value, (margin,)))
    return seen


@pytest.fixture(scope="module")
def seen() -> list[TrialSummary]:
    return searched(24)


def test_few_runs_find_the_best_that_holds_the_constraint_at_full_length(seen: list[TrialSummary]) -> None:
    full = [trial for trial in seen if trial.rung == RUNGS.last]
    assert 3 <= len(full) <= len(seen) / 2
    best = min(trial.loss for trial in full)
    assert best[0] == 0.0
    # At the bound: log10(lr) = -2.8.
    assert best[1] == pytest.approx(2 + 0.3 * 0.5**2, abs=0.03)


def test_what_goes_on_keeps_its_trunk_and_what_is_new_begins_below(seen: list[TrialSummary]) -> None:
    for trial in seen:
        if trial.parent is None:
            assert trial.rung == 0
            continue
        parent = seen[trial.parent]
        assert {key: trial.params[key] for key in ("optim.lr", "data.packing")} == {
            key: parent.params[key] for key in ("optim.lr", "data.packing")
        }
        assert parent.rung < trial.rung or (parent.rung == trial.rung == RUNGS.last and parent.params != trial.params)


def test_decays_of_a_trunk_that_make_nearly_the_same_steps_are_not_run(seen: list[TrialSummary]) -> None:
    cube, prices = Cube(SPACE), Prices(LENGTHS, {}, lambda params: 1 - params["schedule.decay_fraction"])
    offered = [(one.rung, one.params) for seed in range(5) for one in joint_proposals(RUNGS, cube, seen, seed, prices)]
    run_on = {(trial.rung, trial.params["optim.lr"]) for trial in seen if trial.rung > 0}
    again = [(rung, params) for rung, params in offered if params is not None and (rung, params["optim.lr"]) in run_on]
    assert again, "other decays of trunks that have come as far"
    for rung, params in again:
        alike = [trial.params for trial in seen if trial.rung == rung and trial.params["optim.lr"] == params["optim.lr"]]
        near = np.abs(cube.encoded(alike) - cube.encoded([params])).max(axis=1)
        assert min(near) >= ALIKE


def test_what_goes_first_is_a_trunk_that_goes_on_and_no_further_decay() -> None:
    """Full length is below its share, and one trunk has come there: its decays are cheap, and tell little of other trunks."""
    cube, prices = Cube(SPACE), Prices(LENGTHS, {2: [540]}, lambda params: 1 - params["schedule.decay_fraction"])
    generator = random.Random(1)
    seen = []
    for number in range(8):
        params = {**cube.drawn(generator), "optim.lr": 1.2e-3 * 1.02**number, "schedule.decay_fraction": 0.4}
        for rung in range(3 if number == 0 else 2):
            value, margin = loss(params, rung), forgotten(params, rung)
            parent = len(seen) - 1 if rung else None
            seen.append(TrialSummary(len(seen), rung, parent, params, "complete", (max(0.0, margin), value), (margin,)))
    first = next(joint_proposals(RUNGS, cube, seen, 0, prices))
    assert first.parent is not None
    assert first.rung == RUNGS.last
    assert seen[first.parent].rung < RUNGS.last


def test_a_branch_costs_what_its_trunk_has_not_trained() -> None:
    params = {"optim.lr": 1e-3, "data.packing": "concat", "schedule.decay_fraction": 0.2}
    trunk = [TrialSummary(7, 1, None, params, "complete")]
    prices = Prices(LENGTHS, {7: [80, 240]}, lambda params: 1 - params["schedule.decay_fraction"])
    assert prices.of(params, 2) == 900
    assert prices.of(params, 2, trunk) == 660
    assert prices.of(params, 1, trunk) == 60
    assert prices.of({**params, "schedule.decay_fraction": 0.5}, 1, trunk) == 220
    cosine = Prices(LENGTHS, {7: [80, 240]}, lambda params: 0.0)
    assert cosine.of(params, 2, trunk) == 900
