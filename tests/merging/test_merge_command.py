"""harness merge: what it writes, and what it refuses before a weight is read."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shutil
import stat
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from harness.config.checks.merge import merge_problems
from harness.config.errors import InputError
from harness.config.load import load
from harness.config.merge_words import renamed_since
from harness.config.schema import IngredientConfig, MergeConfig, ModelConfig
from harness.config.validate import to_plain, to_section
from harness.merging.operands import Floats
from harness.merging.safetensors_files import StoredTensor, header_of
from harness.merging.source import from_float32, rounded
from harness.merging.write import write_merge
from harness.models.merged import ingredient_fingerprints, merge_plan
from harness.runs.directory import RunDirectory
from harness.runs.files import write_yaml
from harness.runs.result import Result, write_result
from harness.work.merge import as_overrides, in_short, plan_summary, refuse_changed_models
from tests.merging.models import CONFIG, EMBEDDING, HEAD, NORM, TOKENS, read_model, tensors, write_model
from tests.support.command import Done, call_harness

A, B = "model.merge.ingredients.a.path=a", "model.merge.ingredients.b.path=b"
ATTENTION, MLP = "model.layers.1.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with the models base, a and b."""
    for seed, name in enumerate(("base", "a", "b")):
        write_model(tmp_path / name, tensors(seed), licence="apache-2.0" if name == "a" else None)
    return tmp_path


def merge(home: Path, *words: str) -> Done:
    return call_harness("merge", "out", *words, cwd=home)


def merged(home: Path, *words: str) -> dict[str, Floats]:
    done = merge(home, *words)
    assert done.rc == 0, done
    return read_model(home / "out")


def refused(done: Done, home: Path) -> str:
    """The one message of a command that was refused, and has left nothing."""
    assert done.rc == 2, done
    assert "Traceback" not in done.stderr
    assert not [path.name for path in home.iterdir() if "out" in path.name]
    return done.stderr


def test_the_mean_by_weights_is_written(home: Path) -> None:
    found = merged(home, "--method", "linear", A, "model.merge.ingredients.a.weight=3", B)
    a, b = read_model(home / "a"), read_model(home / "b")
    assert found.keys() == a.keys()
    for name, value in found.items():
        np.testing.assert_allclose(value, 0.75 * a[name] + 0.25 * b[name], atol=1e-6)
    assert json.loads((home / "out" / "config.json").read_text()) == {**CONFIG, "dtype": "float32"}
    assert (home / "out" / "tokenizer.json").read_bytes() == (home / "a" / "tokenizer.json").read_bytes()


def test_ingredients_are_words_with_a_weight(home: Path) -> None:
    """NAME=MODEL:WEIGHT, --lambda and --density are keys of model.merge in short."""
    keys = ["method=ties", "base=base", "scale=0.5"]
    keys += [f"ingredients.{name}.{key}" for name, weight in (("a", "0.6"), ("b", "-1e-1")) for key in (f"path={name}", f"weight={weight}")]
    keys += [f"ingredients.{name}.density=0.4" for name in "ab"]
    assert call_harness("merge", "long", *(f"model.merge.{key}" for key in keys), cwd=home).rc == 0
    found = merged(home, "--method", "ties", "--base", "base", "--lambda", "0.5", "--density", "0.4", "a=a:0.6", "b=b:-1e-1")
    for name, value in read_model(home / "long").items():
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("a=./m:0.5", ["a.path='./m'", "a.weight=0.5"]),
        ("a_1=org/name@main:-2", ["a_1.path='org/name@main'", "a_1.weight=-2"]),
        ("a=base+lora", ["a.path='base+lora'"]),
        ("a=dir:with:colons", ["a.path='dir:with:colons'"]),
        ("study:cpt", ["cpt.path='study:cpt'"]),
        ("runs/cpt/trials/0007:2", ["runs_cpt_trials_0007.path='runs/cpt/trials/0007'", "runs_cpt_trials_0007.weight=2"]),
        ("../7b", ["model_7b.path='../7b'"]),
        ("seed=3", None),
        ("optim=adamw", None),
        ("experiment=evaluate", None),
        ("model.merge.scale=2", None),
    ],
)
def test_what_is_an_ingredient_and_what_a_key(word: str, wanted: list[str] | None) -> None:
    found = as_overrides([word])
    mean = [] if "=" in word else ["model.merge.method=linear"]
    assert found == ([word] if wanted is None else [*mean, *(f"model.merge.ingredients.{key}" for key in wanted)])


