"""Where a search begins: points, priors, and a learning rate that a power law predicts from earlier studies."""

from __future__ import annotations

import json
import math
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.config.schema import ModelConfig
from harness.config.sweep_schema import SearchConfig
from harness.config.validate import to_plain
from harness.runs.files import write_yaml
from harness.runs.result import Result, Tokens, write_result
from harness.runs.trial import Trial, write_trial
from harness.search.open_study import open_study
from harness.search.scaling import Observation, fit_laws, fit_power_law, fit_scaling, model_size, scaled_prior, scaling_text
from harness.search.space import parse_space
from harness.search.study import Study
from harness.search.warm_start import Start, check_prior, draw, resolve_points
from tests.search.conftest import SPACE, MakeSweep
from tests.search.studies import check_in_step
from tests.search.test_study import run_to_the_end

SPACE_ = parse_space(SPACE)


def test_points_are_tried_first_and_what_they_leave_open_is_drawn(make_sweep: MakeSweep) -> None:
    points = [{"optim.lr": 0.003, "schedule": "wsd"}, {"optim.lr": 0.01}]
    sweep = replace(make_sweep(search={"name": "tpe", "startup_trials": 2}), start=Start(points=points))
    vars(sweep)["base"], vars(sweep)["space"] = make_sweep().base, SPACE_
    directory = open_study(sweep)
    run_to_the_end(Study(directory, sweep, "w"))
    first, second, *_ = (run.params for run in check_in_step(directory, ended=True).runs)
    assert (first["optim.lr"], first["schedule"]) == (0.003, "wsd")
    assert 0.1 <= first["schedule.decay_fraction"] <= 0.5
    assert second["optim.lr"] == 0.01


