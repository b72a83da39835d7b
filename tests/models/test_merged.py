"""Merges as models to start from: in memory, of runs and of adapters; what transformers loads of those that are written."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file as load_safetensors
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.config.checks import check_model
from harness.config.errors import InputError
from harness.config.load import load, load_file
from harness.config.schema import Config, IngredientConfig, MergeConfig
from harness.config.validate import to_plain
from harness.merging.adapter import plan_adapter, write_adapter
from harness.merging.write import write_merge
from harness.models.ingredients import ingredient
from harness.models.language_model import build_model, model_fingerprint
from harness.models.merged import merge_plan
from harness.models.tokenizer import load_tokenizer
from harness.runs.directory import RunDirectory
from harness.runs.files import read_json, write_yaml
from harness.training.export import export
from tests.support import corpus
from tests.support.corpus import TinyText
from tests.training.runs import train_here


@pytest.fixture(scope="module")
def models(tiny_text: TinyText, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a small base, and with a and b, that are near it; all in bfloat16."""
    home = tmp_path_factory.mktemp("models")
    corpus.tiny_model(home / "base", tiny_text.tokenizer, context=64)
    model: Any = AutoModelForCausalLM.from_pretrained(home / "base").bfloat16()
    shutil.rmtree(home / "base")
    for seed, name in enumerate(("base", "a", "b")):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.02 * torch.randn(weight.shape, generator=generator))
        model.save_pretrained(home / name)
        AutoTokenizer.from_pretrained(tiny_text.tokenizer).save_pretrained(home / name)
    return home


def merge_of(models: Path, method: Any = "dare_ties", **paths: Any) -> MergeConfig:
    ingredients = {name: IngredientConfig(path=str(path), density=0.6 if "dare" in method else 1.0) for name, path in paths.items()}
    return MergeConfig(method=method, base=str(models / "base"), ingredients=ingredients)


def configuration(models: Path, merge: MergeConfig) -> Config:
    config = load([f"model.path={models / 'base'}", "data.context_length=32"], checked_by=check_model).config
    return dataclasses.replace(config, model=dataclasses.replace(config.model, path=None, merge=merge))


def state(model: Any) -> dict[str, torch.Tensor]:
    return {name: value.float() for name, value in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_in_memory_it_is_what_is_written_to_the_last_bit(models: Path, tmp_path: Path) -> None:
    merge = merge_of(models, a=models / "a", b=models / "b")
    write_merge(merge_plan(merge, seed=3), tmp_path / "out")
    written = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert written.dtype == torch.bfloat16
    config = configuration(models, merge)
    tokenizer = load_tokenizer(config)
    assert AutoTokenizer.from_pretrained(tmp_path / "out").get_vocab() == tokenizer.get_vocab()
    assert same(state(build_model(config.model, tokenizer, seed=3)), state(written))
    assert not same(state(build_model(config.model, tokenizer, seed=4)), state(written))  # other masks


def test_the_fingerprint_is_of_recipe_and_weights_wherever_they_lie(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "a", tmp_path / "moved")
    first = configuration(models, merge_of(models, a=models / "a")).model
    moved = configuration(models, merge_of(models, a=tmp_path / "moved")).model
    assert model_fingerprint(first) == model_fingerprint(moved)
    others = [
        merge_of(models, a=models / "b"),
        dataclasses.replace(first.merge, scale=0.5),
        dataclasses.replace(first.merge, method="ties"),
    ]
    fingerprints = {model_fingerprint(dataclasses.replace(first, merge=merge)) for merge in (first.merge, *others)}
    assert len(fingerprints) == 4


def trained(tiny_text: TinyText, models: Path, path: Path, *overrides: str) -> RunDirectory:
    run = RunDirectory(path)
    run.path.mkdir(parents=True)
    write_yaml(run.config, to_plain(load([*tiny_text.pretrained(models / "base"), "trainer.max_steps=2", *overrides]).config))
    train_here(run)
    return run


@pytest.mark.parametrize("variant", ["none", "plain", "rslora", "pissa"])
def test_a_run_is_merged_as_it_would_be_exported(variant: str, tiny_text: TinyText, models: Path, tmp_path: Path) -> None:
    """LoRA by exact sums."""
    adapter = [] if variant == "none" else ["adapter=lora", "adapter.rank=4", "optim.lr=1e-2", f"adapter.variant={variant}"]
    run = trained(tiny_text, models, tmp_path / "run", *adapter)
    export(run, tmp_path / "exported", dtype="float32")
    merge = MergeConfig(method="linear", ingredients={"run": IngredientConfig(path=str(run.path))}, dtype="float32")
    write_merge(merge_plan(merge, seed=0), tmp_path / "out")
    one, other = (state(AutoModelForCausalLM.from_pretrained(tmp_path / name)) for name in ("out", "exported"))
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=1e-6)
    base = state(AutoModelForCausalLM.from_pretrained(models / "base"))
    assert not same(one, base)