def test_models_without_names_are_their_mean(home: Path) -> None:
    found = merged(home, "a", "./b:3")
    a, b = read_model(home / "a"), read_model(home / "b")
    for name, value in found.items():
        np.testing.assert_allclose(value, 0.25 * a[name] + 0.75 * b[name], atol=1e-6)


def test_options_are_of_the_ingredients_that_may_have_them() -> None:
    words = in_short(["study:cpt", "run:long", "x=runs/short:2", "trunk:cpt/3", "base=org/name"], top=3, last=2, scale=None)
    assert words[2] == "x=run:runs/short:2"
    assert words[4] == "base=run:org/name", "last is of checkpoints"
    given = [f"{name}.last=2" for name in ("long", "x", "cpt_3", "base")]
    assert words[5:] == [f"model.merge.ingredients.{key}" for key in ("cpt.top=3", *given)]


def test_a_trial_that_merged_is_written_with_what_was_measured_of_it(home: Path) -> None:
    run = RunDirectory(home / "runs" / "mixed")
    run.path.mkdir(parents=True)
    keys = ["model=merge", "model.merge.method=linear", "seed=3", "trainer.max_steps=0", A, B, "model.merge.ingredients.b.weight=3"]
    write_yaml(run.config, to_plain(load(keys, checked_by=lambda config: None).config))
    write_result(run, Result(state="complete", metrics={"val/docs/loss": 2.25}))
    found = merged(home, "mixed")
    a, b = read_model(home / "a"), read_model(home / "b")
    for name, value in found.items():
        np.testing.assert_allclose(value, 0.25 * a[name] + 0.75 * b[name], atol=1e-6)
    assert "## How good it is\n\n- val/docs/loss 2.2500" in (home / "out" / "README.md").read_text()
    shutil.rmtree(home / "out")
    write_result(run, Result(state="complete", fingerprints={"model.merge.ingredients.a": "another"}))
    assert "model.merge.ingredients.a: it changed since mixed merged it" in refused(merge(home, "mixed"), home)
    assert "or first: harness merge OUT mixed" in refused(merge(home, "--method", "linear", "x=mixed"), home)
    assert "trained nothing; valid: harness merge out mixed" in refused(call_harness("export", "mixed", "out", cwd=home), home)


def test_models_that_an_older_version_named_otherwise_are_the_same_ones(home: Path) -> None:
    """Ingredients were called soup/0007 before they were soup-0007; random masks depend on it."""
    run = RunDirectory(home / "runs" / "mixed")
    run.path.mkdir(parents=True)
    soup = MergeConfig(
        method="dare_linear",
        base=str(home / "base"),
        ingredients={f"soup-{name}": IngredientConfig(path=str(home / name), density=0.5) for name in "ab"},
    )
    now = ingredient_fingerprints(soup)
    then = {key.replace("soup-", "soup/"): fingerprint for key, fingerprint in now.items()}
    assert then.keys() != now.keys()
    for method, fingerprints, problem in (
        ("task_arithmetic", then, None),
        ("dare_linear", now, None),
        (
            "dare_linear",
            then,
            r"an older version of harness called .* otherwise \(.*soup/a is .*soup-a now\), and the random masks of dare",
        ),
        ("task_arithmetic", then | {"model.merge.ingredients.soup/a": "another"}, r"soup-a: it changed since mixed merged it"),
    ):
        config = load(["model=merge", f"model.merge.method={method}", "trainer.max_steps=0"], checked_by=lambda config: None).config
        model = replace(config.model, merge=replace(soup, method=method))  # type: ignore[arg-type]
        write_yaml(run.config, to_plain(replace(config, model=model)))
        write_result(run, Result(state="complete", fingerprints=fingerprints))
        with pytest.raises(InputError, match=problem) if problem else contextlib.nullcontext():
            refuse_changed_models(run)


@pytest.mark.parametrize(
    ("then", "is_told"),
    [
        ({"model": "x", "model.merge.ingredients.soup/1": "a"}, True),
        ({"model": "x", "model.merge.ingredients.soup/1": "b"}, False),
        ({"model": "x", "model.merge.ingredients.soup-1": "a"}, False),
        ({"model": "x", "data.validation.a/b": "a"}, False),
    ],
)
def test_a_renaming_is_told_where_models_are_the_same(then: dict[str, str], is_told: bool) -> None:
    assert (renamed_since(then, {"model": "y", "model.merge.ingredients.soup-1": "a"}) is not None) is is_told


