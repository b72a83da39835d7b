"""Steering in many families of transformers: what is added or taken out is in the weights exactly, or is refused."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.config.schema import AdapterConfig, SteeringOperation
from harness.models.adapters.steering import add_steering, plan_steering, steering_in
from harness.models.steering.baked import bake, refuse_unequal
from tests.models.test_isolation import SHAPE, build
from tests.models.test_steering import FAMILIES, directions, logits

HEADS = {**SHAPE, "head_dim": 16}
EXPERTS = {**SHAPE, "num_experts": 2, "num_local_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16}
LATENT = {
    **EXPERTS,
    "q_lora_rank": 8,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 16,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
MORE: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("qwen2", "phi", "olmo", "olmo3", "cohere", "cohere2", "starcoder2", "stablelm", "nemotron", "arcee"), SHAPE),
    **dict.fromkeys(("gemma", "glm", "glm4", "ernie4_5", "exaone4", "seed_oss", "hunyuan_v1_dense"), HEADS),
    **dict.fromkeys(("mixtral", "qwen3_moe", "granitemoe", "olmoe", "phimoe"), EXPERTS),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3"), LATENT),
    "gemma3_text": {**HEADS, "layer_types": ["sliding_attention", "full_attention"]},
    "granite": {**SHAPE, "residual_multiplier": 0.5},
    "lfm2": {**SHAPE, "layer_types": ["conv", "full_attention"], "block_ff_dim": 64, "block_auto_adjust_ff_dim": False},
    "mamba": {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8},
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 16},
}
SHAPES = {**FAMILIES, **MORE}
WITH_A_BIAS = {"llama", "smollm3", "gpt_neox", "gpt2", "gptj", "phi", "starcoder2", "nemotron", "arcee", "seed_oss"}
WITHOUT = {
    "qwen2",
    "qwen3",
    "mistral",
    "phi3",
    "gemma",
    "olmo",
    "cohere",
    "cohere2",
    "glm",
    "lfm2",
    "stablelm",
    "ernie4_5",
    "hunyuan_v1_dense",
}
EXACT: dict[SteeringOperation, set[str]] = {"add": WITH_A_BIAS, "ablate": WITH_A_BIAS | WITHOUT}
"""Families whose weights take it; the blocks of all others end in a norm, in experts or in a factor, or are no sum of two parts."""


@pytest.mark.parametrize("operation", EXACT)
@pytest.mark.parametrize("family", SHAPES)
def test_it_is_in_the_weights_exactly_or_refused(family: str, operation: SteeringOperation) -> None:
    refused = pytest.raises(InputError, match=rf"not for this model \({family}\): .*; valid for it: ")
    with nullcontext() if family in EXACT[operation] else refused:
        model = build(family, SHAPES[family])
        before = logits(model)
        steering = plan_steering(AdapterConfig(name="steering", block=1, operation=operation), directions(model))
        add_steering(model, steering)
        assert float((logits(model) - before).abs().max()) > 1e-3
        assert refuse_unequal(bake(build(family, SHAPES[family]).eval(), steering_in(model, steering)), model) < 1e-6
