"""The probe that tells which models keep packed documents apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from harness.config.errors import InputError
from harness.config.schema import Config, DataConfig, ModelConfig
from harness.models.document_mask import document_mask
from harness.models.isolation import document_leak, isolate_documents

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
    "gpt2": {"vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "attn_pdrop": 0.0},
}
GPT_OSS: dict[str, Any] = {
    **SMALL,
    "intermediate_size": 32,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "num_local_experts": 2,
    "num_experts_per_tok": 1,
    "layer_types": ["sliding_attention", "full_attention"],
}
RESCUED = {
    "falcon": SMALL,
    "opt": {**SMALL, "ffn_dim": 64, "max_position_embeddings": 64, "word_embed_proj_dim": 32},
    "mpt": {"vocab_size": 64, "d_model": 32, "n_layers": 2, "n_heads": 2, "max_seq_len": 64},
    "gpt_oss": GPT_OSS,
}
"""Families that leak, but take an explicit mask."""
LOST = {
    "bloom": {"vocab_size": 64, "hidden_size": 32, "n_layer": 2, "n_head": 2},
    "qwen3_next": {
        **SHAPE,
        "head_dim": 16,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
        "layer_types": ["linear_attention", "full_attention"],
    },
    "mamba2": {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1},
}
"""Families that leak, mask or not."""


def build(family: str, shape: dict[str, Any], attention: str | None = None) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AutoConfig.for_model(family, **shape)
        config.use_cache = False
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, **({"attn_implementation": attention} if attention else {}))
        return model.train()


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "harness"]


@pytest.mark.parametrize("family", ISOLATED)
def test_documents_are_kept_apart_by_position_ids(family: str, caplog: pytest.LogCaptureFixture) -> None:
    model = build(family, ISOLATED[family])
    isolate_documents(model, Config(data=DataConfig()))
    assert document_leak(model) < 1e-6
    assert model.training
    assert not said(caplog)


@pytest.mark.parametrize("family", RESCUED)
def test_families_that_leak_are_given_a_mask_and_the_log_says_so(family: str, caplog: pytest.LogCaptureFixture) -> None:
    model = build(family, RESCUED[family])
    assert document_leak(model) > 1e-3
    isolate_documents(model, Config(data=DataConfig()))
    assert document_leak(model) < 1e-6
    (message,) = said(caplog)
    assert f"kept apart by an explicit mask in this model ({family})" in message
    assert model.training


@pytest.mark.parametrize("family", LOST)
def test_families_that_leak_under_a_mask_are_refused(family: str) -> None:
    model = build(family, LOST[family])
    with pytest.raises(
        InputError, match=rf"data.packing=best_fit, .* \({family}: by position ids .*mask.* Valid for it: data.packing=padded"
    ):
        isolate_documents(model, Config(data=DataConfig()))


def test_what_is_asked_for_is_used_or_refused() -> None:
    isolate_documents(build("mamba2", LOST["mamba2"]), Config(data=DataConfig(packing="padded")))
    with pytest.raises(InputError, match=r"data.isolation=position_ids: .* Valid for it: data.isolation=auto, data.packing=padded"):
        isolate_documents(build("falcon", SMALL), Config(data=DataConfig(isolation="position_ids")))
    with pytest.raises(InputError, match=r"data.isolation=mask: .* takes no explicit mask"):
        isolate_documents(build("bloom", LOST["bloom"]), Config(data=DataConfig(isolation="mask")))
    model = build("llama", SHAPE)
    isolate_documents(model, Config(data=DataConfig(isolation="mask")))
    assert model.get_decoder()._forward_pre_hooks


@pytest.mark.parametrize(
    ("family", "shape"),
    [
        *RESCUED.items(),
        ("llama", SHAPE),
        # Windows shorter than documents: the mask replaces them.
        ("gpt_oss", {**GPT_OSS, "sliding_window": 3}),
        ("mistral", {**SHAPE, "sliding_window": 3}),
        ("gemma3_text", {**SHAPE, "head_dim": 16, "sliding_window": 3, "layer_types": ["sliding_attention", "full_attention"]}),
    ],
)
def test_a_document_under_a_mask_sees_what_it_sees_alone(family: str, shape: dict[str, Any]) -> None:
    """Logits and the gradients of their loss, with documents of several lengths in two rows."""
    lengths = ((7, 9), (3, 13))
    model = build(family, shape)
    ids = torch.randint(64, (2, 16))
    model.eval()
    alone = [
        model(input_ids=part[None], use_cache=False).logits[0] for row, cut in zip(ids, lengths, strict=True) for part in row.split(cut)
    ]
    torch.cat(alone).logsumexp(-1).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    isolate_documents(model, Config(data=DataConfig(isolation="mask")))
    positions = torch.stack([torch.cat([torch.arange(n) for n in cut]) for cut in lengths])
    packed = model(input_ids=ids, position_ids=positions, use_cache=False).logits
    torch.testing.assert_close(packed.flatten(0, 1), torch.cat(alone), rtol=1e-5, atol=1e-6)
    packed.logsumexp(-1).sum().backward()
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            model.get_parameter(name).grad, gradient, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


SHARING = Config(data=DataConfig(share_prompt=True))


@pytest.mark.parametrize("attention", ["auto", "varlen"])
@pytest.mark.parametrize("family", ["llama", "mistral", "gpt2"])
def test_a_document_that_shares_a_beginning_sees_it(family: str, attention: Any) -> None:
    """mistral's window is shorter than what is shared."""
    shape = {**SHAPE, "sliding_window": 3} if family == "mistral" else ISOLATED[family]
    model = build(family, shape).eval()
    first, second = torch.randint(64, (2, 9)), torch.randint(64, (2, 5))
    expected = model(input_ids=torch.cat([first[:, :6], second], dim=1), use_cache=False).logits[:, 6:]
    isolate_documents(model, replace(SHARING, model=ModelConfig(attention=attention)))
    positions = torch.cat([torch.arange(9), torch.arange(6, 11)]).expand(2, -1)
    found = model(input_ids=torch.cat([first, second], dim=1), position_ids=positions, use_cache=False).logits[:, 9:]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("family", "shape"), [("bloom", LOST["bloom"]), ("mpt", RESCUED["mpt"])])
def test_a_family_that_cannot_share_is_refused(family: str, shape: dict[str, Any]) -> None:
    """bloom takes no mask; mpt has its distances from places in the row."""
    with pytest.raises(
        InputError, match=rf"data.share_prompt=true: a prompt cannot be shared in this model \({family}.* Valid for it: false"
    ):
        isolate_documents(build(family, shape), SHARING)


def test_the_mask_of_a_row() -> None:
    positions = torch.tensor([[0, 1, 2, 0, 1]])
    seen = document_mask(positions, dtype=torch.float32)[0, 0] == 0
    assert seen.int().tolist() == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]
    seen = document_mask(torch.tensor([[0, 1, 2, 1, 2, 0]]), dtype=torch.float32)[0, 0] == 0
    shared = [[1, 0, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 0, 0, 1, 0, 0], [1, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 1]]
    assert seen.int().tolist() == shared
    seen = document_mask(positions, dtype=torch.float32, window=2)[0, 0] == 0
    assert seen.int().tolist() == [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 1]]


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
