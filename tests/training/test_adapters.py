"""Runs with adapters: what changes, what does not, and what others load of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForCausalLM, PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.config.errors import InputError
from harness.config.load import load, load_file
from harness.config.validate import to_plain
from harness.models.adapters.build import build_adapted_model
from harness.models.tokenizer import load_tokenizer
from harness.runs.directory import RunDirectory
from harness.runs.files import write_yaml
from harness.training.export import export
from tests.support import corpus
from tests.support.corpus import TinyText
from tests.support.datasets import domain_set, measure
from tests.training.runs import final_state, train_here

NewRun = Callable[..., RunDirectory]
TEXT = "the river runs past 7 old mills"
LORA = ("adapter=lora", "adapter.rank=4", "optim.lr=1e-2")
PROMPT = "adapter.tokens=3"
NEW = "tokenizer.new_tokens=['<|one|>','<|two|>']"


@pytest.fixture(scope="module", params=["tied"])
def base(request: pytest.FixtureRequest, tiny_text: TinyText, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small pretrained model, its output layer tied to its embedding or not."""
    directory = tmp_path_factory.mktemp(request.param)
    return corpus.tiny_model(directory, tiny_text.tokenizer, context=64, tied=request.param == "tied")


@pytest.fixture
def new_run(base: Path, tiny_text: TinyText, tmp_path: Path) -> NewRun:
    """A run from the pretrained model, already trained."""

    def make(*overrides: str) -> RunDirectory:
        run = RunDirectory(tmp_path / "runs" / "run")
        run.path.mkdir(parents=True)
        write_yaml(run.config, to_plain(load([*tiny_text.pretrained(base), *overrides]).config))
        train_here(run)
        return run

    return make


def trained_model(run: RunDirectory) -> tuple[Any, Any]:
    """The model as training left it, and its tokenizer."""
    config = load_file(run.config)
    tokenizer = load_tokenizer(config)
    model = build_adapted_model(config, tokenizer).model
    model.load_state_dict({name.removeprefix("model."): value for name, value in final_state(run)["state_dict"].items()})
    return model.eval(), tokenizer


