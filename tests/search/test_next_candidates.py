"""Which trials a confirmation goes on with, over studies whose training costs nothing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from harness.report.confirmation_table import verdict
from harness.runs.confirmation_plan import read_plan
from harness.runs.directory import StudyDirectory
from harness.runs.fresh_seeds import shifts
from harness.runs.record import StudyRecord, load_study
from harness.runs.result import Result, write_result
from harness.runs.trial import Trial, write_trial
from harness.search.confirm import open_confirmation
from harness.search.next_candidates import OWN, REACH, expected_shifts, next_round, to_try_next
from harness.search.open_study import open_study
from harness.search.space import parse_space
from harness.search.warm_start import Start
from harness.work.confirm import confirm_in_rounds
from tests.search.conftest import MakeSweep
from tests.search.studies import METRICS, run_all

pytestmark = pytest.mark.usefixtures("composed_once")
FORGETTING = "val/general/forgetting"
BOUND = 0.2


@dataclasses.dataclass(frozen=True)
class Point:
    """A trial, and what it comes to."""

    at: float
    """Where its rate lies in the range, from 0 to 1."""
    loss: float
    forgetting: float
    """With the search's seed."""
    shift: float = 0.0
    """What fresh seeds add to that."""


@pytest.fixture
def searched(make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Callable[..., StudyRecord]:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))

    def search(points: Sequence[Point], bound: float | None = BOUND, name: str = "study", **asked: float) -> StudyRecord:
        constraints = {} if bound is None else {FORGETTING: {"max": bound, **asked}}
        sweep = make_sweep(name=name, constraints=constraints, budget={"trials": len(points)})
        start = Start([{"optim.lr": 10 ** (3 * point.at - 4), "schedule": "linear"} for point in points])
        directory = open_study(dataclasses.replace(sweep, start=start))
        run_all(directory, lambda trial: points[trial.number].loss)
        for run in load_study(directory).runs:
            point = points[run.number or 0]
            metrics = {**run.result.metrics, FORGETTING: point.forgetting}
            write_result(
                run.directory, dataclasses.replace(run.result, metrics=metrics, feasible=bound is None or point.forgetting <= bound)
            )
        return load_study(directory)

    return search


def confirmed(study: StudyRecord, points: Sequence[Point], **options: Any) -> StudyRecord:
    """With every run of its confirmation ended."""
    directory = open_confirmation(load_study(study.directory), seeds=2, workers=1, **options)
    plan = read_plan(directory)
    assert plan is not None
    for number, planned in enumerate(plan.runs):
        point, seed = points[planned["candidate"]], planned["seed"]
        metrics = {**METRICS, "val/domain/loss": point.loss, FORGETTING: point.forgetting + point.shift + (0.01 if seed % 2 else -0.01)}
        write_trial(directory.trial(number), Trial(number=number, params={}, tokens=1))
        write_result(directory.trial(number), Result(state="complete", metrics=metrics, objective=point.loss))
    return load_study(study.directory)


def test_what_fresh_seeds_add_is_expected_of_near_configurations_and_not_of_those_further_off() -> None:
    space = parse_space({"optim.lr": {"low": 1e-4, "high": 1e-1, "log": True}, "seed": {"low": 0, "high": 9}})
    places = (0.0, 0.2, 0.4, 1.0)
    points = [{"optim.lr": 10 ** (3 * at - 4), "seed": seed} for seed, at in enumerate(places)]
    found = expected_shifts(space, [(points[0], 0.05)], points)
    assert found == pytest.approx([0.05 / (1 + OWN) * math.exp(-(at**2) / (2 * REACH**2)) for at in places])
    assert found == pytest.approx([0.0455, 0.0401, 0.0276, 0.0020], abs=1e-4)
    # Between two that differ it passes from one to the other.
    assert expected_shifts(space, [(points[0], 0.05), (points[2], 0.01)], points) == pytest.approx(
        [0.0442, 0.0310, 0.0123, -0.0049], abs=1e-4
    )


def test_where_fresh_seeds_push_the_best_over_a_constraint_it_goes_on_with_the_best_that_keep_the_distance(
    searched: Callable[..., StudyRecord],
) -> None:
    points = [
        Point(0.0, 2.20, 0.19, 0.05),
        Point(0.1, 2.21, 0.17, 0.05),
        Point(0.4, 2.22, 0.165, 0.02),
        Point(1.0, 2.23, 0.19),
        Point(0.9, 2.24, 0.12),
    ]
    study = searched(points)
    record = confirmed(study, points, top=1)
    assert record.confirmed is None
    assert shifts(record) == {FORGETTING: pytest.approx(0.05)}
    assert to_try_next(record, 5) == [2, 3, 4], "1 is too near to what broke it; 2 and 3 would break it with the shift of 0"
    assert to_try_next(record, 2) == [2, 3]
    said = " ".join(verdict(record))
    assert f"{FORGETTING} is 0.05 more over these seeds" in said
    assert f"harness confirm {record.name} --rounds 2` goes on" in said, "one was tried: three a round leave room for five more"

    later = confirmed(study, points, top=1, trials=to_try_next(record, 1))
    assert later.confirmation is not None
    assert later.confirmation.plan.candidates == [0, 2], "those of before stay"
    assert later.confirmed is not None
    assert later.confirmed.number == 2
    assert to_try_next(later, 3) == [], "1 is not expected to hold, and nothing else was better in the search than what is confirmed"