def test_points_come_from_another_study_and_are_moved_into_the_space(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(name="earlier")
    directory = open_study(sweep)
    run_to_the_end(Study(directory, sweep, "w"))
    best = [run.params for run in check_in_step(directory, ended=True).ranked]
    found, notes = resolve_points(SearchConfig(warm_start=["study:earlier:2"]), SPACE_)
    assert (found, notes) == (best[:2], [])
    narrow = parse_space({"optim.lr": {"low": 0.09, "high": 0.1, "log": True}})
    found, notes = resolve_points(SearchConfig(warm_start=["study:earlier"]), narrow)
    assert found == [{"optim.lr": 0.09}]
    assert notes[0].endswith("was moved to 0.09, the space goes from 0.09 to 0.1")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"optim.lr": 1.0}, r"search.warm_start\[0\].optim.lr=1.0: outside the space; valid: from 0.0001 to 0.1"),
        ({"optim.rate": 1.0}, "unknown parameter 'optim.rate'"),
        ({"schedule": "linear", "schedule.decay_fraction": 0.2}, "takes no part with schedule=linear, only with wsd"),
        ("study:nowhere", "nowhere"),
        ("study:x:0", "study:NAME:K with K >= 1"),
        (7, "expected a point"),
    ],
)
def test_points_that_cannot_be_tried_are_refused(entry: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        resolve_points(SearchConfig(warm_start=[entry]), SPACE_)


def test_a_prior_is_drawn_within_the_range_around_its_mean_as_a_factor() -> None:
    draws = [math.log(draw(SPACE_["optim.lr"], {"mean": 1e-3, "spread": 2.0}, seed)) for seed in range(2000)]
    assert statistics.mean(draws) == pytest.approx(math.log(1e-3), abs=0.05)
    assert statistics.stdev(draws) == pytest.approx(math.log(2.0), rel=0.05)
    edge = [draw(SPACE_["optim.lr"], {"mean": 1e-1, "spread": 3.0}, seed) for seed in range(200)]
    assert max(edge) <= 1e-1


def test_a_prior_of_ordered_choices_is_around_one_of_them() -> None:
    space = parse_space({"trainer.batch_tokens": {"choices": [1024, 2048, 4096, 8192, 16384], "ordered": True}})
    prior = check_prior({"trainer.batch_tokens": {"mean": 4096, "spread": 0.7}}, space)
    places = [draw(space["trainer.batch_tokens"], prior["trainer.batch_tokens"], seed) for seed in range(1000)]
    shares = [places.count(place) / 1000 for place in range(5)]
    assert sum(shares) == 1.0
    assert shares[2] > shares[1] > shares[0]
    assert shares[2] > shares[3] > shares[4]
    with pytest.raises(InputError, match=r"search\.prior\.trainer\.batch_tokens\.mean=3000: outside the space; valid: one of 1024"):
        check_prior({"trainer.batch_tokens": {"mean": 3000, "spread": 1}}, space)


def test_the_prior_holds_until_enough_trials_have_ended() -> None:
    start, config = Start(prior={"optim.lr": {"mean": 1e-3, "spread": 2.0}}), SearchConfig(startup_trials=4)
    assert start.pinned(config, SPACE_, 9, ended=3) == start.pinned(config, SPACE_, 9, ended=2) != start.pinned(config, SPACE_, 8, ended=3)
    assert start.pinned(config, SPACE_, 9, ended=4) == {}


@pytest.mark.parametrize(
    ("prior", "said"),
    [
        ({"optim.lr": {"mean": 1e-3, "spread": 0.5}}, "search.prior.optim.lr.spread=0.5: must be > 1, a factor"),
        ({"optim.lr": {"mean": 1.0, "spread": 2}}, "outside the space"),
        ({"schedule": {"mean": 1, "spread": 2}}, "a prior is of a range"),
        ({"optim.lr": 1e-3}, r"expected \{mean: …, spread: …\}"),
    ],
)
def test_priors_that_cannot_be_drawn_from_are_refused(prior: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_prior(prior, SPACE_)


# Scaling.

SIZES, TOKENS = (10**6, 10**7, 10**8), (10**7, 10**8, 10**9)


def planted(size: int, tokens: int) -> float:
    return 3.0 * size**-0.4 * tokens**0.1


def test_a_planted_law_is_found_to_the_last_digits() -> None:
    seen = [Observation("s", n, d, planted(n, d), 2.0) for n in SIZES for d in TOKENS]
    law = fit_power_law(seen, [point.rate for point in seen])
    assert (law.size, law.tokens, math.exp(law.intercept)) == pytest.approx((-0.4, 0.1, 3.0))
    assert law.at(10**9, 10**10) == pytest.approx(planted(10**9, 10**10))
    assert law.spread == pytest.approx(1.0)


def test_terms_that_the_studies_cannot_tell_apart_are_left_out() -> None:
    of_one_length = [Observation("s", n, 10**8, planted(n, 10**8), 2.0) for n in SIZES]
    law = fit_power_law(of_one_length, [point.rate for point in of_one_length])
    assert (law.size, law.tokens) == (pytest.approx(-0.4), 0.0)
    in_step = [Observation("s", n, 20 * n, planted(n, 20 * n), 2.0) for n in SIZES]
    law = fit_power_law(in_step, [point.rate for point in in_step])
    assert (law.size, law.tokens) == (pytest.approx(-0.3), 0.0)
    alone = of_one_length[:1]
    law = fit_power_law(alone, [alone[0].rate])
    assert (law.size, law.tokens, law.spread) == (0.0, 0.0, None)
    assert law.at(1, 1) == pytest.approx(alone[0].rate)


def test_the_spread_is_what_the_law_leaves_unexplained() -> None:
    off = [2.0, 0.5, 0.5, 2.0]
    seen = [Observation("s", n, 10**8, 1e-3 * factor, 2.0) for n, factor in zip((10, 10, 1000, 1000), off, strict=True)]
    assert fit_power_law(seen, [point.rate for point in seen]).spread == pytest.approx(math.exp(math.sqrt(4 * math.log(2) ** 2 / 2)))


def test_an_objective_that_may_be_negative_has_no_law_of_its_own() -> None:
    """As forgetting is where a run gets better at everything: it has no logarithm, but its best rates have."""
    seen = [Observation("s", n, 10**8, planted(n, 10**8), loss) for n, loss in zip(SIZES, (-0.2, 0.0, 0.1), strict=True)]
    scaling = fit_laws(seen)
    assert scaling.loss is None
    model = ModelConfig(hidden_size=512, heads=4, layers=2)
    prior, fit = scaled_prior(scaling, SPACE_, model, 10**8)
    assert prior["optim.lr"]["mean"] == pytest.approx(planted(model_size(model), 10**8))
    assert json.loads(json.dumps(fit, allow_nan=False))["predicted_loss"] is None


def test_a_law_far_from_what_it_was_fitted_to_is_still_a_number() -> None:
    alike = [Observation("s", 10**6, tokens, rate, 2.0) for tokens, rate in ((10**6, 1e-4), (10**6 + 10**3, 1e-1))]
    law = fit_power_law(alike, [seen.rate for seen in alike])
    assert math.isfinite(law.at(10**6, 10**9))
    assert law.at(10**6, 10**3) >= 0


def test_studies_are_read_and_give_the_prior(tmp_path: Path, make_sweep: MakeSweep) -> None:
    for name, width, tokens in (("small", 64, 10**6), ("wide", 256, 10**6), ("long", 64, 10**8)):
        sweep = make_sweep(name=name)
        directory = open_study(sweep)
        model = ModelConfig(hidden_size=width, heads=4, layers=2)
        run = directory.trial(0)
        write_trial(run, Trial(number=0, params={}, tokens=tokens))
        write_yaml(run.config, {"model": to_plain(model), "optim": {"lr": planted(model_size(model), tokens)}})
        # The best shared most of its length with another trial's trunk.
        write_result(run, Result(state="complete", objective=2.0, tokens=Tokens(budgeted=tokens // 5, shared=tokens - tokens // 5)))
    scaling = fit_scaling(["small", "wide", "long"], objective="val/domain/loss")
    model = ModelConfig(hidden_size=512, heads=4, layers=2)
    prior, fit = scaled_prior(scaling, SPACE_, model, 10**9)
    assert prior["optim.lr"]["mean"] == pytest.approx(planted(model_size(model), 10**9))
    assert prior["optim.lr"]["spread"] == 3.0, "three studies, three terms: nothing tells how well it holds"
    assert "over 3 studies" in scaling_text(fit)
    with pytest.raises(InputError, match="looks for val/domain/loss, not for val/other/loss"):
        fit_scaling(["small"], objective="val/other/loss")
