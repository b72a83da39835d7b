"""mergekit's recipes: what they mean here, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from harness.config.errors import InputError
from harness.merging.adapter import plan_adapter
from harness.merging.mergekit import read_mergekit, setting
from harness.merging.operands import Floats
from harness.merging.plan import Plan, plan_merge
from harness.merging.recipe import Place
from harness.merging.vocabulary import read_vocabulary
from harness.merging.write import write_merge
from harness.models.ingredients import sources_of
from tests.merging.models import EMBEDDING, HEAD, NORM, TOKENS, merged_values, read_model, tensors, write_model

ATTENTION = ["model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.q_proj.weight"]
MLP = ["model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"]
MODELS = [{"model": "a"}, {"model": "b"}]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the models base, a and b."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("base", "a", "b")):
        write_model(tmp_path / name, tensors(seed))
    return tmp_path


def plan(document: dict[str, Any], home: Path) -> Plan:
    path = home / "mergekit.yml"
    path.write_text(yaml.safe_dump(document))
    recipe = read_mergekit(path, seed=0)
    return plan_merge(recipe, sources_of(recipe))


def both(home: Path) -> tuple[dict[str, Floats], dict[str, Floats]]:
    return read_model(home / "a"), read_model(home / "b")


def test_filters_and_gradients_say_how_much_of_each_tensor(home: Path) -> None:
    """The first filter that matches wins; a gradient runs over the layers, and what is outside of them has its first value."""
    weight = [{"filter": "self_attn", "value": [0, 1]}, {"filter": "norm", "value": 0.5}, {"value": 0.25}]
    models = [{"model": "base"}, {"model": "a", "parameters": {"weight": weight}}]
    values = merged_values(plan({"merge_method": "task_arithmetic", "base_model": "base", "models": models}, home))
    base, a = read_model(home / "base"), read_model(home / "a")
    for name, share in {ATTENTION[0]: 0.0, ATTENTION[1]: 1.0, NORM: 0.5, MLP[0]: 0.25, EMBEDDING: 0.25, HEAD: 0.25}.items():
        np.testing.assert_allclose(values[name], base[name] + share * (a[name] - base[name]), atol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("value", "depths", "wanted"),
    [
        ([0, 0.5, 1], [0, 1, 2, 3, 4], [0, 0.25, 0.5, 0.75, 1]),
        ([0.25, 1], [0, 2, 4], [0.25, 0.625, 1]),
        ([0.5], [0, 4], [0.5, 0.5]),
        (0.75, [0, 4], [0.75, 0.75]),
        ([1, 0, 0, 0, 0], [0, 1, 2], [1, 0, 0]),
    ],
)
def test_gradients_are_straight_between_their_values(value: Any, depths: list[int], wanted: list[float]) -> None:
    found = [setting(value)(Place("t", depth, 5)) for depth in depths]
    assert found == pytest.approx(wanted)
    assert setting(value)(Place("model.embed_tokens.weight", None, 5)) == pytest.approx(wanted[0])


def test_slerp_leads_from_the_base_that_is_listed_to_the_other(home: Path) -> None:
    values = merged_values(plan({"merge_method": "slerp", "base_model": "a", "models": MODELS, "parameters": {"t": 1}}, home))
    _, b = both(home)
    for name, value in values.items():
        np.testing.assert_allclose(value, b[name], atol=1e-6)


def test_layers_are_stacked_and_the_configuration_counts_them(home: Path) -> None:
    slices = [
        {"sources": [{"model": "a", "layer_range": [0, 2]}]},
        {"sources": [{"model": "b", "layer_range": [1, 2], "parameters": {"scale": [{"filter": "up_proj", "value": 0}, {"value": 1}]}}]},
    ]
    made = plan({"merge_method": "passthrough", "slices": slices, "dtype": "float32"}, home)
    values, (a, b) = merged_values(made), both(home)
    assert made.config["num_hidden_layers"] == 3
    np.testing.assert_array_equal(values[EMBEDDING], a[EMBEDDING])
    np.testing.assert_array_equal(values[HEAD], b[HEAD])
    np.testing.assert_array_equal(values[ATTENTION[1]], a[ATTENTION[1]])
    np.testing.assert_array_equal(values["model.layers.2.self_attn.q_proj.weight"], b[ATTENTION[1]])
    assert not values["model.layers.2.mlp.up_proj.weight"].any()


def test_the_tokenizer_is_that_of_the_model_that_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "a", tensors(0))
    write_model(tmp_path / "b", tensors(1), tokens=("f", "e", "d", "c", "b", "a"))
    made = plan({**LINEAR, "parameters": {"weight": 1}, "tokenizer": {"source": "b"}}, tmp_path)
    values, (a, b) = merged_values(made), both(tmp_path)
    assert made.tokens.label == "b"
    np.testing.assert_allclose(values[EMBEDDING], (a[EMBEDDING][::-1] + b[EMBEDDING]) / 2, atol=1e-6)


ADDED = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}


@pytest.fixture
def union_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a, and b and c, which have added the tokens <x> and <y>, and <z> and <x>."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "a", tensors(0))
    for seed, (name, added) in enumerate({"b": ["<x>", "<y>"], "c": ["<z>", "<x>"]}.items(), 1):
        write_model(tmp_path / name, tensors(seed, rows=8))
        path = tmp_path / name / "tokenizer.json"
        document = json.loads(path.read_text())
        document["added_tokens"] = [{"id": 6 + index, "content": token, **ADDED} for index, token in enumerate([*added, "<no row>"])]
        path.write_text(json.dumps(document))
    return tmp_path


def test_a_union_has_the_tokens_that_others_added(union_home: Path) -> None:
    """Behind those of the first, with padding between where it has some; rows of its own where one model has the token, else their mean."""
    models = [{"model": name} for name in "abc"]
    made = plan({**UNION, "models": models}, union_home)
    values, (a, b), c = merged_values(made), both(union_home), read_model(union_home / "c")
    assert made.config["vocab_size"] == 9
    with pytest.raises(InputError, match=r"--adapter: not with tokenizer\.source=union"):
        plan_adapter(plan({**UNION, "merge_method": "task_arithmetic", "base_model": "a", "models": models[1:]}, union_home), rank=2)
    assert made.notes[-1] == "tokens of other models are added: <x>, <y>, <z>"
    for name in (EMBEDDING, HEAD):
        x, y, z = (b[name][6] + c[name][7]) / 2, b[name][7], c[name][6]
        np.testing.assert_allclose(values[name], [*(a[name] + b[name][:6] + c[name][:6]) / 3, x, y, z], atol=1e-6)
    write_merge(made, union_home / "out")
    written = json.loads((union_home / "out" / "tokenizer.json").read_text())["added_tokens"]
    assert written == [{"id": 6 + index, "content": token, **ADDED} for index, token in enumerate(["<x>", "<y>", "<z>"])]
    assert read_vocabulary(union_home / "out") == {**{token: index for index, token in enumerate(TOKENS)}, "<x>": 6, "<y>": 7, "<z>": 8}


def test_rows_that_no_model_of_a_slice_has_are_those_of_the_others(union_home: Path) -> None:
    """The embedding is the first slice's, the output layer the last one's; who has a row there counts before those of other slices."""
    slices = [{"sources": [{"model": name, "layer_range": [layer, 1 + layer]}]} for layer, name in ((0, "a"), (0, "b"), (1, "c"))]
    made = plan({"merge_method": "passthrough", "slices": slices, "tokenizer": {"source": "union"}}, union_home)
    values, (a, b), c = merged_values(made), both(union_home), read_model(union_home / "c")
    x, y, z = (b[EMBEDDING][6] + c[EMBEDDING][7]) / 2, b[EMBEDDING][7], c[EMBEDDING][6]
    np.testing.assert_allclose(values[EMBEDDING], [*a[EMBEDDING], x, y, z], atol=1e-6)
    np.testing.assert_array_equal(values[HEAD], [*c[HEAD][:6], c[HEAD][7], b[HEAD][7], c[HEAD][6]])
    read = {target.name: [source.label for source, _ in target.sources] for target in made.targets}
    assert (read[EMBEDDING], read[HEAD], read[NORM]) == (["a", "b", "c"], ["c", "b"], ["c"]), "what is read, and no other"


def test_words_that_were_learned_are_in_no_union(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "a", tensors(0))
    write_model(tmp_path / "b", tensors(1), tokens=("a", "b", "c", "d", "e", "g"))
    with pytest.raises(
        InputError, match=r"tokenizer\.source=union: b: 1 tokens that a lacks \('g'\) were learned .*; valid: base, or one of"
    ):
        plan(UNION, tmp_path)
    write_model(tmp_path / "c", tensors(0), tokens=None)
    with pytest.raises(InputError, match=r"tokenizer\.source=union: c has no tokenizer\.json"):
        plan({**UNION, "models": [{"model": "c"}, {"model": "a"}]}, tmp_path)


def test_a_recipes_seed_is_that_of_its_masks(home: Path) -> None:
    path = home / "mergekit.yml"
    path.write_text(yaml.safe_dump({**LINEAR, "random_seed": 7}))
    assert read_mergekit(path).seed == 7
    assert read_mergekit(path, seed=0).seed == 0, "what is given beside the recipe counts"
    path.write_text(yaml.safe_dump({**LINEAR, "random_seed": -1}))
    with pytest.raises(InputError, match="random_seed=-1"):
        read_mergekit(path)


def test_a_model_may_be_spelled_out(home: Path) -> None:
    """As mergekit writes those whose path has a space in it."""
    of_hub = {"model": {"path": "x/y", "revision": "main"}, "lora": {"path": "z", "revision": None}, "override_architecture": None}
    document = {**LINEAR, "models": [{"model": {"model": {"path": "a"}}}, {"model": of_hub}], "tokenizer": {"source": {"model": "a"}}}
    (home / "mergekit.yml").write_text(yaml.safe_dump(document))
    recipe = read_mergekit(home / "mergekit.yml")
    assert list(recipe.words) == ["a", "x/y@main+z"]
    assert recipe.tokens == "a"


LINEAR: dict[str, Any] = {"merge_method": "linear", "models": MODELS}
UNION: dict[str, Any] = {**LINEAR, "parameters": {"weight": 1}, "tokenizer": {"source": "union"}}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "method": ({**LINEAR, "merge_method": "dare-ties"}, "unknown merge_method 'dare-ties'. Did you mean 'dare_ties'?"),
    "key": ({**LINEAR, "basemodel": "a"}, "unknown key 'basemodel'. Did you mean 'base_model'?"),
    "parameter": (
        {"merge_method": "ties", "base_model": "base", "models": [{"model": "a", "parameters": {"densty": 0.5}}]},
        "merge_method=ties: unknown parameter 'densty'. Did you mean 'density'?",
    ),
    "value": ({**LINEAR, "parameters": {"weight": "much"}}, "valid: a number, true or false, a list of numbers"),
    "no weight": (LINEAR, "a: no weight for model.embed_tokens.weight"),
    "no t": ({"merge_method": "slerp", "base_model": "a", "models": MODELS}, "b: no t for"),
    "by column": (
        {"merge_method": "nuslerp", "models": MODELS, "parameters": {"weight": 1, "nuslerp_row_wise": True}},
        "parameters.nuslerp_row_wise=True: is not offered with nuslerp; valid: False",
    ),
    "base of none": ({**LINEAR, "base_model": "base"}, "base_model=base: linear has no base"),
    "no base": ({**LINEAR, "merge_method": "ties"}, "base_model: required by ties"),
    "both": ({**LINEAR, "slices": [{"sources": [{"model": "a"}]}]}, "give either models, or slices"),
    "count": (
        {**LINEAR, "merge_method": "slerp", "base_model": "base", "parameters": {"t": 0.5}},
        "takes 1 model besides the base; given: 2",
    ),
    "mapping": (
        {**LINEAR, "models": [{"model": {"model": "a", "adapter": "b"}}]},
        "model={'adapter': 'b', 'model': 'a'}: valid: MODEL, MODEL+LORA",
    ),
    "modules": ({"merge_method": "linear", "modules": {}}, "modules: models of several towers"),
    "layers": (
        {"merge_method": "passthrough", "slices": [{"sources": [{"model": "a", "layer_range": [0, 3]}]}]},
        "layer_range=[0, 3]: a has 2 layers",
    ),
    "lengths": (
        {
            "merge_method": "linear",
            "slices": [{"sources": [{"model": "a", "layer_range": [0, 2]}, {"model": "b", "layer_range": [0, 1]}]}],
        },
        "a slice has parts of 1 and 2 layers",
    ),
    "tokenizer": ({**LINEAR, "tokenizer_source": "c"}, "tokenizer.source=c: none of the recipe's models; valid: base, union, a, b"),
    "dtype": ({**LINEAR, "dtype": "int8"}, "dtype=int8: valid: float64, float32, float16, bfloat16"),
    "template": ({**LINEAR, "chat_template": "chatml"}, "templates by name are not offered"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_we_do_not_have_is_refused(case: str, home: Path) -> None:
    document, wanted = BAD[case]
    with pytest.raises(InputError) as refused:
        plan(document, home)
    assert wanted in str(refused.value)


def test_a_strangers_recipe_names_no_place_outside_of_the_working_directory(home: Path) -> None:
    folder = home / "downloaded"
    folder.mkdir()
    for word in ("/etc", "b+/etc"):
        (folder / "mergekit.yml").write_text(yaml.safe_dump({"merge_method": "linear", "models": [{"model": word}, {"model": "a"}]}))
        with pytest.raises(InputError, match="outside of the working directory"):
            read_mergekit(folder / "mergekit.yml", seed=0)
