"""What earlier studies say: optima from surfaces, laws of all parameters on a log scale, and the trials around a prediction."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.search.around_earlier import Around, neighbours
from harness.search.earlier import expected_around, predict
from harness.search.earlier_studies import Earlier, Shape, optima_of
from harness.search.fitted_surface import Surface, fitted_surface, moved_optimum
from harness.search.space import parse_space

BOTH = {
    "optim.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "trainer.batch_tokens": {"low": 2**10, "high": 2**20, "log": True},
}
SPACE = parse_space(BOTH)


def rate(size: int, tokens: int) -> float:
    return float(0.2 * size**-0.3 * tokens**0.05)


def batch(size: int, tokens: int) -> float:
    return float(8.0 * tokens**0.5)


def surface(size: int, tokens: int, point: dict[str, float]) -> float:
    """A valley that lies across: a larger batch bears a larger rate. Around it no exact quadratic."""
    x = math.log(point["optim.lr"] / rate(size, tokens))
    y = math.log(point["trainer.batch_tokens"] / batch(size, tokens))
    return 2.5 + 0.03 * x * x + 0.02 * y * y - 0.02 * x * y + 0.004 * x**3


def earlier(size: int, tokens: int, surface_at: Callable[[int, int, dict[str, float]], float] = surface) -> Earlier:
    """A grid of factors of two around a point that is not the optimum."""
    rates, batches = [1e-4 * 2**n for n in range(10)], [2**n for n in range(10, 21)]
    trials = [
        (point, surface_at(size, tokens, point))
        for lr, tokens_ in itertools.product(rates, batches)
        for point in [{"optim.lr": lr, "trainer.batch_tokens": tokens_}]
    ]
    best = min(trials, key=lambda trial: trial[1])[0]
    return Earlier(f"{size}/{tokens}", size, tokens, True, best, *optima_of(SPACE.parameters, BOTH, best, trials))


def test_the_lowest_point_of_a_quadratic_is_found_whatever_lies_on_the_grid() -> None:
    points = [[x, y] for x in range(-3, 4) for y in range(-3, 4)]
    costs = [1 + (x - 0.3) ** 2 + 2 * (y + 0.4) ** 2 + 0.5 * (x - 0.3) * (y + 0.4) for x, y in points]
    surface = fitted_surface(points, costs)
    assert surface is not None
    assert surface.lowest == pytest.approx([0.3, -0.4])
    assert surface.curvature == [pytest.approx([2.0, 0.5]), pytest.approx([0.5, 4.0])]
    assert surface.noise == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("count", "noise", "low", "high"), [(9, 0.0, 0, 0.001), (15, 0.003, 0.002, 0.0033), (15, 0.01, 0.007, 0.0105)])
def test_a_curve_that_is_no_quadratic_is_not_taken_for_noise(count: int, noise: float, low: float, high: float) -> None:
    """Steeper above its lowest point than below, as losses over learning rates are."""
    drawn = np.random.default_rng(0)
    rates = np.linspace(-2.3, 2.3, count)
    costs = 2.5 + 0.25 * rates**2 * np.exp(0.2 * rates)
    found = [fitted_surface(rates[:, None].tolist(), (costs + drawn.normal(0, noise, count)).tolist()) for _ in range(200)]
    squares = [surface.noise**2 for surface in found if surface is not None]
    assert len(squares) == 200
    assert low <= math.sqrt(statistics.fmean(squares)) <= high


def test_one_study_of_another_shape_does_not_make_the_others_noisy() -> None:
    studies = [earlier(10**6, 10**tokens) for tokens in (8, 9, 10)]
    assert all(study.shape is not None for study in studies)
    first = studies[0].shape
    assert first is not None
    noisy = replace(studies[0], shape=replace(first, surface=replace(first.surface, noise=0.03)))
    predicted = [found for parameter in SPACE.parameters if (found := predict(parameter, studies, 10**7, 10**9)) is not None]
    centre = {one.key: one.value for one in predicted}
    around = [expected_around(predicted, found, centre, {}) for found in (studies, [noisy, *studies[1:]])]
    assert all(one is not None for one in around)
    assert around[1] is not None
    assert around[1].surface["noise"] < 0.003


def test_a_parameter_whose_optimum_lies_beyond_what_was_tried_does_not_hide_that_of_another() -> None:
    """Given the end of the one, the other's."""
    rates, batches = [1e-3 * 2**n for n in range(6)], [2**n for n in range(10, 15)]
    points = [{"optim.lr": lr, "trainer.batch_tokens": batch} for lr, batch in itertools.product(rates, batches)]

    def cost(x: float, y: float) -> float:
        return x * x + 0.5 * y * y - 0.5 * x * y

    trials = [(point, cost(math.log(point["optim.lr"] / 6e-3), math.log(point["trainer.batch_tokens"] / 300))) for point in points]
    best = min(trials, key=lambda trial: trial[1])[0]
    space = {"optim.lr": {"choices": rates}, "trainer.batch_tokens": {"choices": batches}}
    assert optima_of(SPACE.parameters, space, best, trials)[0] == {"optim.lr": pytest.approx(6e-3 * math.exp(0.25 * math.log(1024 / 300)))}


