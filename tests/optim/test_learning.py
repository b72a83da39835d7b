"""Every optimizer learns real text."""

from __future__ import annotations

import argparse
import inspect

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from harness.config.schema import OptimConfig
from harness.config.schema.optim import OptimName
from harness.optim.averages import in_place_of_weights, schedule_free_average
from harness.optim.build import build_optimizer
from harness.optim.per_step import StepSettings, set_step

RATES: dict[OptimName, float] = {"adamw": 1e-2, "muon": 1e-2, "soap": 1e-2, "lion": 3e-3, "schedule_free": 1e-2}
STEPS = 50


def losses(name: OptimName, rate: float) -> tuple[float, float]:
    """Nats per byte of a small Llama on the source of argparse, before and after some steps; the latter of the average, if there is one."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=128, **shape))
    text = torch.tensor(list(inspect.getsource(argparse).encode("ascii", "replace")))
    rows = text[: len(text) // 32 * 32].reshape(-1, 32)
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))]
    betas = (0.9, 0.99) if name == "lion" else (0.9, 0.95)
    optimizer = build_optimizer(OptimConfig(name=name, betas=betas), model)

    def loss_on(batch: torch.Tensor) -> torch.Tensor:
        loss: torch.Tensor = model(input_ids=batch, labels=batch).loss
        return loss

    held_out = rows[-64:]
    before = loss_on(held_out).item()
    for step in range(STEPS):
        set_step(optimizer, StepSettings(lr=rate * min(1.0, (step + 1) / 5), betas=betas, weight_decay=0.1))
        loss_on(rows[step * 16 : (step + 1) * 16]).backward()
        optimizer.step()
        optimizer.zero_grad()
    with in_place_of_weights(schedule_free_average(optimizer) if name == "schedule_free" else {}):
        return before, loss_on(held_out).item()


@pytest.mark.parametrize("name", RATES)
def test_it_learns(name: OptimName) -> None:
    before, after = losses(name, RATES[name])
    assert before > 4.8
    assert after < 3.0
    assert losses(name, 0.0)[1] == pytest.approx(before, abs=1e-5)