def test_others_may_read_what_the_umask_lets_them(home: Path) -> None:
    before = os.umask(0o027)
    try:
        merged(home, "--method", "linear", A, B)
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (home / "out").iterdir()}
    assert modes == {0o640}
    assert stat.S_IMODE((home / "out").stat().st_mode) == 0o750


def test_a_dry_run_says_what_would_be_made_and_makes_nothing(home: Path) -> None:
    done = merge(home, "--dry-run", "--json", "--method", "task_arithmetic", "--base", "base", A)
    assert done.rc == 0, done
    said = json.loads(done.stdout)
    assert (said["method"], said["tensors"], said["dtypes"], said["out"]) == ("task_arithmetic", 7, ["F32"], None)
    assert said["models"]["a"]["licence"] == "apache-2.0"
    assert said["bytes"] == sum(value.nbytes for value in tensors(0).values())
    assert not (home / "out").exists()


def test_the_card_holds_a_recipe_that_makes_the_same_again(home: Path) -> None:
    found = merged(home, "--method", "ties", "--base", "base", A, "model.merge.ingredients.a.density=0.4", B, "seed=3")
    card = (home / "out" / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front == {"library_name": "transformers", "tags": ["merge"]}  # the licences of two are not told
    assert "apache-2.0" in card
    (home / "again.yaml").write_text(card.partition("```yaml\n")[2].partition("```")[0])
    done = call_harness("merge", "again", "again.yaml", cwd=home)
    assert done.rc == 0, done
    again = read_model(home / "again")
    for name, value in found.items():
        np.testing.assert_array_equal(again[name], value)
    shutil.rmtree(home / "b")
    write_model(home / "b", tensors(7))
    changed = call_harness("merge", "other", "again.yaml", cwd=home)
    assert changed.rc == 2
    assert "again.yaml: b (b) changed since this recipe was written" in changed.stderr
    assert not (home / "other").exists()


def test_groups_of_tensors_have_weights_of_their_own(home: Path) -> None:
    groups = ["attention.part=attention", "late.layers=[0.5,1]", "ends.part=embeddings"]
    weights = ["attention=0.25", "late=0.5", "ends=0"]
    found = merged(
        home,
        *("--method", "task_arithmetic", "--base", "base", A),
        *(f"model.merge.groups.{group}" for group in groups),
        *(f"+model.merge.ingredients.a.weights.{weight}" for weight in weights),
    )
    a, base = read_model(home / "a"), read_model(home / "base")
    shares = {
        EMBEDDING: 0.0,
        NORM: 0.0,
        HEAD: 0.0,
        ATTENTION: 0.25,
        MLP: 0.5,
        MLP.replace("1", "0"): 1.0,
        ATTENTION.replace("1", "0"): 0.25,
    }
    for name, share in shares.items():
        np.testing.assert_allclose(found[name], base[name] + share * (a[name] - base[name]), atol=1e-6, err_msg=name)


def test_rounding_is_to_the_nearest_and_happens_once(home: Path) -> None:
    import torch

    found = merged(home, "--method", "linear", A, B, "model.merge.dtype=bfloat16")
    a, b = read_model(home / "a"), read_model(home / "b")
    for name, value in found.items():
        exact = np.float32(0.5) * a[name] + np.float32(0.5) * b[name]
        np.testing.assert_array_equal(value, torch.from_numpy(exact).bfloat16().float().numpy())
    assert json.loads((home / "out" / "config.json").read_text())["dtype"] == "bfloat16"


def test_large_models_are_written_in_several_files_that_are_one_model(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.merging.write.SHARD_BYTES", 200)
    whole = tensors(0)
    found = merged(home, "--method", "linear", "model.merge.ingredients.a.path=base")
    index = json.loads((home / "out" / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    assert index["metadata"]["total_size"] == sum(value.nbytes for value in whole.values())
    for name, value in whole.items():
        np.testing.assert_array_equal(found[name], value)


def test_rows_are_matched_by_token_and_what_a_model_lacks_counts_as_the_bases(tmp_path: Path) -> None:
    """b knows the tokens in another order, lacks f, has g, and has two rows of padding."""
    order = ("c", "a", "b", "e", "d", "g")
    write_model(tmp_path / "base", tensors(0))
    write_model(tmp_path / "b", tensors(2, rows=8), tokens=order, config={"vocab_size": 8})
    found = merged(tmp_path, "--method", "task_arithmetic", "--base", "base", B)
    base, b = read_model(tmp_path / "base"), read_model(tmp_path / "b")
    for name in (EMBEDDING, HEAD):
        for row, token in enumerate(TOKENS):
            wanted = b[name][order.index(token)] if token in order else base[name][row]
            np.testing.assert_allclose(found[name][row], wanted, atol=1e-6)


def test_without_a_base_a_missing_row_is_the_mean_of_its_owners(tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "b")):
        write_model(tmp_path / name, tensors(seed))
    write_model(tmp_path / "c", tensors(2, rows=5), tokens=TOKENS[:5], config={"vocab_size": 5})
    found = merged(tmp_path, "--method", "linear", A, B, "model.merge.ingredients.c.path=c")
    a, b = read_model(tmp_path / "a"), read_model(tmp_path / "b")
    np.testing.assert_allclose(found[EMBEDDING][5], (a[EMBEDDING][5] + b[EMBEDDING][5]) / 2, atol=1e-6)


@pytest.mark.parametrize("first", ["tied", "untied"])
def test_an_output_layer_is_untied_where_one_model_has_its_own(tmp_path: Path, first: str) -> None:
    write_model(tmp_path / "tied", tensors(0, tied=True), config={"tie_word_embeddings": True})
    write_model(tmp_path / "untied", tensors(1))
    second = {"tied": "untied", "untied": "tied"}[first]
    paths = [f"model.merge.ingredients.{name}.path={path}" for name, path in (("a", first), ("b", second))]
    done = merge(tmp_path, "--method", "linear", *paths)
    assert done.rc == 0, done
    assert "untied" in done.stderr
    found, tied, untied = (read_model(tmp_path / name) for name in ("out", "tied", "untied"))
    np.testing.assert_allclose(found[HEAD], (tied[EMBEDDING] + untied[HEAD]) / 2, atol=1e-6)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False


def _with(changes: dict[str, Any]) -> Callable[[Path], None]:
    """b with other tensors; None takes one away."""

    def make(home: Path) -> None:
        values = {name: value for name, value in (tensors(2) | changes).items() if value is not None}
        shutil.rmtree(home / "b")
        write_model(home / "b", values)

    return make


def _config(**changes: Any) -> Callable[[Path], None]:
    def make(home: Path) -> None:
        (home / "b" / "config.json").write_text(json.dumps({**CONFIG, **changes}))

    return make


def _cut(home: Path) -> None:
    path = home / "b" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def _pickle(home: Path) -> None:
    (home / "b" / "model.safetensors").rename(home / "b" / "pytorch_model.bin")


def _tokens(home: Path) -> None:
    (home / "b" / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {f"x{n}": n for n in range(6)}}, "added_tokens": []}))


