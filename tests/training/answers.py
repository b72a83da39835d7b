"""Runs that learn from answers: their data, and the first step of one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from harness.config.load import load
from harness.data.dataset import PackedRows
from harness.models.adapters.build import build_adapted_model
from harness.models.isolation import isolate_documents
from harness.training.inputs import load_inputs
from harness.training.module import TrainingModule
from harness.training.objectives.build import build_objective
from tests.support.corpus import TinyText


def over_answers(file: Path, rows: Sequence[dict[str, Any]], tiny_text: TinyText) -> list[str]:
    """Write rows of plain text with answers to a file; overrides of runs that learn from them, with a little replay."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [
        *(one for one in tiny_text.overrides if ".domain." not in one),
        "data.context_length=64",
        "model.max_context=64",
        "trainer.batch_tokens=256",
        "objective=preference",
        f"data.sources.prefs.path={file}",
        "data.sources.prefs.format=preference_text",
        "data.sources.general.format=text",
        "data.validation.general.format=text",
        f"data.cache_dir={file.parent / 'cache'}",
    ]


class FirstStep(NamedTuple):
    """The first step of a run, with weights that are not the reference's."""

    loss: float
    logged: dict[str, float]
    """What the objective logs besides."""
    gradients: dict[str, torch.Tensor]


def first_step(overrides: Sequence[str]) -> FirstStep:
    config = load(list(overrides)).config
    inputs, objective = load_inputs(config), build_objective(config)
    plan, tokenizer = inputs.plan, inputs.tokenizer
    assert plan is not None
    model = build_adapted_model(config, tokenizer).model
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad and "lora" in name:
                weight += 0.1 * torch.randn_like(weight)
            elif weight.requires_grad and "norm" in name:
                weight *= 1.5
    isolate_documents(model, config)
    objective.load(model, tokenizer)
    data = objective.prepare(plan.data, tokenizer, rows=plan.rows)
    rows, micro = PackedRows(data), plan.batch_size.full // plan.accumulation
    module = TrainingModule(model, config, plan, objective)
    objective.begin_step(model, data, 0, plan.batch_size.full)
    loss = torch.zeros(())
    for start in range(0, plan.batch_size.full, micro):
        loss = loss + objective.loss_sum(model, rows.__getitems__(list(range(start, start + micro)))) / float(plan.targets[0])
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return FirstStep(float(loss.detach()), objective.step_metrics(), gradients)


def assert_same_step(one: FirstStep, other: FirstStep) -> None:
    """Up to the rounding of sums in another order."""
    assert all(gradient.isfinite().all() for gradient in one.gradients.values())
    assert other.loss == pytest.approx(one.loss, rel=1e-5)
    assert other.logged == pytest.approx(one.logged, rel=1e-4, abs=1e-5)
    for name, gradient in one.gradients.items():
        torch.testing.assert_close(other.gradients[name], gradient, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")
