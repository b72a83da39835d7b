from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from harness.report.importances import FANOVA_TRIALS, Importances, parameter_importances
from harness.runs.record import RunRecord, StudyRecord, load_study
from harness.runs.result import Result
from harness.runs.trial import Trial
from tests.report.synthetic_study import write_study


def made(study: StudyRecord, points: list[tuple[dict[str, Any], float]], **sweep: Any) -> StudyRecord:
    """The study with these complete trials instead of its own."""
    runs = [
        RunRecord(
            study.directory.trial(n),
            Result(state="complete", objective=value),
            study.name,
            Trial(number=n, params=params, tokens=0),
            "complete",
        )
        for n, (params, value) in enumerate(points)
    ]
    return replace(study, runs=runs, sweep={**study.sweep, **sweep})


def test_finds_the_parameter_that_decides(tmp_path: Path) -> None:
    shares = parameter_importances(load_study(write_study(tmp_path, trials=40))).shares
    assert next(iter(shares)) == "optim.lr"
    assert shares["optim.lr"] > 0.8
    assert sum(shares.values()) == pytest.approx(1)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)
    # Active in a third of the trials only.
    assert "schedule.decay_fraction" in shares


def test_is_the_same_every_time(study: StudyRecord) -> None:
    assert parameter_importances(study) == parameter_importances(study)


def test_rates_are_weighed_by_their_logarithm(study: StudyRecord) -> None:
    # All that matters happens in the lowest decade, which is 1 % of the plain range.
    space = {"optim.lr": {"low": 1e-4, "high": 1e-1, "log": True}, "seed": {"low": 0, "high": 9}}
    points = [({"optim.lr": 10 ** (-4 + n / 10), "seed": n * 7 % 10}, max(0.0, 1 - n / 10) + 0.02 * (n * 7 % 10)) for n in range(30)]
    assert parameter_importances(made(study, points, space=space)).shares["optim.lr"] > 0.9


def test_a_conditional_parameter_is_found(study: StudyRecord) -> None:
    space = {"schedule": {"choices": ["linear", "wsd"]}, "schedule.decay_fraction": {"low": 0.0, "high": 1.0, "when": {"schedule": "wsd"}}}
    points: list[tuple[dict[str, Any], float]] = [({"schedule": "linear"}, 3.0) for _ in range(10)]
    points += [({"schedule": "wsd", "schedule.decay_fraction": n / 20}, 2.0 + 2 * n / 20) for n in range(20)]
    assert next(iter(parameter_importances(made(study, points, space=space)).shares)) == "schedule.decay_fraction"


def test_choices_may_be_lists(study: StudyRecord) -> None:
    space = {"optim.betas": {"choices": [[0.9, 0.95], [0.9, 0.999]]}}
    points = [({"optim.betas": [0.9, 0.95 if n % 2 else 0.999]}, float(n % 2)) for n in range(8)]
    assert parameter_importances(made(study, points, space=space)).shares == {"optim.betas": 1.0}


def test_many_trials_are_weighed_fast(study: StudyRecord) -> None:
    space = {"optim.lr": {"low": 1e-4, "high": 1e-1, "log": True}, "seed": {"low": 0, "high": 9}}
    points = [({"optim.lr": 10 ** (-4 + n % 300 / 100), "seed": n * 7 % 10}, abs(n % 300 - 150) / 100) for n in range(600)]
    assert parameter_importances(made(study, points, space=space)).shares["optim.lr"] > 0.9


def test_nothing_to_say(study: StudyRecord) -> None:
    same = [({"optim.lr": 1e-3 * (n + 1)}, 2.0) for n in range(8)]
    assert parameter_importances(made(study, same)).shares == {}
    few = [({"optim.lr": 1e-3 * (n + 1)}, float(n)) for n in range(3)]
    assert parameter_importances(made(study, few)).shares == {}


def test_many_trials_get_the_numbers_of_optunas_own_evaluator(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path, trials=FANOVA_TRIALS + 20))
    found = parameter_importances(study).shares
    distributions: dict[str, Any] = {
        "optim.lr": FloatDistribution(math.log(1e-4), math.log(3e-2)),
        "schedule": CategoricalDistribution(["cosine", "linear", "wsd"]),
        "data.packing": CategoricalDistribution(["best_fit", "concat", "padded"]),
        "data.replay_share": FloatDistribution(0.0, 0.5),
    }
    own = optuna.create_study()
    for run in study.runs:
        params = {key: math.log(run.params[key]) if key == "optim.lr" else run.params[key] for key in distributions}
        own.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=run.result.objective))
    theirs = optuna.importance.get_param_importances(own, evaluator=optuna.importance.PedAnovaImportanceEvaluator(), normalize=False)
    whole = sum(theirs.values()) / sum(found[key] for key in theirs)
    assert {key: found[key] * whole for key in theirs} == pytest.approx(theirs)


def test_few_trials_are_said_to_be_rough(study: StudyRecord) -> None:
    few = parameter_importances(study)
    assert few.is_rough
    assert few.note == "rough: 12 trials, by fANOVA"
    assert few.text("optim.lr") == f"about {few.shares['optim.lr']:.0%}"
    assert Importances({"a": 0.001}).text("a") == "<1%"


def test_many_trials_have_an_interval_that_holds_what_decides(study: StudyRecord) -> None:
    space = {"optim.lr": {"low": 1e-4, "high": 1e-1, "log": True}, "seed": {"low": 0, "high": 9}}
    points = [({"optim.lr": 10 ** (-4 + n % 300 / 100), "seed": n * 7 % 10}, abs(n % 300 - 150) / 100) for n in range(600)]
    found = parameter_importances(made(study, points, space=space))
    low, high = found.intervals["optim.lr"]
    assert 0.8 < low <= found.shares["optim.lr"] <= high <= 1
    assert low < high
    assert found.intervals["seed"][1] < 0.2
    assert found == parameter_importances(made(study, points, space=space))