@pytest.mark.parametrize(
    "costs",
    [
        [3.0, 2.9, 2.7, 2.4, 2.0, 1.5, 0.9],  # falls to its end, ever faster
        [1.0, 1.0, 2.0, 3.0, 2.0, 1.0, 1.0],  # a hill
    ],
)
def test_what_has_no_lowest_point_inside_has_none(costs: list[float]) -> None:
    assert fitted_surface([[float(x)] for x in range(len(costs))], costs) is None


def test_too_few_trials_have_no_surface_and_their_best_stands_for_it() -> None:
    trials = [({"optim.lr": value}, cost) for value, cost in ((1e-3, 2.0), (3e-3, 1.0), (1e-2, 2.5))]
    space = {"optim.lr": BOTH["optim.lr"]}
    assert optima_of(SPACE.parameters, space, {"optim.lr": 3e-3}, trials) == ({"optim.lr": 3e-3}, None)
    assert optima_of(SPACE.parameters, space, {"optim.lr": 1e-1}, trials) == ({}, None), "at the end of its range is no optimum"
    assert optima_of(SPACE.parameters, {"optim.lr": {"choices": [1e-3, 3e-3, 1e-2]}}, {"optim.lr": 3e-3}, trials) == (
        {"optim.lr": 3e-3},
        None,
    )


def test_trials_that_chose_otherwise_do_not_bend_the_surface() -> None:
    """Another schedule wants a tenth of the rate."""

    def cost(x: float, where: float) -> float:
        return (math.log(x) - math.log(where)) ** 2

    rates = [1e-3 * 2**n for n in range(7)]
    trials = [({"optim.lr": x, "schedule": "wsd"}, cost(x, 7e-3)) for x in rates]
    trials += [({"optim.lr": x, "schedule": "linear"}, 0.01 + cost(x, 7e-4)) for x in rates]
    best = min(trials, key=lambda trial: trial[1])[0]
    space = {"optim.lr": BOTH["optim.lr"], "schedule": {"choices": ["wsd", "linear"]}}
    assert optima_of(SPACE.parameters, space, best, trials)[0]["optim.lr"] == pytest.approx(7e-3)


def test_the_centre_comes_first_and_then_what_is_nearest() -> None:
    points = list(itertools.islice(neighbours(SPACE, {"optim.lr": 1e-2, "trainer.batch_tokens": 4096.0}), 9))
    steps = [
        (round(2 * math.log2(point["optim.lr"] / 1e-2)), round(2 * math.log2(point["trainer.batch_tokens"] / 4096))) for point in points
    ]
    assert steps[0] == (0, 0)
    assert sorted(steps[1:5]) == [(-1, 0), (0, -1), (0, 1), (1, 0)]
    assert sorted(steps[5:]) == [(-1, -1), (-1, 1), (1, -1), (1, 1)]
    at_the_end = list(neighbours(SPACE, {"optim.lr": 1e-1}))
    assert [point["optim.lr"] for point in at_the_end] == pytest.approx([0.1, 0.1 / math.sqrt(2), 0.05]), "each point once"


@pytest.mark.parametrize("noise", [1e-3, 0.01])
def test_few_trials_move_an_optimum_that_was_expected_elsewhere(noise: float) -> None:
    """A quarter steeper than expected, and lowest a factor of 1.5 away: three trials tell, where a surface of no known shape takes six."""
    expected = Surface([0.0, 0.0], [[0.4, -0.1], [-0.1, 0.2]], noise, [False, False])
    lowest, curvature = np.array([0.4, -0.3]), 1.25 * np.array(expected.curvature)
    points = [[0.0, 0.0], [0.35, 0.0], [0.0, 0.35]]
    costs = [3.0 + 0.5 * float((np.array(point) - lowest) @ curvature @ (np.array(point) - lowest)) for point in points]
    found = moved_optimum(expected, [0.4, 0.4], points, costs)
    assert found is not None
    assert math.dist(found, lowest) < 0.4 * math.dist([0.0, 0.0], lowest)
    assert moved_optimum(expected, [0.4, 0.4], points[:1], costs[:1]) == pytest.approx([0.0, 0.0]), "one trial says nothing of where"


