"""What earlier studies say: optima from surfaces, laws of all parameters on a log scale, and a search that begins with the prediction."""

from __future__ import annotations

import itertools
import math
import shutil
import statistics
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.config.errors import InputError
from harness.config.private import Scrub
from harness.config.schema import ModelConfig
from harness.config.validate import to_plain, to_section
from harness.runs.bundle import BundleDirectory
from harness.runs.directory import RunDirectory, StudyDirectory, find_study
from harness.runs.files import read_json, read_yaml, write_json, write_yaml
from harness.runs.record import RunRecord, load_study
from harness.runs.result import Result, Tokens, read_result, write_result
from harness.runs.trial import Trial, claimed_trial, write_trial
from harness.runs.trials_table import read_trials, write_trials
from harness.search.around_earlier import Around, neighbours
from harness.search.checks import advice
from harness.search.earlier import expected_around, predict, start_from_earlier
from harness.search.earlier_studies import Earlier, Shape, earlier_studies, optima_of
from harness.search.fitted_surface import Surface, fitted_surface, moved_optimum
from harness.search.load_sweep import load_sweep
from harness.search.open_study import open_study
from harness.search.scaling import model_size
from harness.search.space import parse_space
from harness.search.study import Claim, Study
from harness.search.sweep import Sweep, thaw
from tests.search.conftest import MakeSweep, WriteSweep
from tests.search.studies import Attempt

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


def planted(size: int, tokens: int) -> float:
    return float(0.4 * size**-0.25 * tokens**0.02)


def write_study(
    sweep: Sweep, width: int, tokens: int, *, rates: int = 7, feasible: Callable[[float], bool | None] = lambda lr: None
) -> StudyDirectory:
    directory = open_study(sweep)
    model = ModelConfig(hidden_size=width, heads=4, layers=2)
    config = {**to_plain(sweep.base.config), "model": to_plain(model)}
    for number in range(rates):
        lr = 1e-3 * 2**number
        params = {"optim.lr": lr, "schedule": "linear"}
        cost = 2 + 0.1 * math.log(lr / planted(model_size(model), tokens)) ** 2
        run = directory.trial(number)
        write_trial(run, Trial(number=number, params=params, tokens=tokens))
        write_yaml(run.config, {**config, "optim": {**config["optim"], "lr": lr}})
        write_result(run, Result(state="complete", objective=cost, tokens=Tokens(budgeted=tokens), feasible=feasible(lr)))
    return directory


def export(study: str, name: str, *, trial: int | None = None, trials: int = 7, **changed: Any) -> BundleDirectory:
    """A recipe of a study, of its best or another trial, with its first so many trials; as `harness best --export` writes it."""
    record = load_study(find_study(study))
    run = record.best if trial is None else record.runs[trial]
    assert run is not None
    directory = BundleDirectory(Path("conf/experiment/best") / name)
    write_yaml(directory.config, Scrub().config(run.config))
    rows = [
        {
            "role": "search",
            "number": one.number,
            "state": one.state,
            "feasible": one.result.feasible,
            "objective": one.result.objective,
            **{f"params.{key}": value for key, value in one.params.items()},
            "tokens.budgeted": one.result.tokens.budgeted,
        }
        for one in record.runs[:trials]
    ]
    write_trials(directory.trials, rows)
    said: dict[str, Any] = {
        "name": name,
        "created": "2026-12-01",
        "study": study,
        "trial": run.number,
        "trials": len(rows),
        "base": [],
        "task": {},
        "model": {"name": "m", "size": model_size(to_section(ModelConfig, run.config["model"]))},
        "metric": record.objective.metric,
        "direction": record.objective.direction,
        "objective": run.result.objective,
        "confirmed": False,
        "interval": None,
        "seeds": [],
        "noise": None,
        "constraints": record.constraints,
        "params": run.params,
        "space": record.sweep["space"],
        "seed": 0,
        "steps": 4,
        "tokens": asdict(run.result.tokens),
        "seconds": 1.0,
        "versions": {},
        "git_commit": None,
        "fingerprints": {},
        "hardware": {},
    }
    write_json(directory.path / "bundle.json", {**said, **changed})
    return directory


def asked(sweep: Sweep) -> tuple[list[Earlier], dict[str, str]]:
    return earlier_studies(sweep.config, [sweep.space["optim.lr"]], sweep.base.config, "study")


def names(sweep: Sweep) -> list[str]:
    return [one.name for one in asked(sweep)[0]]


