"""Which weights are updated how, and first updates by hand."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from harness.config.errors import InputError
from harness.config.schema import OptimConfig
from harness.config.schema.optim import OptimName
from harness.optim.build import build_optimizer, parameter_groups
from harness.optim.per_step import StepSettings, set_step

SHAPE = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def decaying(model: torch.nn.Module) -> set[str]:
    group = parameter_groups(OptimConfig(weight_decay=0.1), model)[0]
    assert group["weight_decay"] == 0.1
    chosen = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in model.named_parameters() if id(parameter) in chosen}


def test_matrices_decay_but_not_embeddings_or_norms() -> None:
    layer = "model.layers.0."
    matrices = {f"{layer}self_attn.{name}_proj.weight" for name in "qkvo"} | {
        f"{layer}mlp.{name}_proj.weight" for name in ("gate", "up", "down")
    }
    assert decaying(LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=True))) == matrices
    # An output layer of its own is a matrix like any other.
    assert decaying(LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=False))) == {*matrices, "lm_head.weight"}


def test_neither_biases_nor_position_embeddings_decay() -> None:
    names = decaying(GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=8)))
    assert names == {f"transformer.h.0.{name}.weight" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")}


def test_every_trained_weight_is_in_one_group_and_no_frozen_one() -> None:
    model = LlamaForCausalLM(LlamaConfig(**SHAPE))
    model.model.embed_tokens.weight.requires_grad = False
    model.model.norm.weight.requires_grad = False
    parameters = [parameter for group in parameter_groups(OptimConfig(), model) for parameter in group["params"]]
    assert sorted(map(id, parameters)) == sorted(id(p) for p in model.parameters() if p.requires_grad)


def test_a_group_without_weights_is_left_out() -> None:
    assert [group["weight_decay"] for group in parameter_groups(OptimConfig(), torch.nn.Linear(2, 2, bias=False))] == [0.1]


@pytest.mark.parametrize("implementation", ["fused", "foreach", "single"])
def test_adamw_by_hand(implementation: Literal["fused", "foreach", "single"]) -> None:
    """The first update of Adam is the rate times the sign of the gradient; decay shrinks the weight beforehand."""
    layer = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(layer.weight, 2.0)
    torch.nn.init.constant_(layer.bias, 3.0)
    optimizer = build_optimizer(OptimConfig(lr=0.1, weight_decay=0.5, implementation=implementation), layer)
    layer(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    assert layer.weight.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5) - 0.1, rel=1e-6)
    assert layer.bias.item() == pytest.approx(3.0 - 0.1, rel=1e-6)


def names_of(model: torch.nn.Module, parameters: list[torch.nn.Parameter]) -> set[str]:
    chosen = {id(parameter) for parameter in parameters}
    return {name for name, parameter in model.named_parameters() if id(parameter) in chosen}


def untied_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=False))


@pytest.mark.parametrize("name", ["muon", "soap"])
def test_hidden_matrices_are_apart_from_the_output_layer_and_the_rest(name: OptimName) -> None:
    model = untied_llama()
    hidden, output, rest = parameter_groups(OptimConfig(name=name, weight_decay=0.3), model)
    assert all("proj" in weight for weight in names_of(model, hidden["params"]))
    assert len(hidden["params"]) == 7
    assert names_of(model, output["params"]) == {"lm_head.weight"}
    assert {"model.embed_tokens.weight", "model.norm.weight"} < names_of(model, rest["params"])
    assert [group["weight_decay"] for group in (hidden, output, rest)] == [0.3, 0.3, 0.0]
    if name == "muon":
        assert [group["use_muon"] for group in (hidden, output, rest)] == [True, False, False]
    else:
        assert [group["max_precondition_dim"] for group in (hidden, output, rest)] == [10_000, 0, 0]


@pytest.mark.parametrize("name", ["lion", "schedule_free"])
def test_lion_and_schedule_free_decay_the_same_weights_as_adamw(name: OptimName) -> None:
    model = untied_llama()
    adamw, other = (parameter_groups(OptimConfig(name=kind), model) for kind in ("adamw", name))
    for a, b in zip(adamw, other, strict=True):
        assert names_of(model, a["params"]) == names_of(model, b["params"])
        assert a["weight_decay"] == b["weight_decay"]


def test_what_an_adapter_adds_to_embeddings_does_not_decay() -> None:
    adapted = get_peft_model(untied_llama(), LoraConfig(r=2, target_modules=["q_proj", "embed_tokens"]))
    hidden, rest = parameter_groups(OptimConfig(name="muon"), adapted)
    assert {name.rsplit(".", 3)[-3] for name in names_of(adapted, hidden["params"])} == {"lora_A", "lora_B"}
    assert all("lora_embedding_" in name for name in names_of(adapted, rest["params"]))
    assert len(rest["params"]) == 2


@pytest.mark.parametrize("name", ["muon", "soap"])
def test_optimizers_of_matrices_refuse_a_model_without_any(name: OptimName) -> None:
    with pytest.raises(InputError, match=f"optim.name={name}: no two-dimensional hidden weight is trained; valid: adamw"):
        build_optimizer(OptimConfig(name=name), torch.nn.Embedding(3, 2))


def test_a_step_sets_every_group_as_it_is_meant() -> None:
    optimizer = build_optimizer(OptimConfig(name="muon", adamw_lr_ratio=0.25), untied_llama())
    for rate in (0.4, 0.1):
        set_step(optimizer, StepSettings(lr=rate, betas=(0.8, 0.9), weight_decay=0.7))
        assert [group["lr"] for group in optimizer.param_groups] == [rate, rate * 0.25, rate * 0.25]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.7, 0.7, 0.0]
    assert [group.get("betas") for group in optimizer.param_groups] == [None, (0.8, 0.9), (0.8, 0.9)]


def test_lion_by_hand() -> None:
    """The update is the rate times the sign of (1 - beta1) times the first gradient; decay shrinks the weight beforehand."""
    layer = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(layer.weight, 2.0)
    torch.nn.init.constant_(layer.bias, 3.0)
    optimizer = build_optimizer(OptimConfig(name="lion", lr=0.1, weight_decay=0.5, betas=(0.9, 0.99)), layer)
    (-7.0 * layer(torch.ones(1, 1))).sum().backward()
    optimizer.step()
    assert layer.weight.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5) + 0.1, rel=1e-6)
    assert layer.bias.item() == pytest.approx(3.0 + 0.1, rel=1e-6)
    assert optimizer.state[layer.weight]["exp_avg"].item() == pytest.approx(-7.0 * 0.01, rel=1e-5)


def steps(model: LlamaForCausalLM, optimizers: list[torch.optim.Optimizer], count: int) -> None:
    ids = torch.arange(32).reshape(2, 16)
    for _ in range(count):
        model(input_ids=ids, labels=ids).loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()


def test_muon_is_torchs_muon_beside_adamw() -> None:
    """Scale, Nesterov's momentum and decay of torch.optim.Muon; both orthogonalise in bfloat16, in another order of sums."""
    config = OptimConfig(name="muon", lr=1e-2, adamw_lr_ratio=0.5, weight_decay=0.2)
    ours, torchs = untied_llama(), untied_llama()
    optimizer = build_optimizer(config, ours)
    set_step(optimizer, StepSettings(lr=config.lr, betas=config.betas, weight_decay=config.weight_decay))
    steps(ours, [optimizer], 3)
    hidden, output, rest = parameter_groups(config, torchs)
    muon = torch.optim.Muon(hidden["params"], lr=1e-2, weight_decay=0.2, momentum=0.95, nesterov=True, adjust_lr_fn="match_rms_adamw")
    groups: list[dict[str, Any]] = [
        {"params": output["params"], "weight_decay": 0.2},
        {"params": rest["params"], "weight_decay": 0.0},
    ]
    steps(torchs, [muon, torch.optim.AdamW(groups, lr=5e-3, betas=config.betas, eps=config.eps)], 3)
    before = dict(untied_llama().named_parameters())
    for (name, a), b in zip(ours.named_parameters(), torchs.parameters(), strict=True):
        moved = (b - before[name]).norm()
        assert (a - b).norm() < 0.02 * moved, name


