"""Averages of weights, against averages by hand."""

from __future__ import annotations

from contextlib import suppress

import pytest
import torch

from harness.config.schema import OptimConfig
from harness.optim.averages import ExponentialAverage, in_place_of_weights, schedule_free_average
from harness.optim.build import build_optimizer
from harness.optim.per_step import StepSettings, set_step


def test_an_exponential_average_by_hand() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    average = ExponentialAverage([weight], 0.5)
    expected = [1.0, 2.0]
    for step, value in enumerate(([2.0, 0.0], [3.0, 1.0], [-1.0, 8.0], *[[4.0, 4.0]] * 6), start=1):
        weight.data.copy_(torch.tensor(value))
        average.update(step)
        decay = [2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17, 0.5, 0.5][step - 1]
        expected = [decay * e + (1 - decay) * v for e, v in zip(expected, value, strict=True)]
    assert average.weights[weight].tolist() == pytest.approx(expected, rel=1e-6)


def test_an_average_of_bfloat16_weights_does_not_stand_still() -> None:
    weight = torch.nn.Parameter(torch.full((3,), 1.0, dtype=torch.bfloat16))
    average = ExponentialAverage([weight], 0.999)
    weight.data.fill_(2.0)
    for step in range(20_000, 20_100):
        average.update(step)
    assert average.weights[weight].tolist() == pytest.approx([2.0 - 0.999**100] * 3, rel=1e-5)


def test_weights_come_back_to_the_bit_even_after_an_error() -> None:
    weight = torch.nn.Parameter(torch.randn(50))
    before = weight.detach().clone()
    with suppress(ZeroDivisionError), in_place_of_weights({weight: torch.zeros(50, dtype=torch.float64)}):
        assert not weight.any()
        _ = 1 / 0
    assert torch.equal(weight, before)


def test_the_average_of_schedule_free_by_hand() -> None:
    """Of the sequence z, weighted by the square of the greatest rate so far; gradients are taken at y, between z and the average."""
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(layer.weight, 3.0)
    beta1, beta2 = 0.8, 0.9
    optimizer = build_optimizer(OptimConfig(name="schedule_free", betas=(beta1, beta2), weight_decay=0.1), layer)
    z = x = y = 3.0
    assert schedule_free_average(optimizer)[layer.weight].item() == 3.0
    second, total = 0.0, 0.0
    for step, rate in enumerate((0.1, 0.2, 0.2), start=1):
        set_step(optimizer, StepSettings(lr=rate, betas=(beta1, beta2), weight_decay=0.1))
        layer(torch.ones(1, 1)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        gradient = 2 * y
        second = beta2 * second + (1 - beta2) * gradient**2
        z -= rate * (gradient / ((second / (1 - beta2**step)) ** 0.5 + 1e-8) + 0.1 * y)
        total += rate**2
        x += (rate**2 / total) * (z - x)
        y = (1 - beta1) * z + beta1 * x
        assert layer.weight.item() == pytest.approx(y, rel=1e-5)
        assert schedule_free_average(optimizer)[layer.weight].item() == pytest.approx(x, rel=1e-5)
