"""Adapters: what they add, what they leave alone, what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from harness.config.errors import InputError
from harness.config.load import load
from harness.config.schema import AdapterConfig, Config, OptimConfig
from harness.models.adapters.build import AdaptedModel, build_adapted_model
from harness.models.adapters.lora import add_lora
from harness.models.adapters.soft_prompt import PromptEmbedding, add_soft_prompt
from harness.models.isolation import document_leak
from harness.models.language_model import build_model
from harness.models.tokenizer import load_tokenizer
from harness.optim.build import parameter_groups
from tests.models.test_isolation import ISOLATED, build
from tests.support import corpus
from tests.support.corpus import TinyText

IDS = torch.tensor([[5, 9, 12, 7, 3, 44, 8, 21]])
LORA = "adapter=lora"
NEW = "tokenizer.new_tokens=['<|im_start|>','<|im_end|>']"


@pytest.fixture(scope="module", params=["tied", "untied"])
def base(request: pytest.FixtureRequest, tiny_text: TinyText, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small pretrained model, its output layer tied to its embedding or not."""
    directory = tmp_path_factory.mktemp(request.param)
    return corpus.tiny_model(directory, tiny_text.tokenizer, context=64, tied=request.param == "tied")


def configured(base: Path, tiny_text: TinyText, *overrides: str) -> Config:
    return load([*tiny_text.pretrained(base), *overrides]).config


def adapted(base: Path, tiny_text: TinyText, *overrides: str) -> AdaptedModel:
    config = configured(base, tiny_text, *overrides)
    return build_adapted_model(config, load_tokenizer(config))