def test_an_update_of_muon_is_as_large_as_one_of_adamw() -> None:
    """Root mean square 0.2 of the rate, whatever the shape: Newton and Schulz's five steps leave singular values between 0.7 and 1.2."""
    model = torch.nn.Sequential(torch.nn.Linear(64, 256, bias=False), torch.nn.Linear(256, 64, bias=False))
    optimizer = build_optimizer(OptimConfig(name="muon", lr=1.0, weight_decay=0.0), model)
    before = [weight.detach().clone() for weight in model.parameters()]
    model(torch.randn(128, 64)).square().sum().backward()
    optimizer.step()
    for weight, start in zip(model.parameters(), before, strict=True):
        assert 0.2 * 0.7 < (weight - start).square().mean().sqrt() < 0.2 * 1.2


def test_soap_is_adam_where_it_does_not_precondition() -> None:
    """After its first step, in which it only looks at the gradient."""
    layer, adams = torch.nn.Linear(1, 1), torch.nn.Parameter(torch.tensor([3.0]))
    torch.nn.init.constant_(layer.bias, 3.0)
    soap = build_optimizer(OptimConfig(name="soap", lr=0.1), layer)
    adam = torch.optim.Adam([adams], lr=0.1, betas=(0.9, 0.95))
    for number, factor in enumerate((5.0, -2.0, 1.0)):
        (factor * layer(torch.ones(1, 1))).sum().backward()
        soap.step()
        soap.zero_grad()
        if number:
            adams.grad = torch.tensor([factor])
            adam.step()
        assert layer.bias.item() == pytest.approx(adams.item(), rel=1e-6)