def as_it_is(point: dict[str, Any]) -> dict[str, Any]:
    return point


def around(**surface: Any) -> Around:
    return Around(
        ["optim.lr"],
        {"lowest": [math.log(1e-2)], "curvature": [[0.3]], "noise": 1e-3, "at_end": [False], **surface},
        [0.4],
        {"schedule": "wsd"},
    )


def test_the_next_trial_is_where_those_before_it_move_the_optimum() -> None:
    def cost(lr: float) -> float:
        return 2 + 0.15 * math.log(lr / 1.3e-2) ** 2

    tried: list[tuple[dict[str, Any], float | None]] = [
        ({"optim.lr": 1e-2 * 2**x, "schedule": "wsd"}, cost(1e-2 * 2**x)) for x in (0, 0.5, -0.5)
    ]
    point = around().next_point(SPACE, tried, as_it_is)
    assert point == {"schedule": "wsd", "optim.lr": pytest.approx(1.3e-2, rel=0.02)}
    assert point == around().next_point(SPACE, [*tried, ({"optim.lr": 1e-4, "schedule": "linear"}, 0.0)], as_it_is), "another schedule"
    again = around().next_point(SPACE, [*tried, (point, None)], as_it_is)
    assert again == {"schedule": "wsd", "optim.lr": pytest.approx(1e-2 * 2**0.25)}, "one that runs is not tried twice: the nearest to it"


def test_what_is_not_known_yet_is_tried_in_small_steps_from_the_prediction() -> None:
    running: list[tuple[dict[str, Any], float | None]] = []
    while point := around().next_point(SPACE, running, as_it_is):
        running.append((point, None))
    rates = [round(4 * math.log2(point["optim.lr"] / 1e-2)) for point, _ in running]
    assert rates[:3] == [0, 2, -1], "the prediction, its neighbour at √2, and what lies nearest"
    assert sorted(rates) == list(range(-4, 5)), "each once, and then no more"


def test_what_moves_onto_a_point_that_was_tried_is_not_proposed() -> None:
    """A batch is of whole rows."""
    expected = Around(
        ["trainer.batch_tokens"], {"lowest": [math.log(2048)], "curvature": [[0.1]], "noise": 1e-3, "at_end": [False]}, [0.4], {}
    )

    def rows(point: dict[str, Any]) -> dict[str, Any]:
        return {"trainer.batch_tokens": 1024 * round(point["trainer.batch_tokens"] / 1024)}

    running: list[tuple[dict[str, Any], float | None]] = []
    while point := expected.next_point(SPACE, running, rows):
        running.append((point, None))
    assert [point["trainer.batch_tokens"] for point, _ in running] == [2048, 3072, 1024, 4096]


PLACES = [(10**size, 10**tokens) for size in (6, 7, 8) for tokens in (8, 9, 10)]


def test_left_out_one_by_one_studies_are_met_within_a_few_trials() -> None:
    """Regret after 4 and 8 trials, as a share of the least loss: the aims are .02 % and .005 %."""
    studies = [earlier(*place) for place in PLACES]
    after_four, after_eight = [], []
    for left_out in studies:
        others = sorted((study for study in studies if study is not left_out), key=lambda s: s.distance(left_out.size, left_out.tokens))
        predicted = []
        for parameter in SPACE.parameters:
            found = predict(parameter, others, left_out.size, left_out.tokens)
            assert found is not None
            assert found.law is not None, "it predicts better than the nearest"
            assert found.error is not None
            assert found.error < 1.1
            predicted.append(found)
        centre = {one.key: one.value for one in predicted}
        expected = expected_around(predicted, others, centre, {})
        assert expected is not None
        tried: list[tuple[dict[str, Any], float | None]] = []
        while len(tried) < 8:
            point = expected.next_point(SPACE, tried, as_it_is)
            assert point is not None
            tried.append((point, surface(*_place(left_out), point)))
        best = surface(*_place(left_out), {"optim.lr": rate(*_place(left_out)), "trainer.batch_tokens": batch(*_place(left_out))})
        after_four.append(min(cost for _, cost in tried[:4] if cost) / best - 1)
        after_eight.append(min(cost for _, cost in tried if cost) / best - 1)
    assert statistics.fmean(after_four) <= 2e-4
    assert statistics.fmean(after_eight) <= 5e-5


