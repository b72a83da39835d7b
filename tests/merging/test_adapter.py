"""LoRA adapters: added to their base, summed, cut to a rank, and taken from two models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from harness.config.errors import InputError
from harness.config.schema import MergeConfig
from harness.config.validate import to_section
from harness.merging import low_rank
from harness.merging.adapter import AdapterSummary, plan_adapter, write_adapter
from harness.merging.low_rank import nearest_factors
from harness.merging.operands import Floats
from harness.models.ingredients import ingredient
from harness.models.merged import merge_plan
from tests.merging.models import CONFIG, MODULES, NORM, read_model, tensors, write_adapter_files, write_model
from tests.support.command import call_harness

ATTENTION = [module for module in MODULES if "attn" in module]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the model base and the adapters a, of all matrices, and b, of attention alone."""
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "base", tensors(0))
    write_adapter_files(tmp_path / "a", "base", 1)
    write_adapter_files(tmp_path / "b", "base", 2, rank=1, modules=ATTENTION, use_rslora=True)
    return tmp_path


def update(folder: Path, module: str, scaling: float) -> Floats:
    """scaling · B A of a module, or zeros."""
    factors = load_file(folder / "adapter_model.safetensors")
    names = [f"base_model.model.{module}.lora_{factor}.weight" for factor in "BA"]
    product: Floats = factors[names[0]] @ factors[names[1]] if names[0] in factors else np.zeros((1, 1), np.float32)
    return np.float32(scaling) * product


def merge(**values: Any) -> MergeConfig:
    ingredients = values.pop("ingredients", {"a": {"path": "a", "weight": 0.6}, "b": {"path": "b", "weight": -0.5}})
    return to_section(MergeConfig, {"method": "task_arithmetic", "base": "base", "ingredients": ingredients, **values})


def written(config: MergeConfig, *, rank: int | None = None) -> AdapterSummary:
    return write_adapter(plan_adapter(merge_plan(config, seed=0), rank=rank), Path("out"))


def loaded(word: str) -> dict[str, Floats]:
    source = ingredient(word, key="model")
    return {name: tensor.read(0, tensor.shape[0]).reshape(tensor.dimensions) for name, tensor in source.tensors.items()}


def test_an_adapter_is_its_base_and_the_scaled_product(home: Path) -> None:
    base, a, b = read_model(home / "base"), loaded("a"), loaded("base+b")
    for module in MODULES:
        name = f"{module}.weight"
        np.testing.assert_allclose(a[name], base[name] + update(home / "a", module, 4 / 2), atol=1e-6)
        np.testing.assert_allclose(b[name], base[name] + update(home / "b", module, 4 / 1), atol=1e-6)  # rsLoRA: by the root of rank 1
    np.testing.assert_array_equal(a[NORM], base[NORM])


def test_modules_may_have_an_alpha_of_their_own(home: Path) -> None:
    write_adapter_files(home / "c", "base", 3, alpha_pattern={"layers.1.self_attn.q_proj": 1})
    base, c = read_model(home / "base"), loaded("c")
    for module, alpha in zip(ATTENTION, (4, 1), strict=True):
        np.testing.assert_allclose(c[f"{module}.weight"], base[f"{module}.weight"] + update(home / "c", module, alpha / 2), atol=1e-6)


def test_matrices_that_are_kept_the_other_way_round_are_updated_so(home: Path) -> None:
    """As GPT-2's are, square ones too."""
    write_model(home / "gpt", tensors(4), config={"model_type": "gpt2"})
    write_adapter_files(home / "d", "gpt", 5, modules=ATTENTION)
    base, d = read_model(home / "gpt"), loaded("d")
    name = f"{ATTENTION[0]}.weight"
    np.testing.assert_allclose(d[name], base[name] + update(home / "d", ATTENTION[0], 2).T, atol=1e-6)


