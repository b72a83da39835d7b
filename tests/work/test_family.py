"""What a recipe says of the models that its merge is made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.config.overrides import parse
from harness.config.private import Scrub
from harness.config.schema import Config, IngredientConfig, MergeConfig, ModelConfig
from harness.config.validate import to_plain
from harness.runs.directory import RunDirectory
from harness.runs.files import write_yaml
from harness.runs.record import load_study
from harness.runs.result import Result, write_result
from harness.work.family import family_of, mergekit_words, with_single_models
from tests.report.synthetic_study import write_study


def config_of(model: ModelConfig, **more: Any) -> dict[str, Any]:
    return {"model": to_plain(model), "seed": 3, **more}


def write_run(path: Path, config: dict[str, Any], **fingerprints: str) -> None:
    run = RunDirectory(path)
    run.path.mkdir(parents=True)
    write_yaml(run.config, config)
    write_result(run, Result(state="complete", step=7, metrics={"val/docs/loss": 2.0}, fingerprints={**fingerprints}))


@pytest.fixture
def merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The configuration of a merge of a run, which went on from a merge of another, and of a directory."""
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    write_run(tmp_path / "runs" / "first", config_of(ModelConfig(path="/private/place/base")), data="d1")
    healed = MergeConfig(method="linear", ingredients={"x": IngredientConfig(path="first")})
    write_run(tmp_path / "runs" / "healed", config_of(ModelConfig(merge=healed)), **{"model.merge.ingredients.x": "f1"})
    ingredients = {"docs": IngredientConfig(path="healed@5", weight=0.5), "chat": IngredientConfig(path="/private/place/chat")}
    return config_of(ModelConfig(merge=MergeConfig(method="task_arithmetic", base="/private/place/base", ingredients=ingredients)))


def test_a_family_goes_down_to_what_was_not_made_here(merged: dict[str, Any]) -> None:
    given = {"model.merge.base": "b", "model.merge.ingredients.docs": "d", "model.merge.ingredients.chat": "c"}
    found = family_of(merged, given, Scrub())
    assert {key: (one["path"], one["fingerprint"], one["made_by"] is None) for key, one in found.items()} == {
        "model.merge.base": ("base", "b", True),
        "model.merge.ingredients.docs": ("healed@5", "d", False),
        "model.merge.ingredients.chat": ("chat", "c", True),
    }
    docs = found["model.merge.ingredients.docs"]["made_by"]
    assert (docs["run"], docs["step"], docs["metrics"]) == ("healed", 5, {"val/docs/loss": 2.0})
    first = docs["ingredients"]["model.merge.ingredients.x"]
    assert (first["path"], first["fingerprint"]) == ("first", "f1")
    assert first["made_by"]["config"]["model"]["path"] == "base", "nothing private is in it"
    assert (first["made_by"]["fingerprints"], first["made_by"]["ingredients"]) == ({"data": "d1"}, {})
    assert family_of(config_of(ModelConfig(path="x")), {}, Scrub()) == family_of({}, {}, Scrub()) == {}


def test_a_recipe_names_each_model_where_one_word_stood_for_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere nobody knows which trials were a study's best; their names can be typed."""
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    study = load_study(write_study(tmp_path / "runs"))
    first, second = (run.number for run in study.ranked[:2])
    soup = MergeConfig(method="linear", ingredients={"soup": IngredientConfig(path=f"study:{study.name}", top=2)})
    config = with_single_models(config_of(ModelConfig(merge=soup)))
    found = {name: (one["path"], one["weight"], one["top"]) for name, one in config["model"]["merge"]["ingredients"].items()}
    assert found == {f"soup-{number:04}": (f"{study.name}/{number}", 0.5, None) for number in (first, second)}
    family = family_of(config_of(ModelConfig(merge=soup)), {}, Scrub())
    assert list(family) == [f"model.merge.ingredients.soup-{number:04}" for number in (first, second)]
    assert all(one["made_by"]["config"]["optim"] for one in family.values())
    assert parse([f"{key}.path=elsewhere" for key in family], Config)


def test_mergekit_reads_models_and_no_runs(merged: dict[str, Any]) -> None:
    assert mergekit_words(merged, Scrub()) == (None, "healed@5 is a run, which harness export writes as a model that mergekit reads")
    merged["model"]["merge"]["ingredients"]["docs"]["path"] = "/private/place/docs"
    words, why = mergekit_words(merged, Scrub())
    assert why == ""
    assert words is not None
    assert (words["merge_method"], words["base_model"]) == ("task_arithmetic", "base")
    assert words["models"][0] == {"model": "docs", "parameters": {"weight": 0.5}}
    assert mergekit_words(config_of(ModelConfig(path="x")), Scrub()) == (None, "")
