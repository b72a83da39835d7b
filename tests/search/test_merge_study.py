"""The sweep over merges: a parameter for each ingredient, what has to be beaten first, and nothing chosen by what is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.search.load_sweep import load_sweep
from harness.search.wildcards import spelt_out
from tests.merging.models import tensors, write_model
from tests.search.conftest import WriteSweep

WEIGHT = "model.merge.ingredients.{}.weight"


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    """What sweeps/merge.yaml leaves to the user."""
    for seed, name in enumerate(("base", "docs", "chat")):
        write_model(tmp_path / name, tensors(seed))
        (tmp_path / f"{name}.jsonl").write_text('{"text": "a b c"}\n')
    models = [f"model.merge.ingredients.{name}.path={tmp_path / name}" for name in ("docs", "chat")]
    return [f"model.merge.base={tmp_path / 'base'}", *models, *(f"data.validation.{n}.path={tmp_path}/{n}.jsonl" for n in ("docs", "chat"))]


def test_each_ingredient_has_parameters_and_baselines_come_first(given: list[str]) -> None:
    sweep = load_sweep("merge", given)
    keys = {parameter.key: parameter for parameter in sweep.space.parameters}
    assert {WEIGHT.format(name) for name in ("docs", "chat")} < keys.keys()
    assert keys["model.merge.ingredients.docs.density"].when == {"model.merge.method": ("ties", "dare_ties")}
    points = [(point[WEIGHT.format("docs")], point[WEIGHT.format("chat")]) for point in sweep.start.points]
    assert points == [(1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (0.3, 0.3), (0.7, 0.7), (1.0, 1.0)], "the mean of two is scale 0.5"
    assert {point["model.merge.method"] for point in sweep.start.points} == {"task_arithmetic"}
    assert not any("model.merge.scale" in point for point in sweep.start.points), "task_arithmetic has it at 1"
    assert sweep.start.notes == []
    config = sweep.trial_config(sweep.start.points[0])
    assert (config.trainer.max_steps, config.data.report_share) == (0, 0.5)


def test_a_baseline_that_the_space_lacks_is_left_out_and_that_is_said(given: list[str]) -> None:
    narrow = load_sweep("merge", [*given, "space.model.merge.ingredients.*.weight.low=0.2", "~space.model.merge.ingredients.*.density"])
    assert len(narrow.start.points) == 4
    assert narrow.start.notes[0] == (
        "search.warm_start[0]: baselines: docs alone is left out, the space has no model.merge.ingredients.chat.weight=0.0"
    )
    fixed = load_sweep("merge", [*given, "~space.model.merge.method", "model.merge.method=dare_linear", "~space.model.merge.scale"])
    assert fixed.start.points == []
    assert "docs alone is left out, the space has no model.merge.method=task_arithmetic" in fixed.start.notes[0]


def test_healing_is_searched_beside_the_weights(given: list[str], tmp_path: Path) -> None:
    heal = ["space.trainer.max_steps={choices: [0, 20]}", f"data.sources.docs.path={tmp_path}/base.jsonl", "data.context_length=16"]
    sweep = load_sweep("merge", [*given, *heal])
    assert {point["trainer.max_steps"] for point in sweep.start.points} == {0}
    assert sweep.trial_config({"trainer.max_steps": 20, WEIGHT.format("docs"): 0.4}).trainer.max_steps == 20


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["objective.metric=val/docs/report/loss"],
            r"objective\.metric=val/docs/report/loss: is measured on what is kept.*valid: val/docs/loss",
        ),
        (["constraints.val/docs/report/loss.max=2"], r"constraints=val/docs/report/loss: is measured on what is kept for the report"),
        (
            ["search.prior={model.merge.ingredients.docz.weight: {mean: 1, spread: 2}}"],
            r"unknown parameter 'model\.merge\.ingredients\.docz",
        ),
        (["model.merge.ingredients.docs.densty=0.5"], r"densty"),
        (["data.mean_loss=false"], r"unknown metric 'val/mean/loss'"),
    ],
)
def test_bad_questions_are_refused(given: list[str], overrides: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_sweep("merge", [*given, *overrides])


def test_baselines_are_of_merges(write_sweep: WriteSweep) -> None:
    with pytest.raises(InputError, match=r"search\.warm_start\[0\]=baselines: these are of merges, and model\.merge\.method is null"):
        load_sweep(str(write_sweep(search={"name": "random", "warm_start": "baselines"})), [])


def test_a_star_stands_for_every_entry() -> None:
    base = {"a": {"x": {"w": 1}, "y": {"w": 2}}, "b": {}}
    one: dict[str, Any] = {"low": 0, "high": 1}
    assert spelt_out({"a.*.w": one, "c": one}, base) == {"a.x.w": one, "a.y.w": one, "c": one}
    assert spelt_out({"a.x.w": {"low": 5}, "a.*.w": one}, base) == {"a.x.w": {"low": 5}, "a.y.w": one}
    when = {**one, "when": {"a.*.kind": "k", "m": 1}}
    assert spelt_out({"a.*.w": when}, base)["a.y.w"]["when"] == {"a.y.kind": "k", "m": 1}
    for key in ("b.*.w", "nothing.*.w"):
        with pytest.raises(InputError, match=rf"space\.{key[0]}.*has no entries for \* to stand for"):
            spelt_out({key: one}, base)
