"""Which weights decay."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from harness.config.schema import OptimConfig
from harness.optim.build import build_optimizer, parameter_groups

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


def test_adamw_by_hand() -> None:
    """The first update of Adam is the rate times the sign of the gradient; decay shrinks the weight beforehand."""
    layer = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(layer.weight, 2.0)
    torch.nn.init.constant_(layer.bias, 3.0)
    optimizer = build_optimizer(OptimConfig(lr=0.1, weight_decay=0.5), layer)
    layer(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    assert layer.weight.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5) - 0.1, rel=1e-6)
    assert layer.bias.item() == pytest.approx(3.0 - 0.1, rel=1e-6)
