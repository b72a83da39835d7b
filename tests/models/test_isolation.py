"""The probe that tells which models keep packed documents apart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from harness.config.errors import InputError
from harness.models.isolation import document_leak, refuse_leaking_model

SHAPE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
SMALL: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
ISOLATED = {
    **dict.fromkeys(("llama", "qwen3", "mistral", "olmo2", "smollm3", "gemma2", "phi3", "gpt_neox"), SHAPE),
    "gpt2": {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64},
}
LEAKING = {
    "falcon": SMALL,
    "opt": {**SMALL, "ffn_dim": 64, "max_position_embeddings": 64, "word_embed_proj_dim": 32},
    "bloom": {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 2},
    "mpt": {"vocab_size": 64, "d_model": 32, "n_layers": 2, "n_heads": 2, "max_seq_len": 64},
    "gpt_oss": {
        **SMALL,
        "intermediate_size": 32,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
    },
}


def build(family: str, shape: dict[str, Any], attention: str | None = None) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model(family, **shape)
        config.use_cache = False
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, **({"attn_implementation": attention} if attention else {}))
        return model.train()


@pytest.mark.parametrize("family", ISOLATED)
def test_documents_are_kept_apart(family: str) -> None:
    model = build(family, ISOLATED[family])
    refuse_leaking_model(model, "best_fit")
    assert document_leak(model) < 1e-6
    assert model.training


@pytest.mark.parametrize("family", LEAKING)
def test_families_that_leak_are_refused(family: str) -> None:
    model = build(family, LEAKING[family])
    with pytest.raises(InputError, match=rf"data.packing=best_fit: .* \({family}: .* Valid for it: padded"):
        refuse_leaking_model(model, "best_fit")


def test_the_probe_draws_nothing() -> None:
    model = build("llama", SHAPE)
    before = torch.get_rng_state()
    document_leak(model)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_packed_document_sees_what_it_sees_alone(family: str, attention: str) -> None:
    """Learned absolute positions start over as well: they too come from the position ids."""
    model = build(family, ISOLATED[family], attention).eval()
    first, second = torch.randint(64, (1, 7)), torch.randint(64, (1, 9))
    packed = torch.cat([first, second], dim=1)
    positions = torch.cat([torch.arange(7), torch.arange(9)])[None]
    with torch.no_grad():
        together = model(input_ids=packed, position_ids=positions, use_cache=False).logits
        for document, part in ((first, together[:, :7]), (second, together[:, 7:])):
            torch.testing.assert_close(part, model(input_ids=document, use_cache=False).logits, rtol=1e-5, atol=1e-6)