def logits(model: Any, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
    return found


def test_only_what_was_added_changes(new_run: NewRun, base: Path) -> None:
    run = new_run(*LORA, "adapter.tokens=2", "adapter.train_tokens=[a]")
    model, _ = trained_model(run)
    before = AutoModelForCausalLM.from_pretrained(base).state_dict()
    after = model.state_dict()
    for name, value in before.items():
        path, _, last = name.rpartition(".")
        same = [f"{path}.{last}", f"{path}.base_layer.{last}", f"{path}.token_adapter.base_layer.{last}",
                f"{path}.base.token_adapter.base_layer.{last}"]  # fmt: skip
        [found] = [after[other] for other in same if other in after]
        assert torch.equal(value, found), name
    result = json.loads(run.result.read_text())
    assert 0 < result["parameters"]["trained"] < result["parameters"]["total"]
    states = final_state(run)["optimizer_states"][0]["state"]
    assert sum(state["exp_avg"].numel() for state in states.values()) == result["parameters"]["trained"]


def test_evaluation_puts_the_prompt_before_every_window(base: Path, tiny_text: TinyText) -> None:
    """The same windows and predictions as without a prompt, whose positions are not scored."""
    config = load([*tiny_text.pretrained(base), "adapter=soft_prompt", "adapter.tokens=5"]).config
    tokenizer = load_tokenizer(config)
    model = build_adapted_model(config, tokenizer).model
    validation = domain_set(config.data, tokenizer, "domain")
    nats = 0.0
    for input_ids, labels in validation.batches(1):
        [(ids, wanted)] = zip(input_ids.tolist(), labels.tolist(), strict=True)
        log_probabilities = logits(model, [-1, -2, -3, -4, -5, *ids]).log_softmax(dim=-1)[5:]
        nats -= sum(float(log_probabilities[at, label]) for at, label in enumerate(wanted) if label != -100)
    found = measure(model, validation, batch_tokens=256)
    assert found["loss"] == pytest.approx(nats / validation.predicted_tokens, rel=1e-5)
    model.set_input_embeddings(model.get_input_embeddings().base)
    assert measure(model, validation, batch_tokens=256)["loss"] != pytest.approx(found["loss"], rel=1e-5)


METHODS = {
    "plain": LORA,
    "rslora": (*LORA, "adapter.variant=rslora"),
    "dora": (*LORA, "adapter.variant=dora"),
    "pissa": (*LORA, "adapter.variant=pissa"),
    "new tokens": (*LORA, NEW),
    "new tokens and prompt": (*LORA, NEW, PROMPT, "adapter.train_tokens=[a]"),
    "soft prompt": ("adapter=soft_prompt", PROMPT, "optim.lr=1e-1"),
    "none, new tokens": (NEW,),
}


def prompt_ids(tokenizer: Any, tokens: int) -> list[int]:
    return [int(index) for index in tokenizer.convert_tokens_to_ids([f"<|prompt_{i}|>" for i in range(tokens)])]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "name"),
    [*(("tied", name) for name in METHODS), *(("untied", name) for name in ("new tokens and prompt", "soft prompt", "none, new tokens"))],
    indirect=["base"],
)
def test_what_others_load(new_run: NewRun, base: Path, tmp_path: Path, name: str) -> None:
    """The logits of training, from the merged model and from the adapter: to the last bit where nothing is multiplied out."""
    run = new_run(*METHODS[name])
    trained, before = trained_model(run)
    ids = before(TEXT)["input_ids"]
    prompt = 3 if PROMPT in METHODS[name] else 0
    expected = logits(trained, [-1, -2, -3][:prompt] + ids)[prompt:]
    assert expected.std() > 0.01
    untrained = logits(AutoModelForCausalLM.from_pretrained(base), ids)
    assert not torch.allclose(expected[:, : untrained.shape[1]], untrained, atol=1e-3)

    export(run, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    added = prompt_ids(tokenizer, prompt)
    assert tokenizer(TEXT)["input_ids"] == added + ids, "the tokenizer puts the prompt before every text"
    assert tokenizer(TEXT, add_special_tokens=False)["input_ids"] == before(TEXT, add_special_tokens=False)["input_ids"]
    found = logits(merged, added + ids)[prompt:]
    assert found.shape[1] == len(tokenizer) == merged.config.vocab_size == expected.shape[1] + prompt
    assert_close(found, expected, exact=name in ("soft prompt", "none, new tokens"))
    generation = merged.generation_config
    assert tokenizer.eos_token_id in generation.eos_token_id
    assert (generation.max_length, generation.suppress_tokens or []) == (64, added)
    generated = merged.generate(torch.tensor([ids]), max_new_tokens=4, do_sample=False)
    assert not set(generated[0, len(ids) :].tolist()) & set(added)
    assert ("belongs before every text" in (tmp_path / "merged" / "README.md").read_text()) == bool(prompt)

    if name.startswith("none"):
        return
    export(run, tmp_path / "adapter", adapter=True)
    assert not list((tmp_path / "adapter").glob("model*"))
    if name == "soft prompt":
        found = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter"), ids)[prompt:]
    else:
        loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter")
        found = logits(loaded, prompt_ids(AutoTokenizer.from_pretrained(tmp_path / "adapter"), prompt) + ids)[prompt:]
    # A matrix product over a longer vocabulary may round otherwise.
    assert_close(found, expected, exact=name in ("plain", "rslora", "soft prompt", "new tokens"))


@pytest.mark.slow
@pytest.mark.parametrize("second", ["soft prompt", "new tokens and prompt"])
def test_a_prompt_before_a_prompt(tiny_text: TinyText, base: Path, tmp_path: Path, second: str) -> None:
    """An export with a soft prompt is trained on with a further one: the second stands before the first, as in training."""

    def trained(name: str, model: Path, overrides: tuple[str, ...]) -> RunDirectory:
        run = RunDirectory(tmp_path / name)
        run.path.mkdir()
        write_yaml(run.config, to_plain(load([*tiny_text.pretrained(model), *overrides]).config))
        train_here(run)
        return run

    export(trained("first", base, METHODS["soft prompt"]), tmp_path / "exported")
    run = trained("second", tmp_path / "exported", METHODS[second])
    model, before = trained_model(run)
    ids = before(TEXT)["input_ids"]
    assert ids[:3] == prompt_ids(before, 3)
    expected = logits(model, [-1, -2, -3, *ids])[3:]
    for out, adapter in ((tmp_path / "merged", False), (tmp_path / "adapter", True)):
        export(run, out, adapter=adapter)
        tokenizer = AutoTokenizer.from_pretrained(out)
        if not adapter:
            found = logits(AutoModelForCausalLM.from_pretrained(out), tokenizer(TEXT)["input_ids"])
        elif second == "soft prompt":
            found = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tmp_path / "exported"), out), ids)
        else:
            found = logits(AutoPeftModelForCausalLM.from_pretrained(out), tokenizer(TEXT)["input_ids"])
        if not adapter or second != "soft prompt":
            names = [f"<|prompt_{index}|>" for index in (3, 4, 5, 0, 1, 2)]
            assert tokenizer.convert_ids_to_tokens(tokenizer(TEXT)["input_ids"])[:6] == names
            assert "<|prompt_3|> … <|prompt_5|>, belongs before every text" in (out / "README.md").read_text()
        assert_close(found[3:], expected, exact=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "pissa"])
