"""Why the best is the best, by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.report.comparison import compare
from harness.report.page_head import as_sentence, best_card
from harness.report.seed_noise import SeedNoise
from harness.report.why_best import edge, edges, reasons
from harness.runs.confirmation import Candidate, Confirmation
from harness.runs.confirmation_plan import ConfirmationPlan
from harness.runs.record import RunRecord, StudyRecord
from harness.runs.result import Result
from harness.runs.trial import Trial, write_trial

LR = {"low": 1e-4, "high": 1e-2, "log": True}


def ended(study: StudyRecord, objectives: list[float], **sweep: Any) -> StudyRecord:
    """The study with complete trials of these objectives instead of its own; they all began at 4."""
    runs = []
    for number, value in enumerate(objectives):
        directory = study.directory.trial(100 + number)
        directory.path.mkdir(parents=True)
        directory.metrics.append({"step": 0, "tokens": 0, "val/python/loss": 4.0})
        result = Result(state="complete", objective=value, metrics={"val/python/loss": value})
        trial = Trial(number=number, params={"optim.lr": 1e-4 * (number + 1)}, tokens=0)
        write_trial(directory, trial)
        runs.append(RunRecord(directory, result, study.name, trial, "complete"))
    return replace(study, runs=runs, sweep={**study.sweep, "constraints": {}, "space": {"optim.lr": LR}, **sweep})


def test_gains_and_the_margin_are_differences(study: StudyRecord) -> None:
    found = reasons(compare([ended(study, [2.0, 2.1, 2.5])], []))
    figures = {reason.name: (reason.figure, reason.words) for reason in found}
    assert figures["val/python/loss"] == ("2.0000", "one seed, not confirmed")
    assert figures["Gain over the start"] == ("2.0000", "4.0000 at step 0, 50% of it")
    assert figures["Gain over the median"] == ("0.1000", "2.1000 of 3 complete runs")
    assert figures["Ahead of the runner-up"] == ("0.1000", "cpt_python/0101; seed noise is not known")


def test_what_breaks_a_constraint_is_no_peer(study: StudyRecord) -> None:
    bounded = ended(study, [2.0, 2.1, 2.5, 1.0, 1.1], constraints={"val/python/loss": {"min": 1.5}})
    figures = {reason.name: (reason.figure, reason.words) for reason in reasons(compare([bounded], []))}
    assert figures["Gain over the median"] == ("0.1000", "2.1000 of 3 complete runs")
    assert figures["Ahead of the runner-up"] == ("0.1000", "cpt_python/0101; seed noise is not known")


def test_what_is_maximised_gains_by_rising(study: StudyRecord) -> None:
    objective = {"metric": "val/python/loss", "direction": "maximize"}
    found = {reason.name: reason.figure for reason in reasons(compare([ended(study, [2.0, 2.1, 2.5], objective=objective)], []))}
    assert found["Gain over the start"] == "−1.5000"
    assert found["Gain over the median"] == found["Ahead of the runner-up"] == "0.4000"


@pytest.mark.parametrize(("least", "said"), [(0.04, "2.5 times what seeds alone may do"), (0.3, "within seed noise: less than 0.3000")])
def test_the_margin_is_held_against_seed_noise(study: StudyRecord, least: float, said: str) -> None:
    comparison = compare([ended(study, [2.0, 2.1])], [])
    comparison.__dict__["noise"] = SeedNoise(least / 3, least, "a confirmation")
    assert said in reasons(comparison)[-1].words


def confirmed(study: StudyRecord, values: dict[int, float]) -> StudyRecord:
    """Confirmed over seeds 1 and 2, with the same value for both."""
    metric = "val/python/loss"
    plan = ConfirmationPlan(study.name, None, 1, [{"candidate": number, "seed": seed} for number in values for seed in (1, 2)])
    candidates = [
        Candidate(number, {seed: Result(state="complete", objective=value, metrics={metric: value}) for seed in (1, 2)}, metric, {})
        for number, value in values.items()
    ]
    return replace(study, confirmation=Confirmation(study.directory, plan, "minimize", candidates=candidates))


def test_a_winner_that_was_confirmed_alone_is_held_against_the_search(study: StudyRecord) -> None:
    searched = ended(study, [2.0, 2.1, 2.5])
    alone = compare([confirmed(searched, {0: 2.05})], [])
    alone.__dict__["noise"] = SeedNoise(0.1, 0.3, "a confirmation")
    assert reasons(alone)[-1].figure == "0.1000"
    assert reasons(alone)[-1].words == "cpt_python/0101 in the search; within seed noise: less than 0.3000"
    both = compare([confirmed(searched, {0: 2.05, 2: 2.15})], [])
    assert reasons(both)[-1].words.startswith("cpt_python/0102, ")


@pytest.mark.parametrize(
    ("words", "sentence"), [("not confirmed: one seed", "Not confirmed: one seed"), ("val/a/loss ≤ 1 holds", "val/a/loss ≤ 1 holds")]
)
def test_a_sentence_has_a_capital_but_no_metric(words: str, sentence: str) -> None:
    assert as_sentence(words) == sentence


@pytest.mark.parametrize(
    ("domain", "value", "found"),
    [
        (LR, 1e-4, "lower"),
        (LR, 1.2e-4, "lower"),
        (LR, 2e-4, None),  # 15 % of the way on the scale that is searched, 1 % of the plain range
        (LR, 9e-3, "upper"),
        ({"low": 0.0, "high": 0.5, "step": 0.05}, 0.5, "upper"),
        ({"low": 0.0, "high": 0.5, "step": 0.05}, 0.05, None),
        ({"choices": [8, 16, 32]}, 32, "upper"),
        ({"choices": [8, 16, 32]}, 16, None),
        ({"choices": [8, 16]}, 16, None),
        ({"choices": [32, 8, 16]}, 32, "upper"),
        ({"choices": [8, 16, 32], "ordered": True}, 32, "upper"),
        ({"choices": [3e-3, 1e-4, 1e-3], "ordered": True}, 3e-3, "first"),
        ({"choices": [3e-3, 1e-4, 1e-3], "ordered": True}, 1e-4, None),
        ({"choices": [None, 0.9, 0.99], "ordered": True}, 0.99, "last"),
        ({"choices": ["linear", "1-sqrt"], "ordered": True}, "linear", None),
        ({"low": 512, "high": 512}, 512, None),
        ({"choices": ["linear", "wsd", "cosine"]}, "wsd", None),
        ({"choices": [True, False]}, True, None),
    ],
)
def test_edges_by_hand(domain: dict[str, Any], value: Any, found: str | None) -> None:
    assert edge(domain, value) == found


def test_the_card_says_where_the_range_was_too_narrow(study: StudyRecord) -> None:
    comparison = compare([ended(study, [2.0, 2.1])], [])
    assert edges(comparison) == {"optim.lr": "at the lower edge of 1e-04 … 1e-02"}
    assert "<small>at the lower edge of 1e-04 … 1e-02</small>" in best_card(comparison)
    assert "harness confirm cpt_python" in best_card(comparison)


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ([1e-4, 1e-3, 1.0001e-4], "the first of 1e-04, 1e-03, 1.0001e-04"),
        ([1e-4, 1e-3, 3e-3], "at the lower edge of 1e-04, 1e-03, 3e-03"),
    ],
)
def test_choices_in_an_order_are_named_in_it(study: StudyRecord, choices: list[float], words: str) -> None:
    space = {"optim.lr": {"choices": choices, "ordered": True}}
    assert edges(compare([ended(study, [2.0, 2.1], space=space)], [])) == {"optim.lr": words}


def test_without_a_feasible_trial_the_nearest_is_named(study: StudyRecord) -> None:
    runs = [
        replace(run, result=replace(run.result, feasible=False, metrics={**run.result.metrics, "val/english/forgetting": 0.4 + index}))
        for index, run in enumerate(run for run in study.runs if run.state == "complete")
    ]
    card = best_card(compare([replace(study, runs=runs)], []))
    assert "Nearest: cpt_python/0000, val/english/forgetting 0.4 &gt; 0.3." in card
