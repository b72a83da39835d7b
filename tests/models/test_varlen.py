"""Attention that is told where documents begin: what is around the kernel, on a CPU; the CUDA kernel itself is not run here."""

from __future__ import annotations

import functools
import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from harness.config.errors import InputError
from harness.config.schema import Config, DataConfig, ModelConfig, ObjectiveConfig, TrainerConfig
from harness.models.attention import choose_varlen
from harness.models.compiled import uncompiled
from harness.models.document_mask import document_mask
from harness.models.isolation import document_leak, isolate_documents
from harness.models.varlen import (
    Bounds,
    _asks_for_groups,
    cpu_kernel,
    cuda_kernel,
    document_bounds,
    kernel_problem,
    shared_keys,
    uses_varlen,
    varlen_attention,
)
from tests.models.test_isolation import ISOLATED, SHAPE, build

AMPERE, TURING = (8, 0), (7, 5)


def asked_for(attention: str = "auto", *, precision: str = "bf16-mixed", packing: str = "best_fit", isolation: str = "auto") -> Config:
    model, data = ModelConfig(attention=attention), DataConfig(packing=packing, isolation=isolation)  # type: ignore[arg-type]
    return Config(model=model, data=data, trainer=TrainerConfig(precision=precision, accelerator="cpu"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "capability", "expected"),
    [
        (asked_for(), AMPERE, "try"),
        (asked_for(precision="16-mixed"), AMPERE, "try"),
        (asked_for(precision="32-true"), AMPERE, "no"),
        (asked_for(), TURING, "no"),
        (asked_for(), None, "no"),
        (asked_for(packing="padded"), AMPERE, "no"),
        (asked_for(isolation="mask"), AMPERE, "no"),
        (asked_for("sdpa"), AMPERE, "no"),
        (asked_for("flex_attention"), AMPERE, "no"),
        (asked_for("varlen", precision="32-true"), None, "must"),
        (replace(asked_for(precision="32-true"), objective=ObjectiveConfig(name="preference")), None, "try"),
        (replace(asked_for(precision="32-true"), objective=ObjectiveConfig(name="preference")), AMPERE, "no"),
        (replace(asked_for(isolation="mask"), objective=ObjectiveConfig(name="preference")), None, "no"),
    ],
)
def test_which_attention_is_chosen(config: Config, capability: tuple[int, int] | None, expected: str) -> None:
    assert choose_varlen(config, capability=capability) == expected


def test_documents_laid_end_to_end() -> None:
    """A row begins a document, even where positions seem to go on from the last row's end."""
    position_ids = torch.tensor([[0, 1, 2, 0, 1], [3, 4, 5, 0, 0], [0, 1, 2, 3, 4]])
    bounds = document_bounds(position_ids)
    assert bounds.dtype == torch.int32
    assert bounds.tolist() == [0, 3, 5, 8, 9, 10, 15]


SHARED = torch.tensor([[0, 1, 2, 3, 2, 3, 4, 0], [0, 1, 2, 1, 2, 0, 1, 2]])
"""Documents that share 2 and 1 positions of those before them, and others that share nothing."""


def test_the_keys_of_documents_that_share_a_beginning() -> None:
    bounds = document_bounds(SHARED)
    assert bounds.tolist() == [0, 4, 7, 8, 11, 13, 16]
    found = shared_keys(SHARED, bounds)
    assert found is not None
    index, of_keys = found
    assert index.tolist() == [0, 1, 2, 3, *(0, 1, 4, 5, 6), 7, 8, 9, 10, *(8, 11, 12), 13, 14, 15]
    assert of_keys.tolist() == [0, 4, 9, 10, 13, 16, 19]
    assert of_keys.dtype == torch.int32
    apart = torch.tensor([[0, 1, 0], [3, 4, 0]])
    assert shared_keys(apart, document_bounds(apart)) is None