def test_where_trials_are_named_no_others_are_run(searched: Callable[..., StudyRecord]) -> None:
    points = [Point(0.0, 2.20, 0.19, 0.05), Point(0.9, 2.21, 0.12), Point(1.0, 2.22, 0.12)]
    study = searched(points)

    def train(record: StudyRecord, directory: StudyDirectory) -> bool:
        plan = read_plan(directory)
        assert plan is not None
        confirmed(record, points, top=1, trials=plan.candidates)
        return True

    named = confirm_in_rounds(study, train, top=3, seeds=2, trials=[0])
    assert named.confirmation is not None
    assert named.confirmation.plan.candidates == [0]
    assert to_try_next(named, 3) == [1, 2], "there are some"


def test_what_was_better_in_the_search_than_the_winner_is_tried_although_there_is_one(searched: Callable[..., StudyRecord]) -> None:
    points = [Point(0.0, 2.20, 0.19, 0.05), Point(0.5, 2.21, 0.15, 0.01), Point(1.0, 2.22, 0.1)]
    study = searched(points)
    record = confirmed(study, points, trials=[0, 2], top=1)
    assert record.confirmed is not None
    assert record.confirmed.number == 2
    assert to_try_next(record, 3) == [1]


def test_a_round_keeps_to_the_number_of_candidates(searched: Callable[..., StudyRecord]) -> None:
    points = [Point(0.0, 2.20, 0.19, 0.05), *(Point(0.6 + 0.1 * n, 2.21 + 0.01 * n, 0.12) for n in range(4))]
    study = searched(points)
    assert next_round(study, each=2, most=4) == [], "nothing is confirmed yet"
    open_confirmation(study, top=1, seeds=2, workers=1)
    assert next_round(load_study(study.directory), each=2, most=4) == [], "its runs have not ended"
    record = confirmed(study, points, top=1)
    assert [next_round(record, each=each, most=most) for each, most in [(2, 4), (3, 3), (1, 4), (1, 1), (3, 0)]] == [
        [1, 2],
        [1, 2],
        [1],
        [],
        [],
    ]


def test_a_trial_that_broke_a_constraint_with_the_seed_of_the_search_may_be_one_to_try(searched: Callable[..., StudyRecord]) -> None:
    points = [Point(0.0, 2.20, 0.19, -0.05), Point(0.1, 2.10, 0.22), Point(1.0, 2.15, 0.22)]
    record = confirmed(searched(points), points, top=1)
    assert record.confirmed is not None
    assert to_try_next(record, 3) == [1]


def test_without_constraints_there_is_nothing_to_go_on_with(searched: Callable[..., StudyRecord]) -> None:
    points = [Point(0.0, 2.20, 0.1), Point(0.5, 2.21, 0.1)]
    record = confirmed(searched(points, bound=None), points, top=1)
    assert to_try_next(record, 3) == []
    assert next_round(record, each=1, most=3) == []


def test_with_a_chance_a_bound_is_met_by_a_distance_that_the_scatter_of_the_seeds_asks_for(searched: Callable[..., StudyRecord]) -> None:
    points = [Point(0.0, 2.20, 0.19), Point(0.5, 2.21, 0.17), Point(1.0, 2.22, 0.12)]
    on_average = confirmed(searched(points), points, top=1)
    assert on_average.confirmed is not None
    assert on_average.confirmed.number == 0
    record = confirmed(searched(points, name="sure", chance=0.9), points, top=1)
    assert record.confirmed is None
    assert record.confirmation is not None
    assert record.confirmation.candidates[0].chances[FORGETTING].mean == pytest.approx(0.6667, abs=1e-4), "t of one degree at 1 / sqrt(3)"
    alone = "its one candidate does not come through every seed and meet the constraints with the chance that is asked for"
    assert verdict(record)[0] == f"not confirmed: {alone}"
    # Two seeds, 0.02 apart: t(0.9; 1) * 0.01414 * sqrt(1 + 1/2) is 0.0533.
    assert record.confirmation.bounds_of_means == {FORGETTING: {"max": pytest.approx(BOUND - 0.0533, abs=1e-4)}}
    assert to_try_next(record, 3) == [2]
    later = confirmed(record, points, top=1, trials=[2])
    assert later.confirmed is not None
    assert later.confirmed.number == 2
    assert f"{FORGETTING} ≤ 0.2 holds with a fresh seed with chance 0.93" in " ".join(verdict(later))
    found = next(entry for entry in later.confirmation.to_json()["candidates"] if entry["number"] == 2)["chances"][FORGETTING]
    assert found["asked"] == 0.9
    low, high = found["interval"]
    assert low < found["chance"] < high