LINEAR = ("--method", "linear", A, B)
NAN = np.full((4, 4), np.nan, dtype=np.float32)
LARGE = np.full((6, 4), 1e6, dtype=np.float32)
NEWER_ROPE = {"rope_theta": None, "rope_parameters": {"rope_theta": 7.0, "rope_type": "default"}}
NORM_OF_QUERIES = "model.layers.0.self_attn.q_norm.weight"
BAD_MODELS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "architecture": (_config(model_type="qwen3"), "b: model_type is qwen3, and llama in a"),
    "rope": (_config(rope_theta=500000.0), "b: its rotary positions differ from those of a (rope_theta 500000.0 and 10000.0)"),
    "newer rope": (_config(**NEWER_ROPE), "rope_theta 7.0 and 10000.0"),
    "heads": (_config(num_attention_heads=4), "b: num_attention_heads is 4, and 2 in a"),
    "quantized": (_config(quantization_config={"quant_method": "gptq"}), "b: its weights are quantized (gptq)"),
    "shape": (_with({MLP: np.zeros((5, 4), np.float32)}), f"b: {MLP} has the shape [5, 4], and [6, 4]"),
    "missing tensor": (_with({MLP: None}), f"b: it lacks the tensor {MLP}"),
    "further tensor": (_with({NORM_OF_QUERIES: np.ones(4, np.float32)}), f"b: it has {NORM_OF_QUERIES}, which a lacks"),
    "type": (_with({MLP: np.zeros((6, 4), np.int32)}), f"{MLP}: it holds floating point numbers in a alone"),
    "NaN": (_with({ATTENTION: NAN}), f"b: its weights hold NaN or infinite values (in {ATTENTION})"),
    "overflow": (_with({MLP: LARGE}), "more than F16 holds"),
    "vocabulary": (_tokens, "b: its vocabulary does not align with that of a: 0 of 6 tokens are in both"),
    "no tokenizer": (lambda home: (home / "b" / "tokenizer.json").unlink(), "b: no tokenizer.json"),
    "pickle": (_pickle, "model.merge.ingredients.b.path=b: its weights (pytorch_model.bin) are no safetensors"),
    "cut": (_cut, "the file is cut"),
    "empty": (lambda home: (home / "b" / "model.safetensors").write_bytes(b""), "model.safetensors: damaged"),
    "code": (_config(auto_map={"AutoModel": "x.Y"}), "auto_map"),
}
"""What is wrong with b, and what is said of it."""

