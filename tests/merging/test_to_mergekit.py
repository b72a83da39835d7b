"""A configuration's merge in mergekit's words is read again as the same merge, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from harness.config.errors import InputError
from harness.config.merge_methods import METHODS
from harness.config.schema import IngredientConfig, MergeConfig, TensorGroupConfig
from harness.merging.folder import folder_source
from harness.merging.from_config import recipe_of
from harness.merging.mergekit import read_mergekit
from harness.merging.plan import plan_merge
from harness.merging.recipe import Recipe
from harness.merging.to_mergekit import to_mergekit
from tests.merging.models import merged_values, tensors, write_model

OWN: dict[str, dict[str, Any]] = {
    "task_arithmetic": {"scale": 0.8},
    "linear": {"normalize": False},
    "multislerp": {"normalize": False},
    "ties": {"scale": 1.2},
    "breadcrumbs": {"gamma": 0.1},
    "dare_linear": {"rescale": "none"},
    "della": {"epsilon": 0.2},
    "sce": {"topk": 0.5},
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("base", "a", "b")):
        write_model(home / name, tensors(seed))
    return home


def merge_of(home: Path, method: Any) -> MergeConfig:
    facts = METHODS[method]
    names = ("a", "b") if facts.most != 1 else ("a",)
    given = {"weight": 0.4, "density": 0.5}
    read: dict[str, Any] = {name: value for name, value in given.items() if name in facts.of_ingredients}
    ingredients = {name: IngredientConfig(path=str(home / name), **read) for name in names}
    base = None if facts.base == "none" else str(home / "base")
    return MergeConfig(method=method, base=base, ingredients=ingredients, **OWN.get(method, {}))


def values_of(recipe: Recipe) -> dict[str, Any]:
    sources = {name: folder_source(Path(word), word, key="model") for name, word in recipe.words.items()}
    return merged_values(plan_merge(recipe, sources))


@pytest.mark.parametrize("method", [method for method in METHODS if method != "passthrough"])
def test_it_is_the_same_merge(method: str, home: Path, tmp_path: Path) -> None:
    merge = merge_of(home, method)
    path = tmp_path / "mergekit.yml"
    path.write_text(yaml.safe_dump(to_mergekit(merge)))
    ours, theirs = values_of(recipe_of(merge, seed=0)), values_of(read_mergekit(path, seed=0))
    assert ours.keys() == theirs.keys()
    chance = method.startswith(("dare", "della"))
    for name, value in ours.items():
        if chance:  # masks depend on what an ingredient is called
            assert value.shape == theirs[name].shape
        else:
            np.testing.assert_array_equal(value, theirs[name])
    if chance:
        values = yaml.safe_load(path.read_text())
        assert {one["parameters"]["density"] for one in values["models"]} == {0.5}


def test_what_mergekit_has_no_words_for_is_named(home: Path) -> None:
    grouped = merge_of(home, "task_arithmetic")
    grouped.groups = {"mlp": TensorGroupConfig(part="mlp")}
    grouped.ingredients["a"].weights = {"mlp": 0.3}
    whole, paper = merge_of(home, "ties"), merge_of(home, "dare_ties")
    scaled = merge_of(home, "sce")
    whole.scope, paper.rescale, scaled.scale = "model", "density", 0.9
    for merge, what in (
        (grouped, "weights of groups"),
        (whole, r"model\.merge\.scope=model"),
        (paper, r"model\.merge\.rescale=density"),
        (scaled, r"model\.merge\.scale of sce"),
    ):
        with pytest.raises(InputError, match=f"mergekit has no words for {what}"):
            to_mergekit(merge)