def _place(study: Earlier) -> tuple[int, int]:
    return study.size, study.tokens


def fitted(name: str, size: int, optimum: float, **more: Any) -> Earlier:
    shape = Shape(("optim.lr",), Surface([math.log(optimum)], [[0.2]], 1e-3, [False]))
    return Earlier(name, size, 10**9, True, {}, {"optim.lr": optimum}, shape, **more)


def test_a_law_that_does_not_hold_is_not_believed() -> None:
    """Studies whose optima follow nothing: the nearest does better."""
    optima = [1e-3, 1e-3, 3e-2, 3e-2, 1e-3, 1e-3]
    sizes = [10**6, 11 * 10**5, 10**7, 11 * 10**6, 10**8, 11 * 10**7]
    studies = [fitted(str(size), size, optimum) for size, optimum in zip(sizes, optima, strict=True)]
    found = predict(SPACE["optim.lr"], studies, 105 * 10**5, 10**9)
    assert found is not None
    assert (found.law, found.value, found.error) == (None, 3e-2, pytest.approx(1.0))
    assert found.spread == 1.5
    assert "the optimum of 11000000, the nearest of 6" in found.text()


def test_one_study_is_followed_without_knowing_how_well() -> None:
    study = earlier(10**7, 10**9)
    found = predict(SPACE["optim.lr"], [study], 10**7, 10**9)
    assert found is not None
    assert (found.law, found.error, found.spread) == (None, None, 3.0)
    assert found.value == pytest.approx(rate(10**7, 10**9), rel=0.1)
    assert predict(SPACE["optim.lr"], [], 10**7, 10**9) is None


def test_a_fitted_optimum_comes_before_a_best_single_trial_and_no_law_is_of_such() -> None:
    singles = [Earlier(f"a{n}", 10**7, 10**9, True, {}, {"optim.lr": 1e-4 * 3**n}) for n in range(3)]
    far = fitted("z", 10**8, 3e-3)
    found = predict(SPACE["optim.lr"], [*singles, far], 10**7, 10**9)
    assert found is not None
    assert (found.value, found.error, found.studies) == (3e-3, None, [far])
    alone = predict(SPACE["optim.lr"], singles, 10**7, 10**9)
    assert alone is not None
    assert alone.law is None
    assert "the best single trial of a0, the nearest of 3, since no surface fits the trials of any" in alone.text()


def test_of_equally_near_studies_that_of_more_trials_comes_first() -> None:
    few, many = (fitted(f"{count}", 10**7, 1e-3 * count, trials=frozenset((float(n),) for n in range(count))) for count in (5, 9))
    found = predict(SPACE["optim.lr"], [few, many], 10**7, 10**9)
    assert found is not None
    assert [study.name for study in found.studies] == ["9", "5"]


def test_studies_under_the_same_constraints_come_first_and_others_are_in_no_law_with_them() -> None:
    others = [fitted(f"{size}", size, 1e-4, has_same_constraints=False) for size in (10**6, 10**7, 10**8)]
    mine = fitted("mine", 10**9, 1e-2)
    found = predict(SPACE["optim.lr"], [*others, mine], 10**7, 10**9)
    assert found is not None
    assert (found.value, found.law, found.studies) == (1e-2, None, [mine])
    without = predict(SPACE["optim.lr"], others, 10**7, 10**9)
    assert without is not None
    assert without.value == pytest.approx(1e-4)
    assert without.spread == 3.0, "no study says how far the constraint moves it"
    assert "the nearest of 3 under other constraints" in without.text()


@pytest.mark.parametrize(("trials", "expected"), [(1, 1e-4), (4, 1e-2)])
def test_one_trial_under_the_same_constraints_does_not_outweigh_what_is_known(trials: int, expected: float) -> None:
    others = [fitted(f"{size}", size, 1e-4, has_same_constraints=False) for size in (10**6, 10**7, 10**8)]
    mine = Earlier("mine", 10**7, 10**9, True, {}, {"optim.lr": 1e-2}, trials=frozenset((float(n),) for n in range(trials)))
    found = predict(SPACE["optim.lr"], [mine, *others], 10**7, 10**9)
    assert found is not None
    assert found.value == pytest.approx(expected)