BAD_WORDS: dict[str, tuple[tuple[str, ...], str]] = {
    "architecture": (LINEAR, "b: model_type is qwen3, and llama in a"),
    "no directory": (("--method", "linear", A, "model.merge.ingredients.b.path=./nope"), "model.merge.ingredients.b.path=./nope: no such"),
    "method": (("--method", "tis", A), "expected one of linear, task_arithmetic"),
    "no method": ((A,), "model.merge.method: required (--method) unless models have no names; valid: linear, "),
    "misspelt": (("--method", "ties", A, "model.merge.ingredients.a.densty=0.5"), "Did you mean 'model.merge.ingredients.a.density'?"),
    "sum": ((*LINEAR, "model.merge.ingredients.a.weight=-1"), "add up to 0"),
    "other key": ((*LINEAR, "optim.lr=1"), "optim.lr=1: says nothing of a merge; valid: [NAME=]MODEL[:WEIGHT]"),
    "top of one model": (("a", "--top", "2"), "--top 2: no ingredient stands for several models; valid: study:NAME"),
    "last of no run": (("a", "--last", "2"), "unknown run 'a'"),
    "beside a recipe": (("mergekit.yml", "--method", "ties"), "not beside a recipe, which says all; valid: seed=N"),
}

LINEAR_OF_AB = {"method": "linear", "ingredients": {"a": {"path": "a"}, "b": {"path": "b"}}}
TIES_OF_A = {"method": "ties", "base": "base", "ingredients": {"a": {"path": "a"}}}


def of_a(**values: Any) -> dict[str, Any]:
    return {"ingredients": {"a": {"path": "a", **values}}}