@pytest.mark.parametrize(
    "position_ids", [torch.tensor([[0, 1, 2, 3, 0, 1, 2, 0], [0, 1, 2, 3, 4, 5, 6, 7]]), SHARED], ids=["apart", "shared"]
)
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("heads", [4, 2])
def test_what_a_position_sees_is_what_it_sees_under_a_mask(heads: int, window: int | None, position_ids: Tensor) -> None:
    """With as many key heads as query heads, and with half of them; forward and backward."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, h, 8, 16, requires_grad=True) for h in (4, heads, heads))
    bounds = document_bounds(position_ids)
    index, of_keys = shared_keys(position_ids, bounds) or (None, bounds)
    found, _ = varlen_attention(
        *(None, query, key, value, None),
        sliding_window=window,
        scaling=0.3,
        cu_seq_lens_q=bounds,
        cu_seq_lens_k=of_keys,
        shared_key_index=index,
    )
    mask = document_mask(position_ids, dtype=torch.float32, window=window)
    expected = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3, enable_gqa=heads != 4).transpose(1, 2)
    assert torch.allclose(found, expected, atol=1e-6)
    direction = torch.randn_like(found)
    inputs = (query, key, value)
    one, other = torch.autograd.grad(found, inputs, direction), torch.autograd.grad(expected, inputs, direction)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("family", ["llama", "qwen3", "mistral", "gemma3_text", "olmo2"])
def test_a_model_keeps_documents_apart_and_computes_the_same(family: str) -> None:
    """Packed and by itself; mistral's and gemma3's windows reach less far than their documents."""
    shape = {**SHAPE, "sliding_window": 5} if family in ("mistral", "gemma3_text") else SHAPE
    model = build(family, shape).eval()
    rows = torch.randint(64, (2, 24))
    positions = torch.cat([torch.arange(10), torch.arange(14)]).expand(2, -1)
    with torch.no_grad():
        before, alone = (model(input_ids=rows, position_ids=p, use_cache=False).logits for p in (positions, None))
        isolate_documents(model, asked_for("varlen", precision="32-true"))
        assert uses_varlen(model)
        after, alone_after = (model(input_ids=rows, position_ids=p, use_cache=False).logits for p in (positions, None))
    assert document_leak(model) < 1e-5
    assert torch.allclose(before, after, atol=1e-5)
    assert torch.allclose(alone, alone_after, atol=1e-5)


@pytest.mark.parametrize(("family", "problem"), [("falcon", "cannot be replaced"), ("gemma2", "knows no softcap"), ("gpt_oss", "s_aux")])
def test_a_model_that_attends_otherwise_is_refused_and_left_as_it_was(family: str, problem: str) -> None:
    model = build(family, SHAPE)
    before, hooks = model.config._attn_implementation, len(model.get_decoder()._forward_pre_hooks)  # type: ignore[no-untyped-call]
    with pytest.raises(InputError, match=rf"model.attention=varlen: .*{family}.*{problem}.* Valid for it: auto, sdpa, eager"):
        isolate_documents(model, asked_for("varlen"))
    assert model.config._attn_implementation == before
    assert len(model.get_decoder()._forward_pre_hooks) == hooks  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("family", "shape"),
    [("llama", {**SHAPE, "attention_dropout": 0.1}), ("gpt2", {**ISOLATED["gpt2"], "attn_pdrop": 0.1})],
)
def test_dropout_is_refused(family: str, shape: dict[str, Any]) -> None:
    """Whatever the family calls it: it is in training alone that attention hears of it."""
    before = torch.get_rng_state()
    with pytest.raises(InputError, match=r"model.attention=varlen: .* dropout"):
        isolate_documents(build(family, shape).train(), asked_for("varlen"))
    assert torch.equal(before, torch.get_rng_state())


def test_where_it_is_only_wished_for_the_log_says_why_not(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    monkeypatch.setattr("harness.models.isolation.varlen_mode", lambda config: "try")
    model = build("gemma2", SHAPE)
    with caplog.at_level(logging.WARNING):
        isolate_documents(model, asked_for())
    assert "varlen attention is not used for this model (gemma2)" in caplog.text
    assert not uses_varlen(model)


def test_a_kernel_is_compared_before_it_is_used() -> None:
    model = build("llama", {**SHAPE, "num_key_value_heads": 2})

    def forgets_the_past(query: Tensor, key: Tensor, value: Tensor, bounds: Bounds, **options: Any) -> Tensor:
        return cpu_kernel(query, key, value, bounds, **{**options, "window": 2})

    def aligns_at_the_first_key(query: Tensor, key: Tensor, value: Tensor, bounds: Bounds, **options: Any) -> Tensor:
        own, of_keys = (part.tolist() for part in bounds)
        seen = torch.cat([torch.arange(start, start + b - a) for a, b, start in zip(own, own[1:], of_keys, strict=False)])
        return cpu_kernel(query, key[seen], value[seen], (bounds[0], bounds[0]), **options)

    for shares in (False, True):
        assert kernel_problem(model, cpu_kernel, device="cpu", dtype=torch.float32, shares=shares) is None
        assert kernel_problem(model, cpu_kernel, device="cpu", dtype=torch.bfloat16, shares=shares) is None
    problem = kernel_problem(model, forgets_the_past, device="cpu", dtype=torch.bfloat16)
    assert problem is not None
    assert "is off by" in problem
    assert kernel_problem(model, aligns_at_the_first_key, device="cpu", dtype=torch.float32) is None
    problem = kernel_problem(model, aligns_at_the_first_key, device="cpu", dtype=torch.float32, shares=True)
    assert problem is not None
    assert "is off by" in problem


def test_the_cuda_kernel_says_that_it_does_not_run_here() -> None:
    if torch.cuda.is_available():
        pytest.skip("for machines without one")
    problem = kernel_problem(build("llama", SHAPE), cuda_kernel, device="cpu", dtype=torch.bfloat16)
    assert problem is not None
    assert "does not run" in problem


def test_the_arguments_of_the_cuda_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch's own signature names them: causal, of a window of 3 tokens the one itself and 2 before it."""
    import inspect

    from torch.nn.attention import varlen

    calls = []

    @functools.wraps(varlen.varlen_attn)
    def record(*args: Any, **kwargs: Any) -> Tensor:
        calls.append(inspect.signature(record).bind(*args, **kwargs).arguments)
        return torch.empty(0)

    monkeypatch.setattr(varlen, "varlen_attn", record)
    q, kv, bounds = torch.zeros(8, 4, 16), torch.zeros(8, 2, 16), torch.tensor([0, 8], dtype=torch.int32)
    for window in (None, 3):
        cuda_kernel(q, kv, kv, (bounds, bounds), longest=8, scale=0.25, window=window)
    assert [call["window_size"] for call in calls] == [(-1, 0), (2, 0)]
    assert all(call["enable_gqa"] and call["scale"] == 0.25 and call["max_q"] == call["max_k"] == 8 for call in calls)