@pytest.fixture
def studies(tmp_path: Path, make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Four studies of other sizes and lengths, each a row of seven rates over two schedules; the sweep that they were of."""
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    for name, width, tokens in (("a", 32, 10**6), ("b", 64, 10**6), ("c", 64, 10**7), ("d", 128, 10**7)):
        write_study(make_sweep(name=name), width, tokens)
    return make_sweep(search={"prior": "earlier", "startup_trials": 4}, budget={"trials": 12})


def test_all_comparable_studies_at_hand_are_asked(studies: Sweep) -> None:
    model = ModelConfig(hidden_size=96, heads=4, layers=2)
    base = studies.base.config
    config = type(base)(**{**vars(base), "model": model})
    points, prior, around, notes = start_from_earlier(studies.config, studies.space, config, 3 * 10**6, name="study")
    expected = planted(model_size(model), 3 * 10**6)
    assert prior["optim.lr"]["mean"] == pytest.approx(expected, rel=0.01)
    assert prior["optim.lr"]["spread"] == 1.5
    assert points[0] == {"schedule": "linear", "optim.lr": pytest.approx(expected, rel=0.01)}
    assert around is not None
    assert around.surface["curvature"] == [[pytest.approx(0.2)]], "what all of them have"
    assert "over 4 studies: left out one by one, they are met within a factor of 1" in notes[0]
    assert notes[1].startswith("search.prior=earlier: nearest of 4: ")
    assert notes[1].endswith("trial 0 is the prediction, the next ones its neighbours, then where these move the optimum")


def test_what_looked_for_something_else_or_trained_otherwise_is_not(studies: Sweep) -> None:
    base = studies.base.config
    other = type(base)(**{**vars(base), "optim": type(base.optim)(**{**vars(base.optim), "name": "lion"})})
    assert start_from_earlier(studies.config, studies.space, other, 10**6, name="study") == (
        [],
        {},
        None,
        [
            "search.prior=earlier: no earlier study is comparable; left out of those at hand: 4 (named in search.scaling_studies, it is "
            "said why); the search begins as without a prior"
        ],
    )


def test_named_ones_alone_are_asked_and_must_exist(studies: Sweep, make_sweep: MakeSweep) -> None:
    some = make_sweep(search={"prior": "earlier", "scaling_studies": ["b"]})
    *_, notes = start_from_earlier(some.config, some.space, some.base.config, 10**6, name="study")
    assert "the optimum of b, the nearest of 1: nothing says how well that holds" in notes[0]
    none = make_sweep(search={"prior": "earlier", "scaling_studies": ["nowhere"]})
    with pytest.raises(InputError, match="nowhere"):
        start_from_earlier(none.config, none.space, none.base.config, 10**6, name="study")


def named(make_sweep: MakeSweep, *names: str, **more: dict[str, Any]) -> Sweep:
    return make_sweep(search={"prior": "earlier", "scaling_studies": [*names]}, **more)


@pytest.mark.slow
def test_each_study_counts_once_however_often_it_was_exported(studies: Sweep, make_sweep: MakeSweep, tmp_path: Path) -> None:
    export("a", "early", trials=5)
    export("a", "x")
    export("a", "y")
    assert names(studies) == ["a", "b", "c", "d"]
    assert names(named(make_sweep, "b", "b", str(tmp_path / "runs/b"))) == ["b"]
    found, left_out = asked(named(make_sweep, "best/early", "best/y", "best/x"))
    assert [one.name for one in found] == ["best/x"], "that of most trials, by name"
    assert left_out == dict.fromkeys(["best/early", "best/y"], "it has the trials of best/x, which count once")
    shutil.rmtree(tmp_path / "runs/a")
    assert names(studies) == ["b", "c", "d", "best/x"]


def test_two_studies_of_one_name_are_two(studies: Sweep) -> None:
    directory = export("a", "x")
    change_json(directory.path / "bundle.json", {"study": "b"})
    shutil.rmtree(find_study("a").path)
    assert names(studies) == ["b", "c", "d", "best/x"]


def test_a_recipe_counts_by_the_trials_of_its_study_that_meet_its_constraints(studies: Sweep, make_sweep: MakeSweep) -> None:
    bound: dict[str, dict[str, Any]] = {"constraints": {"val/domain/forgetting": {"max": 0.3, "chance": 0.9}}}
    some = write_study(make_sweep(name="some", **bound), 32, 10**6, feasible=lambda lr: lr < 0.01)
    none = write_study(make_sweep(name="none", **bound), 32, 10**6, feasible=lambda lr: False)
    best = asked(named(make_sweep, "some"))[0][0].best
    export("some", "broken", trial=6)
    export("none", "nothing", trial=0)
    for directory in (some, none):
        shutil.rmtree(directory.path)
    found, left_out = asked(named(make_sweep, "best/broken", "best/nothing"))
    assert [one.best for one in found] == [best], "not the trial that breaks the bound"
    assert not found[0].has_same_constraints
    assert asked(named(make_sweep, "best/broken", constraints={"val/domain/forgetting": {"max": 0.3}}))[0][0].has_same_constraints
    assert left_out == {"best/nothing": "it has no complete trial of full length that meets its constraints"}


def test_data_are_the_same_by_whatever_path(studies: Sweep, make_sweep: MakeSweep, tmp_path: Path) -> None:
    def change(path: Callable[[str], str], **more: Any) -> None:
        for run in find_study("a").trials():
            config = read_yaml(run.config)
            for name, source in studies.base.config.data.sources.items():
                config["data"]["sources"][name].update({"path": path(str(source.path)), **more})
            write_yaml(run.config, config)
            write_result(run, replace(read_result(run), directory=str(tmp_path)))

    def link(path: str) -> str:
        here = tmp_path / Path(path).name
        here.unlink(missing_ok=True)
        here.symlink_to(path)
        return str(here)

    for other in (link, lambda path: Path(link(path)).name, str):
        change(other)
        assert asked(named(make_sweep, "a"))[0][0].has_same_data
    export("a", "x")
    assert asked(named(make_sweep, "best/x"))[0][0].has_same_data, "by the names of the files, which is all that a recipe has"
    change(str, field="other")
    export("a", "y")
    assert not any(one.has_same_data for word in ("a", "best/y") for one in asked(named(make_sweep, word))[0])


def test_of_named_ones_that_do_not_count_it_is_said_why(studies: Sweep, make_sweep: MakeSweep) -> None:
    write_study(make_sweep(name="max", objective={"direction": "maximize"}), 32, 10**6)
    write_study(make_sweep(name="short"), 32, 10**6, rates=0)
    write_study(make_sweep(name="single"), 32, 10**3, rates=1)
    sweep = named(make_sweep, "max", "short", "single", "a")
    *_, notes = start_from_earlier(sweep.config, sweep.space, sweep.base.config, 10**6, name="study")
    assert notes[:3] == [
        "search.prior=earlier: max: it looks for val/domain/loss (maximize), this sweep for val/domain/loss (minimize)",
        "search.prior=earlier: short: it has no complete trial of full length that meets its constraints",
        "search.prior=earlier: single: no optimum could be fitted to its trials, as to those of others",
    ]


DAMAGES: dict[str, Callable[[Path], None]] = {
    "its sources are a text": lambda path: change_yaml(path / "config.yaml", {"data": "x"}),
    "it has no data": lambda path: change_yaml(path / "config.yaml", {"data": None}),
    "its optimizer is a text": lambda path: change_yaml(path / "config.yaml", {"optim": "adamw"}),
    "its optimizer is a list": lambda path: change_yaml(path / "config.yaml", {"optim": [1]}),
    "it has no model": lambda path: change_yaml(path / "config.yaml", {"model": None}),
    "its source is a text": lambda path: change_yaml(path / "config.yaml", {"data": {"sources": {"a": "b"}}}),
    "its configuration is gone": lambda path: (path / "config.yaml").unlink(),
}
OF_RECIPES: dict[str, Callable[[Path], None]] = {
    "its choices are a number": lambda path: change_json(path / "bundle.json", {"space": {"optim.lr": {"choices": 5}}}),
    "its tokens are negative": lambda path: change_json(path / "bundle.json", {"tokens": {"budgeted": -5}}),
    "its losses are no numbers": lambda path: change_table(path / "trials.parquet", {"objective": math.nan}),
    "its losses are beyond all": lambda path: change_table(path / "trials.parquet", {"objective": 1e300}),
    "its losses are true": lambda path: change_table(path / "trials.parquet", {"objective": True}),
    "its rates are infinite": lambda path: change_table(path / "trials.parquet", {"params.optim.lr": math.inf}),
    "its trials are gone": lambda path: (path / "trials.parquet").unlink(),
}


def test_of_a_recipe_shorter_runs_of_a_trunk_search_do_not_count(studies: Sweep, make_sweep: MakeSweep) -> None:
    directory = export("a", "x")
    rows = read_trials(directory.trials)
    short = [{**row, "number": 7 + n, "objective": 1.0 + n, "params.trainer.max_tokens": 10**5} for n, row in enumerate(rows)]
    write_trials(directory.trials, [*({**row, "params.trainer.max_tokens": 10**6} for row in rows), *short])
    (alone,), (found,) = asked(named(make_sweep, "a"))[0], asked(named(make_sweep, "best/x"))[0]
    assert found.optima == alone.optima


@pytest.mark.slow
def test_a_damaged_recipe_breaks_no_sweep(studies: Sweep) -> None:
    for place, (damage, do) in enumerate((DAMAGES | OF_RECIPES).items()):
        do(export("a", f"x{place}").path)
        found, left_out = asked(studies)
        assert [one.name for one in found if one.optima][:4] == ["a", "b", "c", "d"], damage
    assert len(left_out) == len(DAMAGES | OF_RECIPES) - 2, "all but those of which the best trial can be read"


@pytest.mark.slow
def test_a_damaged_study_breaks_no_sweep_and_is_told_where_it_is_named(studies: Sweep, make_sweep: MakeSweep) -> None:
    sweep = named(make_sweep, "one")
    for damage, do in DAMAGES.items():
        do(write_study(make_sweep(name="one"), 32, 10**4, rates=1).trial(0).path)
        assert names(studies) == ["a", "b", "c", "d"], damage
        with pytest.raises(InputError, match=r"search\.scaling_studies: one cannot be read: .*config\.yaml: damaged: "):
            asked(sweep)
        shutil.rmtree(find_study("one").path)


@pytest.mark.parametrize(
    "values",
    [
        {"config": None},
        {"config": {"trainer": 1}},
        {"objective": {"metric": "val/domain/loss", "of_next_year": 1}},
        {"objective": {"metric": "val/domain/loss", "also": [{"direction": "minimize"}]}},
    ],
)
def test_a_foreign_sweep_breaks_none(studies: Sweep, make_sweep: MakeSweep, values: dict[str, Any]) -> None:
    change_yaml(find_study("a").sweep, values)
    assert names(studies) == ["b", "c", "d"]
    with pytest.raises(InputError, match=r"search\.scaling_studies: a cannot be read: .*sweep\.yaml: damaged: "):
        asked(named(make_sweep, "a"))


def change_yaml(path: Path, values: dict[str, Any]) -> None:
    write_yaml(path, {**read_yaml(path), **values})


def change_json(path: Path, values: dict[str, Any]) -> None:
    write_json(path, {**(read_json(path) or {}), **values})


def change_table(path: Path, values: dict[str, Any]) -> None:
    write_trials(path, [{**row, **values} for row in read_trials(path)])


def test_without_a_log_scale_there_is_nothing_to_predict(studies: Sweep) -> None:
    space = parse_space({"data.replay_share": {"low": 0.0, "high": 0.5}})
    with pytest.raises(InputError, match="needs a parameter on a log scale in the space"):
        start_from_earlier(studies.config, space, studies.base.config, 10**6, name="study")


@pytest.mark.slow
def test_a_sweep_begins_with_the_prediction_and_goes_on_where_its_trials_move_it(studies: Sweep, write_sweep: WriteSweep) -> None:
    search = {"name": "tpe", "prior": "earlier", "startup_trials": 6}
    sweep = load_sweep(str(write_sweep("next", search=search, budget={"trials": 12})), [])
    assert any("over 4 studies" in line for line in sweep.start.lines())
    few = load_sweep(str(write_sweep("few", search=search, budget={"trials": 5})), [])
    assert not [line for line in advice(few) if "nothing is learnt" in line], "its first trials learn from each other"
    directory = open_study(sweep)
    study = Study(directory, thaw(directory.sweep), "w")
    predicted = sweep.start.points[0]["optim.lr"]
    rates = []
    for _ in range(4):
        claim = study.claim()
        assert isinstance(claim, Claim)
        params: dict[str, Any] = claimed_trial(claim.run).params or {}
        rates.append(params["optim.lr"] / predicted)
        study.settle(claim, Attempt(claim.run).complete(2 + 0.1 * math.log(rates[-1] / 1.25) ** 2))
    assert rates[:2] == pytest.approx([1, 2**0.5])
    assert min(abs(math.log(rate / 1.25)) for rate in rates) < 0.02


@pytest.mark.slow
def test_where_trials_break_a_constraint_the_lowest_point_is_not_sought(studies: Sweep, write_sweep: WriteSweep) -> None:
    sweep = load_sweep(str(write_sweep("next", search={"name": "tpe", "prior": "earlier"}, budget={"trials": 12})), [])
    number, record = len(sweep.start.points), RunRecord(RunDirectory(Path("0")), Result(state="complete", objective=2.0), state="complete")
    assert sweep.pinned(number, ended=2, records=list) == sweep.space.in_optuna(
        Around(**(sweep.start.around or {})).next_point(sweep.space, [], sweep.valid) or {}
    )
    infeasible = replace(record, result=replace(record.result, feasible=False))
    assert sweep.pinned(number, ended=2, records=lambda: [infeasible]).keys() == sweep.start.prior.keys(), "a draw from the prior"
