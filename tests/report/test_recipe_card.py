"""A recipe's card, of a bundle made by hand."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from harness.report.confirmation_table import verdict
from harness.report.recipe_pictures import pictures
from harness.report.recipe_readme import confidence_text, readme, result_text, to_json
from harness.report.svg import Chart, Series
from harness.report.text import metric_text
from harness.runs.bundle import Bundle
from harness.runs.confirmation import confirmation_of
from harness.runs.confirmation_plan import ConfirmationPlan
from harness.runs.record import StudyRecord
from harness.runs.result import Result, Tokens
from harness.search.experiment_export import header_of

EXPERIMENT = "# @package _global_\n# study x\ndefaults:\n- cpt\n- _self_\noptim:\n  lr: 0.004\n"


def bundle_of(study: StudyRecord, **more: Any) -> Bundle:
    best = study.best
    assert best is not None
    made = Bundle(
        name="winner",
        created="2026-01-01",
        study=study.name,
        trial=best.number,
        trials=len(study.runs),
        base=[],
        task={"objective": "cpt", "adapter": "none"},
        model={"name": "org/base", "hub": "org/base"},
        datasets=["org/corpus"],
        metric=study.objective.metric,
        direction="minimize",
        objective=best.result.objective,
        confirmed=False,
        interval=None,
        seeds=[],
        noise=None,
        constraints=study.constraints,
        metrics=best.result.metrics,
        params=best.params,
        space=study.sweep["space"],
        seed=0,
        steps=1,
        tokens=Tokens(trained=1, budgeted=1),
        seconds=1.0,
        versions={},
        git_commit=None,
        fingerprints={},
        hardware={},
    )
    return replace(made, **more)


def test_the_hub_reads_what_it_is_about(study: StudyRecord) -> None:
    card = ModelCard(readme(bundle_of(study), [], experiment=EXPERIMENT))
    assert (card.data.base_model, card.data.datasets) == ("org/base", ["org/corpus"])
    assert card.data.tags == ["hyperparameters", "harness", "cpt"]
    (result,) = card.data.eval_results or []
    assert (result.metric_name, result.metric_type, result.dataset_name) == ("val/python/loss", "loss", "python")
    assert study.best is not None
    assert result.metric_value == study.best.result.objective


@pytest.mark.parametrize(
    ("more", "task"),
    [
        ({"served": [{"engine": "vLLM", "file": "vllm.json", "verdict": "exact"}]}, "sampling"),
        ({"task": {"objective": "cpt", "adapter": "steering"}}, "steering"),
        ({"ingredients": {"model.merge.ingredients.docs": {"path": "docs", "fingerprint": "0"}}}, "merging"),
        ({}, "evaluation"),
    ],
)
def test_what_trained_nothing_says_nothing_of_training(study: StudyRecord, more: dict[str, Any], task: str) -> None:
    sized = {"name": "org/base", "parameters": {"total": 7, "trained": 7}}
    card = readme(bundle_of(study, steps=0, model=sized, **more), [], experiment=EXPERIMENT)
    assert f"A configuration for {task} of org/base" in card
    assert ModelCard(card).data.tags == ["hyperparameters", "harness", task]
    assert "- model: org/base (7 parameters)" in card
    for word in ("cpt of", "learning rate", "trains it again"):
        assert word not in card


def test_the_values_come_first_and_can_be_pasted(study: StudyRecord) -> None:
    card = readme(bundle_of(study), [], experiment=EXPERIMENT)
    pasted = card.split("```yaml\n")[1].split("```")[0]
    assert pasted.startswith("# @package _global_\n")
    assert yaml.safe_load(pasted) == yaml.safe_load(EXPERIMENT)
    assert "Searched: `optim.lr=" in card
    assert card.index("```yaml") < card.index("harness reproduce")


def test_its_metrics_begin_with_the_objective_and_have_no_empty_column(study: StudyRecord) -> None:
    rows = [line for line in readme(bundle_of(study), [], experiment="").splitlines() if line.startswith(("| metric", "| val", "| **"))]
    assert rows[0] == "| metric | this run | bound |"
    assert rows[1].startswith("| **val/python/loss** | **2.")
    over = readme(bundle_of(study, confirmed=True, metrics_over_seeds={"val/python/loss": 2.5}), [], experiment="")
    assert "| **val/python/loss** | **2.3810** | **2.5000** |" in over


FORGETTING = "val/english/forgetting"


def over_seeds(study: StudyRecord, reached: list[tuple[float, float]]) -> StudyRecord:
    """Its best, and further trials, confirmed over three seeds: the loss and the forgetting of each."""
    best = study.best
    assert best is not None
    numbers = [best.number, *(run.number for run in study.runs if run is not best)][: len(reached)]
    plan = ConfirmationPlan(study.name, None, 1, [{"candidate": number or 0, "seed": seed} for number in numbers for seed in (1, 2, 3)])

    def result(number: int) -> Result:
        loss, forgetting = reached[number // 3]
        off = 0.01 * (number % 3 - 1) + 0.002 * (number % 2)
        metrics = {"val/python/loss": loss + off, FORGETTING: forgetting + off}
        return Result(state="complete", objective=loss + off, metrics=metrics)

    sweep = {**study.sweep, "constraints": {FORGETTING: {"max": 0.3, "chance": 0.6}}}
    return replace(study, sweep=sweep, confirmation=confirmation_of(study.directory, plan, sweep, result))


def recipe_of(study: StudyRecord, mean: float) -> tuple[list[str], Bundle]:
    """The header of the experiment of its best, and the bundle."""
    best, found = study.best, study.confirmation
    assert best is not None
    assert found is not None
    confirmed = study.is_confirmed(best)
    told = {
        "confirmed": confirmed,
        "seeds": [1, 2, 3],
        "confirmation": found.to_json(),
        "objective": mean,
        "interval": [mean - 1, mean + 1],
    }
    return header_of(study, best, "winner", {}), bundle_of(study, **told)


def test_a_winner_is_the_best_of_those_that_were_ranked(study: StudyRecord) -> None:
    confirmed = over_seeds(study, [(2.4, 0.1), (2.45, 0.1), (2.0, 0.9)])
    header, bundle = recipe_of(confirmed, 2.4)
    assert any(line.startswith("confirmed: the best of 2 candidates with probability") for line in header)
    assert "3 seeds, best of 2 with probability" in confidence_text(bundle)
    assert any("the best of these 2 with probability" in line for line in verdict(confirmed))
    assert result_text(bundle) == "2.4000 ± 1.0000"


def test_a_chance_is_no_bound_and_its_estimate_is_said(study: StudyRecord) -> None:
    header, _ = recipe_of(over_seeds(study, [(2.4, 0.1), (2.45, 0.1)]), 2.4)
    (line,) = [line for line in header if line.startswith(f"{FORGETTING}:")]
    assert re.fullmatch(
        r"\S+: 0\.1\d* \(<= 0\.3 with chance 0\.6; a fresh seed meets it with chance \d\.\d\d, from \d\.\d\d to \d\.\d\d\)", line
    )


def test_one_that_seeds_did_not_confirm_has_the_result_of_its_one_seed_everywhere(study: StudyRecord) -> None:
    header, bundle = recipe_of(over_seeds(study, [(2.4, 0.9)]), 2.4)
    assert study.best is not None
    found = study.best.result.objective
    assert found is not None
    assert f"val/python/loss: {found:.6g} (minimize; unconfirmed, one seed)" in header
    assert result_text(bundle) == metric_text(found)
    card = readme(bundle, [], experiment="")
    assert f"**val/python/loss: {metric_text(found)}** (minimize; unconfirmed, one seed)" in card
    assert "confirmed over" not in card
    listed = to_json(bundle, "there")
    assert (listed["objective"], listed["interval"]) == (found, None)


def test_choices_that_print_alike_are_told_apart(study: StudyRecord) -> None:
    space = {"optim.lr": {"choices": [0.0030001, 0.0030002, None]}}
    card = readme(bundle_of(study, params={"optim.lr": 0.0030002}, space=space), [], experiment="")
    assert "| optim.lr | 3.0002e-03 | 3.0001e-03, 3.0002e-03, null |" in card


def test_importances_of_few_trials_say_so(study: StudyRecord) -> None:
    said = readme(bundle_of(study, importances={"optim.lr": 0.4}, importances_note="rough: 6 trials, by fANOVA"), [], experiment="")
    assert "| importance (rough: 6 trials, by fANOVA) |" in said


def test_an_axis_within_one_decade_names_values() -> None:
    drawn = Chart("rates", "optim.lr", "loss", [Series("trials", [(1.2e-3, 2.0), (2.1e-3, 1.9)], "dots")], x_log=True).render()
    assert ">1e-03</text>" in drawn
    assert ">3e-03</text>" in drawn


@pytest.mark.parametrize("name", ["history.svg", "optim.lr.svg"])
def test_what_breaks_a_constraint_is_hollow_and_named(study: StudyRecord, name: str) -> None:
    drawn = pictures(bundle_of(study), study, [], shareable=lambda key, value: value)[name]
    complete = [run for run in study.runs if run.state == "complete"]
    infeasible = sum(run.result.feasible is False for run in complete)
    assert infeasible
    assert ">infeasible</text>" in drawn
    assert drawn.count("l5,5l-5,5l-5,-5z") == infeasible + 1  # and the legend's
    assert drawn.count('r="4"') == len(complete) - infeasible
    loose = replace(study, runs=[run for run in study.runs if run.result.feasible is not False])
    assert "infeasible" not in pictures(bundle_of(study), loose, [], shareable=lambda key, value: value)[name]