BAD_VALUES: dict[str, tuple[dict[str, Any], str]] = {
    "no base": ({**TIES_OF_A, "base": None}, "model.merge.base: required by ties"),
    "unread": (
        {**LINEAR_OF_AB, "scale": 0.5},
        "model.merge.scale=0.5: has no effect with model.merge.method=linear, only with task_arithmetic",
    ),
    "unread density": ({"method": "linear", **of_a(density=0.5)}, "a.density=0.5: has no effect"),
    "without a method": ({"base": "a"}, "model.merge.base: has no effect without model.merge.method"),
    "count": ({**LINEAR_OF_AB, "method": "slerp", "base": "base"}, "slerp takes 1, besides the base; given: a, b"),
    "share": ({**TIES_OF_A, "method": "slerp", **of_a(weight=2)}, "valid: 0 to 1"),
    "epsilon": ({**TIES_OF_A, "method": "della", **of_a(density=0.1)}, "density=0.1 ± epsilon=0.15 leaves (0, 1)"),
    "group": ({**TIES_OF_A, **of_a(weights={"mpl": 1.0}), "groups": {"mlp": {"part": "mlp"}}}, "Did you mean 'mlp'?"),
    "layers": ({**TIES_OF_A, "groups": {"late": {"layers": [0.5, 0.5]}}}, "groups.late.layers=[0.5, 0.5]"),
    "layers of none": ({**TIES_OF_A, "groups": {"ends": {"part": "embeddings", "layers": [0, 1]}}}, "embeddings are outside of the layers"),
    "stacks": ({**TIES_OF_A, "method": "passthrough"}, "valid: harness merge OUT mergekit.yml"),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_models_that_do_not_fit_are_one_message_and_leave_nothing(case: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    prepare, wanted = BAD_MODELS[case]
    prepare(home)
    values = {**LINEAR_OF_AB, **({"dtype": "float16"} if case == "overflow" else {})}
    with pytest.raises(InputError, match=re.escape(wanted)):
        write_merge(merge_plan(to_section(MergeConfig, values), seed=0), home / "out")
    assert not [path.name for path in home.iterdir() if "out" in path.name]


@pytest.mark.parametrize("case", BAD_VALUES)
def test_values_that_do_not_agree_are_found_without_any_file(case: str) -> None:
    values, wanted = BAD_VALUES[case]
    problems = list(merge_problems(ModelConfig(merge=to_section(MergeConfig, values))))
    assert any(wanted in problem for problem in problems), problems


@pytest.mark.parametrize("case", BAD_WORDS)
def test_the_command_refuses_in_one_message(case: str, home: Path) -> None:
    if case == "architecture":
        _config(model_type="qwen3")(home)
    (home / "mergekit.yml").write_text("merge_method: linear\nmodels: [{model: a}]\n")
    words, wanted = BAD_WORDS[case]
    assert wanted in refused(merge(home, *words), home)


def test_all_is_checked_before_a_weight_is_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan, with all that can be said of it, reads no tensor; nor does what refuses."""

    def read(self: StoredTensor, start: int, stop: int) -> Floats:
        raise AssertionError("a weight was read")

    monkeypatch.setattr(StoredTensor, "read", read)
    monkeypatch.setattr(StoredTensor, "raw", read)
    monkeypatch.chdir(home)
    made = merge_plan(to_section(MergeConfig, {**TIES_OF_A, "scope": "model"}), seed=0)
    assert plan_summary(made)["bytes_read"] == 2 * made.bytes
    done = merge(home, "--dry-run", *LINEAR)
    assert done.rc == 0, done
    _with({MLP: None})(home)
    refused(merge(home, *LINEAR), home)


def test_a_merge_that_breaks_off_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a model would be loaded by whoever finds it."""
    monkeypatch.chdir(home)
    plan = merge_plan(to_section(MergeConfig, LINEAR_OF_AB), seed=0)
    seen: list[list[str]] = []

    def stop(done: int, total: int) -> None:
        seen.append([path.name for path in home.iterdir() if "out" in path.name])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_merge(plan, home / "out", progress=stop)
    (names,) = seen
    assert re.fullmatch(r"\.out\.\w+", names[0])  # written beside it, until all is there
    assert not [path.name for path in home.iterdir() if "out" in path.name]


PEAK = """
import resource, sys
from pathlib import Path
from harness.config.schema import MergeConfig
from harness.config.validate import to_section
from harness.merging.methods import build
from harness.merging.write import write_merge
from harness.models.merged import merge_plan

plan = merge_plan(to_section(MergeConfig, eval(sys.argv[1])), seed=0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_merge(plan, Path("out"))
print(plan.bytes, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ties", "slerp"])
def test_memory_depends_neither_on_the_model_nor_on_its_largest_tensor(method: str, tmp_path: Path) -> None:
    """A matrix of 134 million numbers, 268 MB, of files without content: at most 200 MB above the imports."""
    values = {EMBEDDING: np.zeros((4, 4), np.float32), MLP: np.zeros((6, 4), np.float32)}
    shapes = {EMBEDDING: (1 << 17, 1 << 10), MLP: (64, 1 << 10)}
    for name in ("base", "a"):
        write_model(tmp_path / name, values, tokens=None)
        entries = [(tensor, "BF16", shape, 2 * math.prod(shape)) for tensor, shape in shapes.items()]
        with (tmp_path / name / "model.safetensors").open("wb") as stream:
            stream.write(header_of(entries))
            stream.truncate(stream.tell() + sum(size for *_, size in entries))
    told = {**TIES_OF_A, "method": method, **of_a(**({"density": 0.2} if method == "ties" else {}))}
    done = subprocess.run([sys.executable, "-c", PEAK, repr(told)], cwd=tmp_path, capture_output=True, text=True, check=True)
    size, peak = map(int, done.stdout.split())
    assert size > 268_000_000
    assert peak < 200_000_000


def test_a_directory_that_is_in_use_is_left_alone(home: Path) -> None:
    done = call_harness("merge", "a", *LINEAR, cwd=home)
    assert done.rc == 2
    assert "a: exists and is not empty" in done.stderr


def test_a_disk_without_room_is_found_before(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda place: namedtuple("Usage", "free")(100))
    assert "its disk has 0 MB left" in refused(merge(home, *LINEAR), home)


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F64", "F32"])
def test_stored_numbers_are_those_that_are_read_again(dtype: str) -> None:
    values = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    once = rounded(values, dtype)
    np.testing.assert_array_equal(rounded(once, dtype), once)
    assert from_float32(values, dtype).shape == values.shape
    np.testing.assert_allclose(once, values, rtol={"BF16": 2**-8, "F16": 2**-11}.get(dtype, 0))
