"""Losses by hand, in chunks, and by their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.config.errors import InputError
from harness.config.schema import DivergenceName
from harness.models.head import refuse_indivisible_model
from harness.training.divergences import summed_divergence, summed_sampled_forward_kl
from harness.training.losses import chunked_sum, summed_cross_entropy
from harness.training.sample_teacher import draw, uniform_offsets

DIVERGENCES: tuple[DivergenceName, ...] = ("forward_kl", "reverse_kl", "jsd")


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_hand(student: Any, teacher: Any, name: str, temperature: float, beta: float) -> float:
    """In numpy, from probabilities."""
    p, q = (np.exp(x / temperature) / np.exp(x / temperature).sum(axis=-1, keepdims=True) for x in (teacher, student))
    m = beta * p + (1 - beta) * q
    value = {
        "forward_kl": np.sum(p * np.log(p / q)),
        "reverse_kl": np.sum(q * np.log(q / p)),
        "jsd": beta * np.sum(p * np.log(p / m)) + (1 - beta) * np.sum(q * np.log(q / m)),
    }[name]
    return float(value * temperature**2)


def test_golden_divergences() -> None:
    """P = (1/2, 1/4, 1/4), Q = (1/4, 1/2, 1/4): by hand, KL = ln 2 / 4 both ways."""
    teacher = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64).log()
    student = torch.tensor([[0.25, 0.5, 0.25]], dtype=torch.float64).log()
    # With M = (3/8, 3/8, 1/4), both parts of the jsd are ln(4/3) / 2 + ln(2/3) / 4.
    expected_values = {"forward_kl": np.log(2) / 4, "reverse_kl": np.log(2) / 4, "jsd": np.log(4 / 3) / 2 + np.log(2 / 3) / 4}
    for name in DIVERGENCES:
        expected = expected_values[name]
        value = summed_divergence(student, teacher, name, temperature=1.0, beta=0.5)
        assert float(value) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize(("temperature", "beta"), [(1.0, 0.5), (2.5, 0.1)])
def test_divergences_are_those_of_probabilities(name: DivergenceName, temperature: float, beta: float) -> None:
    student, teacher = normal(4, 7, seed=1), normal(4, 7, seed=2)
    value = summed_divergence(student, teacher, name, temperature=temperature, beta=beta)
    assert float(value) == pytest.approx(by_hand(student.numpy(), teacher.numpy(), name, temperature, beta), rel=1e-12)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_the_gradient_hardly_depends_on_a_high_temperature(name: DivergenceName) -> None:
    """What the factor of temperature² is for: without it, the gradient at 40 would be a quarter of that at 20."""
    norms = []
    for temperature in (20.0, 40.0):
        student = normal(4, 7, seed=1).requires_grad_()
        summed_divergence(student, normal(4, 7, seed=2), name, temperature=temperature, beta=0.5).backward()  # type: ignore[no-untyped-call]
        assert student.grad is not None
        norms.append(float(student.grad.norm()))
    assert norms[0] == pytest.approx(norms[1], rel=0.1)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_divergences_in_chunks_pass_gradcheck(name: DivergenceName) -> None:
    teacher = normal(5, 4, seed=3)

    def loss(hidden: Tensor, weight: Tensor) -> Tensor:
        def of_rows(rows: Tensor, wanted: Tensor) -> Tensor:
            return summed_divergence(rows @ weight.T, wanted, name, temperature=1.7, beta=0.3)

        return chunked_sum(of_rows, hidden, teacher, chunk=2)

    assert torch.autograd.gradcheck(loss, (normal(5, 3, seed=4).requires_grad_(), normal(4, 3, seed=5).requires_grad_()))


@pytest.mark.parametrize("chunk", [1, 7, 32])
def test_chunks_change_neither_values_nor_gradients(chunk: int) -> None:
    head = nn.Linear(16, 50, bias=False)
    results = []
    for size in (None, chunk):
        hidden = normal(30, 16, seed=1, dtype=torch.float32).requires_grad_()
        labels = torch.arange(30) % 50

        def loss(rows: Tensor, labels: Tensor) -> Tensor:
            return summed_cross_entropy(head(rows), labels)

        head.zero_grad()
        total = chunked_sum(loss, hidden, labels, chunk=size)
        (total / 30).backward()  # type: ignore[no-untyped-call]
        assert hidden.grad is not None
        assert head.weight.grad is not None
        results.append((total.detach() / 30, hidden.grad, head.weight.grad.clone()))
    for whole, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-6, atol=1e-7)


def test_logits_of_one_chunk_at_a_time_are_kept_for_the_gradient() -> None:
    sizes: list[int] = []

    def remember(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    head = nn.Linear(8, 1000, bias=False)

    def loss(rows: Tensor, labels: Tensor) -> Tensor:
        return summed_cross_entropy(head(rows), labels)

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        chunked_sum(loss, normal(64, 8, seed=1, dtype=torch.float32).requires_grad_(), torch.zeros(64, dtype=torch.int64), chunk=16)
        assert max(sizes, default=0) <= 64 * 8
        loss(normal(64, 8, seed=1, dtype=torch.float32).requires_grad_(), torch.zeros(64, dtype=torch.int64))
        assert max(sizes) >= 64 * 1000


# Samples of a teacher.


def sampled_gradient(student: Tensor, samples: Tensor, entropy: Tensor, temperature: float) -> tuple[float, Tensor]:
    student = student.clone().requires_grad_()
    value = summed_sampled_forward_kl(student, samples, entropy, temperature=temperature)
    value.backward()  # type: ignore[no-untyped-call]
    assert student.grad is not None
    return float(value.detach()), student.grad


def test_samples_estimate_forward_kl_without_bias_and_the_likeliest_tokens_do_not() -> None:
    """Mean of many draws against the full divergence, in value and in gradient; and what top-k would give."""
    temperature, many, samples = 1.5, 100_000, 4
    student, teacher = normal(1, 12, seed=1), normal(1, 12, seed=2)
    full = student.clone().requires_grad_()
    expected = summed_divergence(full, teacher, "forward_kl", temperature=temperature, beta=0.5)
    expected.backward()  # type: ignore[no-untyped-call]
    assert full.grad is not None
    offsets = torch.from_numpy(uniform_offsets(np.arange(many), seed=7))
    drawn, entropy = draw(teacher.expand(many, -1) / temperature, offsets, samples)
    value, gradient = sampled_gradient(student.expand(many, -1), drawn, entropy, temperature)
    assert value / many == pytest.approx(float(expected.detach()), rel=0.01)
    scale = float(full.grad.norm())
    assert float((gradient.mean(dim=0) - full.grad[0]).norm()) < 0.01 * scale
    top = teacher.topk(samples)
    likeliest = torch.zeros_like(teacher).scatter(1, top.indices, (top.values / temperature).softmax(dim=-1))
    biased = temperature * ((student / temperature).softmax(dim=-1) - likeliest)
    assert float((biased - full.grad).norm()) > 0.2 * scale


def test_each_token_is_drawn_as_often_as_its_probability_says_up_to_one() -> None:
    logits = normal(200, 30, seed=3)
    drawn, entropy = draw(logits, torch.from_numpy(uniform_offsets(np.arange(200), seed=0)), 25)
    counts = torch.zeros(200, 30, dtype=torch.float64).scatter_add_(1, drawn, torch.ones(200, 25, dtype=torch.float64))
    p = logits.softmax(dim=-1)
    assert float((counts - 25 * p).abs().max()) < 1
    torch.testing.assert_close(entropy, -(p * p.log()).sum(dim=-1))


def test_offsets_are_uniform_and_a_function_of_position_and_seed() -> None:
    offsets = uniform_offsets(np.arange(10_000), seed=1)
    assert (offsets[[5, 9_999, 17]] == uniform_offsets(np.array([5, 9_999, 17]), seed=1)).all()
    histogram = np.histogram(offsets, bins=10, range=(0, 1))[0]
    assert np.abs(histogram - 1000).max() < 150  # five standard deviations
    assert abs(np.corrcoef(offsets[:-1], offsets[1:])[0, 1]) < 0.05
    assert np.abs(offsets - uniform_offsets(np.arange(10_000), seed=2)).mean() > 0.3


# Families whose logits are more than a head's.


@pytest.mark.parametrize(
    ("family", "extra", "divisible"),
    [
        ("llama", {}, True),
        ("qwen3", {}, True),
        ("gpt2", {}, True),
        ("gemma2", {"final_logit_softcapping": 0.05, "head_dim": 16}, False),
        ("granite", {"logits_scaling": 8.0}, False),
        ("cohere", {"logit_scale": 0.0625}, False),
    ],
)
def test_models_that_cannot_be_computed_in_chunks_are_told(family: str, extra: dict[str, Any], divisible: bool) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    config = AutoConfig.for_model(family, vocab_size=100, **shape, **special, **extra)
    model = AutoModelForCausalLM.from_config(config)
    if divisible:
        refuse_indivisible_model(model, "trainer.loss_chunk_tokens=8")
        return
    with pytest.raises(InputError, match=rf"trainer\.loss_chunk_tokens=8: the loss of this model \({family}\).*Valid for it: null"):
        refuse_indivisible_model(model, "trainer.loss_chunk_tokens=8")