def logits(model: Any, ids: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.eval()(input_ids=ids, use_cache=False).logits
    return found


def trained(model: torch.nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("variant", ["plain", "rslora", "dora", "pissa"])
def test_training_starts_from_the_function_of_the_model(base: Path, tiny_text: TinyText, variant: str) -> None:
    config = configured(base, tiny_text)
    expected = logits(build_model(config.model, load_tokenizer(config), seed=0))
    found = adapted(base, tiny_text, LORA, f"adapter.variant={variant}", NEW, "adapter.tokens=3")
    width = expected.shape[-1]
    torch.testing.assert_close(logits(found.model)[..., :width], expected, rtol=1e-5, atol=1e-6)
    assert all("lora_" in name or "trainable_tokens_delta" in name or "prompt.weight" in name for name in trained(found.model))


def test_what_is_drawn_depends_on_the_seed_alone(base: Path, tiny_text: TinyText) -> None:
    states = []
    for number, overrides in enumerate(([], [], ["seed=1"])):
        torch.manual_seed(number)  # what was drawn before must not matter
        states.append(adapted(base, tiny_text, LORA, "adapter.variant=pissa", "adapter.tokens=2", NEW, *overrides).model.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    different = {name for name in states[0] if not torch.equal(states[0][name], states[2][name])}
    assert any("lora_A" in name for name in different)
    assert any("prompt" in name for name in different)
    assert any("trainable_tokens_delta" in name for name in different)


def test_target_modules(base: Path, tiny_text: TinyText) -> None:
    everywhere = {name.split(".")[-4] for name in trained(adapted(base, tiny_text, LORA).model)}
    assert everywhere == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    some = trained(adapted(base, tiny_text, LORA, "adapter.target_modules=[q_proj,v_proj]").model)
    assert {name.split(".")[-4] for name in some} == {"q_proj", "v_proj"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["adapter.target_modules=[q_proj,c_attn]"], r"adapter\.target_modules=.*c_attn.*Valid for llama: q_proj, k_proj"),
        (["adapter.variant=pissa", "adapter.rank=33"], r"adapter\.rank=33.*32"),
        (["adapter.train_tokens=['<|none|>']"], r"adapter\.train_tokens=.*no token <\|none\|>; tokenizer.new_tokens adds"),
        (["adapter.tokens=2", "adapter.init_text=''"], r"adapter\.init_text"),
        (["adapter.tokens=31"], r"adapter\.tokens=31: leaves no room for text in rows of data.context_length=32"),
        (["adapter.tokens=30", "data.context_length=64", "trainer.batch_tokens=256"], r"64 and adapter.tokens=30 together: longer than"),
        (["adapter.init_text=hello"], r"adapter\.init_text=hello: there is no soft prompt"),
        (["tokenizer.new_tokens=[a]"], r"tokenizer\.new_tokens=a:.*in the tokenizer already"),
        (["tokenizer.new_tokens=['<|a|>','<|a|>']"], r"tokenizer\.new_tokens: <\|a\|> stands there twice"),
    ],
)
def test_what_does_not_fit_is_refused(base: Path, tiny_text: TinyText, overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        adapted(base, tiny_text, LORA, *overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["adapter.tokens=0"], "adapter.tokens=0: a soft prompt needs at least one token"),
        (["adapter.rank=4"], "adapter.rank has no effect with adapter.name=soft_prompt: only lora reads it"),
        ([NEW], "tokenizer.new_tokens=.*valid: adapter=lora adapter.tokens=N"),
    ],
)
def test_a_soft_prompt_alone(base: Path, tiny_text: TinyText, overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        configured(base, tiny_text, "adapter=soft_prompt", *overrides)


def test_a_family_without_such_layers() -> None:
    class Embedder(torch.nn.Module):
        config = type("Shape", (), {"model_type": "strange"})

        def get_output_embeddings(self) -> None:
            return None

    with pytest.raises(InputError, match="adapter=lora: a model of the family strange has no linear layers"):
        add_lora(Embedder(), AdapterConfig(name="lora"), [])  # type: ignore[arg-type]


@pytest.mark.filterwarnings("error")
def test_transposed_matrices() -> None:
    model = build("gpt2", ISOLATED["gpt2"])
    add_lora(model, AdapterConfig(name="lora", rank=2, variant="pissa"), [])
    assert {name.split(".")[-4] for name in trained(model)} == {"c_attn", "c_proj", "c_fc"}


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_adapted_models_keep_documents_apart(family: str) -> None:
    model = build(family, ISOLATED[family])
    wrapped = add_lora(model, AdapterConfig(name="lora", rank=2), [1, 2])
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    assert document_leak(model) < 1e-5


# New tokens.


def test_new_tokens_get_rows_about_the_mean(base: Path, tiny_text: TinyText) -> None:
    config = configured(base, tiny_text, NEW)
    tokenizer = load_tokenizer(config)
    ids = tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    model = build_adapted_model(config, tokenizer).model
    plain = AutoModelForCausalLM.from_pretrained(base)
    assert tokenizer("<|im_start|>the", add_special_tokens=False)["input_ids"][0] == ids[0]
    for ours, theirs in ((model.get_input_embeddings(), plain.get_input_embeddings()), (model.lm_head, plain.lm_head)):
        rows = theirs.weight
        assert torch.equal(ours.weight[: len(rows)], rows)
        assert len(ours.weight) == len(rows) + 2 == model.config.vocab_size
        distance = (ours.weight[ids] - rows.mean(dim=0)) / rows.std(dim=0)
        assert distance.abs().max() < 0.5
        assert not torch.equal(ours.weight[ids[0]], ours.weight[ids[1]])
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == plain.config.tie_word_embeddings
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("overrides", [[NEW], ["adapter.train_tokens=[a,b]"]])
def test_lora_trains_the_rows_of_tokens_and_no_others(base: Path, tiny_text: TinyText, overrides: list[str]) -> None:
    config = configured(base, tiny_text, LORA, *overrides)
    tokenizer = load_tokenizer(config)
    chosen = tokenizer.convert_tokens_to_ids(config.tokenizer.new_tokens or config.adapter.train_tokens)
    found = build_adapted_model(config, tokenizer)
    rows = {name for name in trained(found.model) if "trainable_tokens_delta" in name}
    assert len(rows) == (1 if found.model.config.tie_word_embeddings else 2)
    before = found.model.get_input_embeddings().weight.clone()
    ids = torch.tensor([[*chosen, 5, 6]])
    found.model(input_ids=ids, labels=ids).loss.backward()
    groups = parameter_groups(OptimConfig(weight_decay=0.1), found.model)
    torch.optim.AdamW(groups, lr=0.1).step()
    moved = (found.model.get_input_embeddings().weight != before).any(dim=1).nonzero().flatten().tolist()
    assert moved == sorted(chosen)
    # Single rows of an embedding decay as little as the whole of it; updates of matrices do, and an output layer of its own.
    decayed = {id(parameter) for group in groups if group["is_decayed"] for parameter in group["params"]}
    for name, parameter in found.model.named_parameters():
        if parameter.requires_grad:
            assert (id(parameter) in decayed) == ("lora_" in name or "lm_head" in name)


# Soft prompts.


def reference(family: str, tokens: int) -> tuple[Any, PreTrainedModel]:
    """peft's prompt tuning over a model, and the same model with ours, which begins as the same rows."""
    from peft import PromptTuningConfig, get_peft_model

    theirs = get_peft_model(build(family, ISOLATED[family]), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=tokens))
    ours = build(family, ISOLATED[family]).requires_grad_(False)
    ours.set_input_embeddings(PromptEmbedding(ours.get_input_embeddings(), theirs.prompt_encoder.default.embedding.weight.detach().clone()))
    return theirs.eval(), ours.eval()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_loss_and_gradient_of_prompt_tuning(family: str) -> None:
    theirs, ours = reference(family, 4)
    labels = IDS.clone()
    labels[0, 0] = -100  # a document's first token is not predicted here
    expected = theirs(input_ids=IDS, labels=labels).loss
    prompt = torch.tensor([[-1, -2, -3, -4]])
    loss = ours(input_ids=torch.cat([prompt, IDS], dim=1), labels=torch.cat([torch.full_like(prompt, -100), labels], dim=1)).loss
    assert torch.equal(loss, expected)
    expected.backward()
    loss.backward()
    gradient = ours.get_input_embeddings().prompt.weight.grad
    assert torch.equal(gradient, theirs.prompt_encoder.default.embedding.weight.grad)
    assert gradient.abs().max() > 0
    assert trained(ours) == {name for name, _ in ours.named_parameters() if "prompt.weight" in name}


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_packed_documents_each_with_the_prompt_see_what_they_see_alone() -> None:
    _, model = reference("llama", 2)
    prompt, first, second = torch.tensor([[-1, -2]]), IDS[:, :5], IDS[:, 5:]
    pieces = [torch.cat([prompt, piece], dim=1) for piece in (first, second)]
    packed = torch.cat(pieces, dim=1)
    positions = torch.cat([torch.arange(piece.shape[1]) for piece in pieces])[None]
    with torch.no_grad():
        together = model.eval()(input_ids=packed, position_ids=positions, use_cache=False).logits
    torch.testing.assert_close(together[:, :7], logits(model, pieces[0]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(together[:, 7:], logits(model, pieces[1]), rtol=1e-5, atol=1e-6)


def test_what_a_prompt_begins_as(tiny_model: Path, tiny_text: TinyText) -> None:
    config = configured(tiny_model, tiny_text)
    tokenizer = load_tokenizer(config)
    text = tokenizer("the river")["input_ids"]
    for tokens in (1, len(text), 2 * len(text) + 1):
        model = build_model(config.model, tokenizer, seed=0)
        rows = model.get_input_embeddings().weight.detach()
        generator = torch.Generator().manual_seed(0)
        found = add_soft_prompt(model, tokens, "the river", tokenizer, generator=generator).prompt.weight
        assert torch.equal(found, rows[[text[i % len(text)] for i in range(tokens)]])
        drawn = add_soft_prompt(build_model(config.model, tokenizer, seed=0), tokens, None, tokenizer, generator=generator).prompt.weight
        assert all((row == rows).all(dim=1).any() for row in drawn)
    with pytest.raises(InputError, match=r"adapter\.init_text=''"):
        add_soft_prompt(model, 2, "", tokenizer, generator=generator)