def test_torch_2_11_is_not_told_of_groups_which_it_does_not_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.nn.attention import varlen

    def varlen_attn(
        query: Tensor, key: Tensor, *others: Any, scale: float | None = None, window_size: tuple[int, int] = (-1, -1)
    ) -> Tensor:
        return torch.empty(key.shape)

    monkeypatch.setattr(varlen, "varlen_attn", varlen_attn)
    _asks_for_groups.cache_clear()
    q, kv, bounds = torch.zeros(8, 4, 16), torch.zeros(8, 2, 16), torch.tensor([0, 8], dtype=torch.int32)
    try:
        assert cuda_kernel(q, kv, kv, (bounds, bounds), longest=8, scale=None, window=None).shape == kv.shape
    finally:
        _asks_for_groups.cache_clear()


def test_flex_attention_sees_what_sdpa_sees() -> None:
    """Forward only: on a CPU it has no backward pass. Uncompiled, since compiling takes a minute; the mask is the same."""
    rows = torch.randint(64, (1, 24))
    positions = torch.cat([torch.arange(10), torch.arange(14)])[None]
    logits = []
    for attention in ("sdpa", "flex_attention"):
        model = build("llama", SHAPE).eval()
        model.set_attn_implementation(attention)
        with torch.no_grad(), uncompiled():
            logits.append(model(input_ids=rows, position_ids=positions, use_cache=False).logits)
    assert torch.allclose(*logits, atol=1e-5)