@pytest.mark.parametrize("word", ["{adapter}", "{base}+{adapter}"])
def test_an_adapters_directory_is_its_base_and_the_update(word: str, tiny_text: TinyText, models: Path, tmp_path: Path) -> None:
    run = trained(tiny_text, models, tmp_path / "run", "adapter=lora", "adapter.rank=4", "optim.lr=1e-2")
    export(run, tmp_path / "adapter", adapter=True)
    export(run, tmp_path / "exported", dtype="float32")
    source = ingredient(word.format(adapter=tmp_path / "adapter", base=models / "base"), key="model")
    wanted = state(AutoModelForCausalLM.from_pretrained(tmp_path / "exported"))
    for name, tensor in source.tensors.items():
        found = torch.from_numpy(tensor.read(0, tensor.shape[0]).reshape(tensor.dimensions))
        torch.testing.assert_close(found, wanted[name], rtol=0, atol=1e-6)


def test_an_untied_head_that_equals_the_embedding_is_kept(tiny_text: TinyText, models: Path, tmp_path: Path) -> None:
    """A config.json that says untied, without a head, is no model."""
    untied: Any = AutoModelForCausalLM.from_pretrained(models / "base", tie_word_embeddings=False)
    untied.lm_head.weight.data.copy_(untied.model.embed_tokens.weight)
    shutil.copytree(models / "base", tmp_path / "models" / "base")
    untied.save_pretrained(tmp_path / "models" / "base")
    adapter = ["adapter=lora", "adapter.rank=4", "trainer.max_steps=1"]
    for home, kept in ((tmp_path / "models", True), (models, False)):
        run = trained(tiny_text, home, tmp_path / f"run-{kept}", *adapter)
        merge = MergeConfig(method="linear", ingredients={"run": IngredientConfig(path=str(run.path))})
        write_merge(merge_plan(merge, seed=0), tmp_path / f"out-{kept}")
        assert ("lm_head.weight" in load_safetensors(tmp_path / f"out-{kept}" / "model.safetensors")) is kept
        assert read_json(tmp_path / f"out-{kept}" / "config.json")["tie_word_embeddings"] is not kept


@pytest.mark.parametrize("word", ["{study}/7", "{study}/trials/0007@3"])
def test_a_run_below_a_directory_with_a_plus_is_no_adapter(word: str, tiny_text: TinyText, models: Path, tmp_path: Path) -> None:
    study = tmp_path / "c++" / "runs" / "s"
    run = RunDirectory(study / "trials" / "0007")
    run.path.mkdir(parents=True)
    write_yaml(run.config, to_plain(load([*tiny_text.pretrained(models / "a"), "trainer.max_steps=0"]).config))
    assert ingredient(word.format(study=study), key="model").fingerprint == ingredient(str(models / "a"), key="model").fingerprint


def test_a_directory_that_is_no_adapter_is_called_so(models: Path) -> None:
    with pytest.raises(InputError, match=r"a: no adapter, no adapter_config\.json in it"):
        ingredient(f"{models / 'base'}+{models / 'a'}", key="model")