def test_the_sum_of_adapters_is_exact(home: Path) -> None:
    """Of their factors, not of what they make of the base: rounding is that of one product."""
    summary = written(merge(scale=2.0))
    assert summary == AdapterSummary(rank=3, modules=4, share=1.0)
    config = json.loads((home / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (3, 3, ["q_proj", "up_proj"])
    assert config["base_model_name_or_path"] == str(home / "base")
    for module in MODULES:
        wanted = 2 * (0.6 * update(home / "a", module, 2) - 0.5 * update(home / "b", module, 4))
        np.testing.assert_allclose(update(home / "out", module, 1), wanted, atol=5e-6)
    assert loaded("out").keys() == read_model(home / "base").keys()
    assert "exact sum" in (home / "out" / "README.md").read_text()


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_sum_is_cut_to_the_nearest_of_a_rank(rank: int, home: Path) -> None:
    summary = written(merge(), rank=rank)
    kept = total = 0.0
    for module in MODULES:
        whole = 0.6 * update(home / "a", module, 2) - 0.5 * update(home / "b", module, 4)
        values = np.square(np.linalg.svd(whole, compute_uv=False))
        kept, total = kept + float(values[:rank].sum()), total + float(values.sum())
        difference = float(np.square(update(home / "out", module, 1) - whole).sum())
        assert difference == pytest.approx(float(values[rank:].sum()), abs=1e-5)
    assert summary.share == pytest.approx(kept / total, abs=1e-6)
    assert summary.rank == rank


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_an_adapter_is_taken_from_two_models_and_says_what_it_holds(family: str, home: Path) -> None:
    """Of full rank it is the change of the matrices; the norm's, and that of the embeddings, are the share that it lacks."""
    for seed, name in ((0, "from"), (9, "to")):
        write_model(home / name, tensors(seed), config={"model_type": family})
    one, other = read_model(home / "from"), read_model(home / "to")
    summary = written(merge(base="from", ingredients={"to": {"path": "to"}}), rank=4)
    found = loaded("out")
    squares = {name: float(np.square(other[name] - one[name]).sum()) for name in one}
    matrices = [f"{module}.weight" for module in MODULES]
    for name in matrices:
        np.testing.assert_allclose(found[name], other[name], atol=1e-5)
    np.testing.assert_array_equal(found[NORM], one[NORM])
    assert summary.share == pytest.approx(sum(squares[name] for name in matrices) / sum(squares.values()), abs=1e-5)


def test_matrices_that_do_not_change_are_left_out(home: Path) -> None:
    changed = tensors(0)
    changed[f"{ATTENTION[1]}.weight"] = changed[f"{ATTENTION[1]}.weight"] + np.float32(0.5)
    write_model(home / "to", changed)
    assert written(merge(ingredients={"to": {"path": "to"}}, method="ties"), rank=1) == AdapterSummary(1, 1, pytest.approx(1.0))
    config = json.loads((home / "out" / "adapter_config.json").read_text())
    assert config["target_modules"] == [ATTENTION[1]]
    np.testing.assert_allclose(loaded("out")[f"{ATTENTION[1]}.weight"], changed[f"{ATTENTION[1]}.weight"], atol=1e-5)


def test_large_matrices_are_decomposed_nearly_as_well_as_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the spectrum falls slowly, as that of a full fine-tuning does; block by block."""
    random = np.random.default_rng(0)
    left, right = (np.linalg.qr(random.normal(size=(side, 60)))[0] for side in (90, 60))
    values = np.arange(1, 61) ** -0.5
    matrix = (left * values @ right.T).astype(np.float32)

    def blocks() -> Iterator[tuple[int, Floats]]:
        return ((start, matrix[start : start + 7]) for start in range(0, 90, 7))

    best = nearest_factors(blocks, (90, 60), 8)
    monkeypatch.setattr(low_rank, "WHOLE_ELEMENTS", 10)
    found = nearest_factors(blocks, (90, 60), 8)
    assert best.kept == pytest.approx(float(np.square(values[:8]).sum()), rel=1e-5)
    assert 0.999 * best.kept < found.kept <= best.kept * (1 + 1e-9)
    assert found.squares == pytest.approx(best.squares)
    assert float(np.square(found.up @ found.down - matrix).sum()) == pytest.approx(found.squares - found.kept, rel=1e-4)


BAD: dict[str, tuple[dict[str, Any], int | None, str]] = {
    "method": ({"method": "linear", "base": None}, None, "--adapter: linear makes no change of a base; valid: task_arithmetic, slerp"),
    "rank": ({"ingredients": {"c": {"path": "c"}}}, None, "--rank: required, since c is no LoRA of base"),
    "rank of a method": ({"method": "ties"}, None, "--rank: required, since ties does not keep the rank"),
    "another base": ({"base": "c"}, None, "--rank: required, since base+a is no LoRA of c"),
    "base": ({"base": "base+a"}, None, "--adapter: the base base+a is no model that an adapter could name"),
    "nothing": ({"ingredients": {"c": {"path": "base"}}}, None, "--adapter: no ingredient changes base"),
    "scope": ({"method": "ties", "scope": "model"}, 2, "--adapter: not with scope=model"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_adapter_is_refused(case: str, home: Path) -> None:
    values, rank, wanted = BAD[case]
    write_model(home / "c", tensors(3))
    with pytest.raises(InputError, match=re.escape(wanted)):
        written(merge(**values), rank=rank)
    assert not (home / "out").exists()


def test_an_adapter_of_matrices_that_its_base_lacks_is_refused(home: Path) -> None:
    write_adapter_files(home / "c", "base", 3, modules=["model.layers.7.self_attn.q_proj"])
    with pytest.raises(InputError, match=r"c: it updates model\.layers\.7\.self_attn\.q_proj\.weight, which base does not have"):
        ingredient("c", key="model")


BAD_ADAPTERS: dict[str, tuple[dict[str, Any], str]] = {
    "kind": ({"peft_type": "IA3"}, "model=c: peft_type IA3 is not added by a sum"),
    "DoRA": ({"use_dora": True}, "model=c: DoRA is not added by a sum"),
    "pattern": ({"alpha_pattern": {"layers.[01].q_proj": 1}}, "alpha_pattern 'layers.[01].q_proj' is a regular expression"),
    "no base": ({"base_model_name_or_path": None}, "model=c: its adapter_config.json names no base model; valid: BASE+c"),
}


@pytest.mark.parametrize("case", BAD_ADAPTERS)
def test_adapters_that_are_no_sum_are_refused(case: str, home: Path) -> None:
    config, wanted = BAD_ADAPTERS[case]
    write_adapter_files(home / "c", "base", 3, **config)
    with pytest.raises(InputError, match=re.escape(wanted)):
        ingredient("c", key="model")


def test_the_command_writes_adapters_and_says_so(home: Path) -> None:
    words = ("--adapter", "--method", "task_arithmetic", "--base", "base", "a=a:0.6", "b=b:-0.5")
    said = json.loads(call_harness("merge", "out", *words, "--dry-run", "--json", cwd=home).stdout)
    assert said["adapter"] == {"rank": 3, "exact": True, "base": str(home / "base")}
    assert not (home / "out").exists()
    done = call_harness("merge", "out", *words, "--rank", "1", cwd=home)
    assert done.rc == 0, done
    assert re.search(r"an adapter of 4 matrices, with \d\d\.\d% of the change", done.stderr)
    again = call_harness("merge", "again", "--rank", "2", "--method", "linear", "a=base", cwd=home)
    assert again.rc == 2
    assert "--rank 2: only with --adapter" in again.stderr
    assert json.loads((home / "base" / "config.json").read_text()) == CONFIG