def test_the_adapter_of_a_run_that_went_on_from_a_run(tiny_text: TinyText, base: Path, tmp_path: Path, name: str) -> None:
    """It holds what both have trained."""
    first, second = RunDirectory(tmp_path / "first"), RunDirectory(tmp_path / "second")
    for run, more in ((first, []), (second, [f"model.checkpoint={first.path}"])):
        run.path.mkdir()
        write_yaml(run.config, to_plain(load([*tiny_text.pretrained(base), *METHODS[name], *more]).config))
        train_here(run)
    trained, tokenizer = trained_model(second)
    ids = tokenizer(TEXT)["input_ids"]
    export(second, tmp_path / "adapter", adapter=True)
    assert_close(logits(AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter"), ids), logits(trained, ids), exact=name == "plain")


def assert_close(found: torch.Tensor, expected: torch.Tensor, *, exact: bool) -> None:
    found = found[:, : expected.shape[1]]
    assert torch.equal(found, expected) or not exact
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_exported_as_an_adapter(new_run: NewRun, tmp_path: Path, tiny_text: TinyText) -> None:
    run = new_run()
    with pytest.raises(InputError, match=r"--adapter: the run trained all weights \(adapter=none\)"):
        export(run, tmp_path / "out", adapter=True)
    write_yaml(run.config, to_plain(load([*tiny_text.overrides, *LORA]).config))
    with pytest.raises(InputError, match=r"--adapter: the run's model began from scratch"):
        export(run, tmp_path / "out", adapter=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_lora_learns(tiny_text: TinyText, tmp_path: Path) -> None:
    """A model that knows the general text learns the domain's, from the same weights, in a few steps."""
    first = RunDirectory(tmp_path / "first")
    first.path.mkdir()
    onto_general = [item for item in tiny_text.overrides if ".domain." not in item and "replay" not in item]
    write_yaml(first.config, to_plain(load([*onto_general, "model.max_context=64", "trainer.max_steps=150", "optim.lr=1e-2"]).config))
    train_here(first)
    export(first, tmp_path / "base")
    losses = {}
    for name, overrides in {"lora": LORA[:2], "prompt": ("adapter=soft_prompt", "adapter.tokens=8")}.items():
        run = RunDirectory(tmp_path / name)
        run.path.mkdir()
        length = ["trainer.max_steps=100", "optim.lr=3e-2", "trainer.log_every_steps=50"]
        write_yaml(run.config, to_plain(load([*tiny_text.pretrained(tmp_path / "base"), *length, *overrides]).config))
        train_here(run)
        rows = run.metrics.rows()
        losses[name] = rows[0]["val/domain/loss"], rows[-1]["val/domain/loss"]
    assert losses["lora"][1] < losses["lora"][0] - 2.0
    assert losses["prompt"][1] < losses["prompt"][0] - 0.5