def test_a_sum_of_adapters_is_what_peft_loads(tiny_text: TinyText, models: Path, tmp_path: Path) -> None:
    """Of a run and of an adapter's directory; peft's own names, shapes and scaling."""
    from peft import PeftModel

    runs = {}
    for name, more in (("a", []), ("b", ["adapter.variant=rslora", "seed=1"])):
        runs[name] = trained(tiny_text, models, tmp_path / name, "adapter=lora", "adapter.rank=4", "optim.lr=1e-2", *more)
        export(runs[name], tmp_path / f"{name}-whole", dtype="float32")
    export(runs["b"], tmp_path / "b-adapter", adapter=True)
    paths = {"a": runs["a"].path, "b": tmp_path / "b-adapter"}
    ingredients = {name: IngredientConfig(path=str(path), weight=0.5) for name, path in paths.items()}
    merge = MergeConfig(method="task_arithmetic", base=str(models / "base"), ingredients=ingredients)
    made = plan_adapter(merge_plan(merge, seed=0), rank=None)
    assert (made.exact, made.rank) == (True, 8)
    write_adapter(made, tmp_path / "out")
    base: Any = AutoModelForCausalLM.from_pretrained(models / "base", dtype=torch.float32)
    found = state(PeftModel.from_pretrained(base, tmp_path / "out").merge_and_unload())
    one, other = (state(AutoModelForCausalLM.from_pretrained(tmp_path / f"{name}-whole")) for name in "ab")
    assert not same(one, other)
    for name, value in found.items():
        torch.testing.assert_close(value, (one[name] + other[name]) / 2, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["adapter=lora", "adapter.variant=dora"], "adapter.variant=dora"),
        (["adapter=soft_prompt", "adapter.tokens=3"], "adapter.tokens=3"),
        (["trainer.final_checkpoint=none"], "has no checkpoint"),
    ],
)
def test_a_run_that_is_no_sum_or_has_no_weights_is_refused(
    overrides: list[str], wanted: str, tiny_text: TinyText, models: Path, tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    write_yaml(run.config, to_plain(load([*tiny_text.pretrained(models / "base"), *overrides]).config))
    with pytest.raises(InputError, match=wanted):
        ingredient(str(run.path), key="model.merge.base")


def test_a_merge_can_be_healed_exported_and_merged_again(tiny_text: TinyText, models: Path, tmp_path: Path) -> None:
    """Of a tied model, whose configuration it has, and an untied one: what is stored decides."""
    untied: Any = AutoModelForCausalLM.from_pretrained(models / "b", tie_word_embeddings=False)
    with torch.no_grad():
        untied.lm_head.weight.add_(1.0)
    shutil.copytree(models / "b", tmp_path / "b")
    untied.save_pretrained(tmp_path / "b")
    run = RunDirectory(tmp_path / "healed")
    run.path.mkdir()
    merge = [
        "model=merge",
        "model.merge.method=linear",
        f"model.merge.ingredients.a.path={models / 'a'}",
        f"model.merge.ingredients.b.path={tmp_path / 'b'}",
    ]
    write_yaml(run.config, to_plain(load([*tiny_text.data, *corpus.RUN, *merge, "trainer.max_steps=2"]).config))
    train_here(run)
    assert run.metrics.rows()[0]["step"] == 0
    export(run, tmp_path / "exported")
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "exported")
    assert exported.dtype == torch.bfloat16
    again = ingredient(str(run.path), key="model.merge.base")
    assert "lm_head.weight" in again.tensors
    of_itself = MergeConfig(method="linear", ingredients={"run": IngredientConfig(path=str(run.path))}, dtype="bfloat16")
    write_merge(merge_plan(of_itself, seed=0), tmp_path / "again")
    assert read_json(tmp_path / "again" / "config.json")["tie_word_embeddings"] is False
    assert same(state(AutoModelForCausalLM.from_pretrained(tmp_path / "again")), state(exported))
    assert again.vocabulary == ingredient(str(models / "a"), key="model.merge.base").vocabulary
    assert load_file(run.config).model.merge.method == "linear"
