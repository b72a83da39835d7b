"""Every sampler over one space: proposals depend on the seed, the number and the results, whoever asks and however often."""

from __future__ import annotations

import math
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.config.sweep_schema import SearchConfig
from harness.search.checks import check_sampler
from harness.search.grid import grid_points
from harness.search.open_study import open_study
from harness.search.space import parse_space
from harness.search.study import Claim, Study
from harness.search.sweep import Sweep
from tests.search.conftest import MakeSweep
from tests.search.studies import Attempt, alive, check_in_step, dying_before, objective_of
from tests.search.test_study import Killed, die, params_of, run_to_the_end

SAMPLERS = ["random", "qmc", "tpe", "gp", "cmaes", "grid"]
SPACE = {
    "optim.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "optim.weight_decay": {"low": 0.0, "high": 0.2, "step": 0.1},
    "schedule": {"choices": ["linear", "wsd"]},
    "schedule.decay_fraction": {"low": 0.1, "high": 0.5, "when": {"schedule": "wsd"}},
}


def study_of(make_sweep: MakeSweep, name: str, sampler: str, **search: Any) -> Sweep:
    sweep = make_sweep(name=name, budget={"trials": 8}, search={"name": sampler, "startup_trials": 3, **search})
    vars(sweep)["space"] = parse_space(SPACE)
    return sweep


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_study_searches_with_every_sampler_and_repeats_itself(make_sweep: MakeSweep, sampler: str) -> None:
    found = []
    for name in ("one", "two"):
        sweep = study_of(make_sweep, name, sampler)
        directory = open_study(sweep)
        for worker in range(2):  # the second one finds nothing left
            run_to_the_end(Study(directory, sweep, f"w{worker}"))
        runs = check_in_step(directory, ended=True).runs
        assert all(sweep.space[key].holds(value) for run in runs for key, value in run.params.items())
        assert all(("schedule.decay_fraction" in run.params) == (run.params["schedule"] == "wsd") for run in runs)
        found.append([run.params for run in runs])
    assert found[0] == found[1]
    assert len({str(params) for params in found[0]}) == 8


@pytest.mark.parametrize("sampler", ["qmc", "tpe", "gp", "cmaes"])
def test_a_proposal_that_was_half_made_is_completed_with_the_same_values(make_sweep: MakeSweep, sampler: str) -> None:
    found = []
    for write in (-1, 3, 4, 5):
        sweep = study_of(make_sweep, f"dies{write}", sampler)
        directory = open_study(sweep)
        study = Study(directory, sweep, "a")
        for _ in range(5):
            claim = study.claim()
            assert isinstance(claim, Claim)
            study.settle(claim, Attempt(claim.run).complete(objective_of(params_of(claim))))
        with suppress(Killed), alive(directory, "a"), dying_before(write, die):
            study.claim()
        answer = Study(directory, sweep, "b").claim()
        assert isinstance(answer, Claim)
        assert answer.number == 5
        found.append(params_of(answer))
    assert found[1:] == found[:-1]


@pytest.mark.parametrize("sampler", ["random", "qmc", "tpe", "gp", "cmaes"])
def test_arms_have_equal_numbers_of_trials_and_learn_from_their_own(make_sweep: MakeSweep, sampler: str) -> None:
    found = []
    for name, die_at in (("one", -1), ("two", 4)):
        sweep = study_of(make_sweep, name, sampler, arms="schedule")
        directory = open_study(sweep)
        with dying_before(die_at, die), suppress(Killed):
            Study(directory, sweep, "a").claim()
        run_to_the_end(Study(directory, sweep, "b"))
        runs = check_in_step(directory, ended=True).runs
        found.append([run.params for run in runs])
    assert found[0] == found[1]
    assert [params["schedule"] for params in found[0]] == ["linear", "wsd"] * 4
    if sampler == "qmc":
        quarters = {place: {int(4 * math.log(params["optim.lr"] / 1e-4, 1e3)) for params in found[0][place::2]} for place in (0, 1)}
        assert quarters == {0: {0, 1, 2, 3}, 1: {0, 1, 2, 3}}, "each arm is covered evenly"


@pytest.mark.parametrize(
    ("search", "trials", "said"),
    [
        ({"arms": "optim.lr"}, 8, r"search\.arms: unknown unconditional parameter of choices 'optim\.lr'.*schedule"),
        ({"arms": "schedule"}, 7, r"budget\.trials=7: .*2 arms.* valid: 6 or 8"),
        ({"arms": "schedule"}, None, r"budget\.trials=None: .*valid: 2"),
        ({"arms": "schedule", "name": "grid"}, 8, r"search\.arms=schedule: not with search\.name=grid"),
        ({"arms": "schedule", "warm_start": [{"optim.lr": 1e-3}]}, 8, r"search\.arms=schedule: not with search\.warm_start"),
    ],
)
def test_arms_that_could_not_be_equal_are_refused(search: dict[str, Any], trials: int | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_sampler(SearchConfig(**search), parse_space(SPACE), objectives=1, trials=trials)


def test_a_grid_has_every_combination_once_and_then_ends(make_sweep: MakeSweep) -> None:
    sweep = study_of(make_sweep, "grid", "grid", grid_values=2)
    sweep.config.budget.trials = None
    directory = open_study(sweep)
    run_to_the_end(Study(directory, sweep, "w"))
    params = [run.params for run in check_in_step(directory, ended=True).runs]
    wanted = [
        {"optim.lr": rate, "optim.weight_decay": decay, "schedule": schedule, **fraction}
        for rate in (1e-4, 1e-1)
        for decay in (0.0, 0.1, 0.2)
        for schedule, fraction in (("linear", {}), ("wsd", {"schedule.decay_fraction": 0.1}), ("wsd", {"schedule.decay_fraction": 0.5}))
    ]
    assert sorted(map(str, map(sorted, (p.items() for p in params)))) == sorted(map(str, map(sorted, (p.items() for p in wanted))))


def test_values_of_a_range_on_a_log_scale_are_evenly_spaced_in_logarithms() -> None:
    space = parse_space({"optim.lr": {"low": 1e-4, "high": 1e-2, "log": True}})
    assert sorted(point["optim.lr"] for point in grid_points(space, values_per_range=3, seed=0)) == pytest.approx([1e-4, 1e-3, 1e-2])


def test_qmc_covers_evenly(make_sweep: MakeSweep) -> None:
    sweep = study_of(make_sweep, "qmc", "qmc")
    directory = open_study(sweep)
    run_to_the_end(Study(directory, sweep, "w"))
    params = [run.params for run in check_in_step(directory, ended=True).runs]
    assert sum(point["schedule"] == "wsd" for point in params) == 4
    bounds = [1e-4, 10**-2.5, 1e-1]
    assert [sum(low <= point["optim.lr"] < high for point in params) for low, high in pairwise(bounds)] == [4, 4]


def test_cmaes_says_what_it_cannot_search() -> None:
    space = parse_space({"optim.lr": {"low": 1e-4, "high": 1e-2, "log": True}, "schedule": {"choices": ["wsd", "linear"]}})
    with pytest.raises(InputError, match=r"at least two unconditional ranges .* this space has optim.lr.*Valid: tpe, gp"):
        check_sampler(SearchConfig(name="cmaes"), space, objectives=1, trials=8)
    with pytest.raises(InputError, match=r"search.name=cmaes: takes one objective, there are 2"):
        check_sampler(SearchConfig(name="cmaes"), space, objectives=2, trials=8)
