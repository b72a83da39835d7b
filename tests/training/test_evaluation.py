"""Fixed sets, unpacked: the same losses whatever the training does, and by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from harness.data.validation import ValidationSet
from harness.training.evaluation import evaluate
from tests.training.conftest import NewRun
from tests.training.runs import train_here

VALUES = ("loss", "bits_per_byte", "forgetting")


class Uniform(torch.nn.Module):
    """Says that all of four tokens are as likely, but for token 3, which it gives half."""

    device = torch.device("cpu")

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> SimpleNamespace:
        assert not use_cache
        assert not self.training
        probabilities = torch.tensor([1 / 6, 1 / 6, 1 / 6, 1 / 2])
        return SimpleNamespace(logits=probabilities.log().expand(*input_ids.shape, 4))


@pytest.mark.parametrize("batch_tokens", [1, 4, 1000])
def test_by_hand(batch_tokens: int) -> None:
    validation = ValidationSet(
        domain="toy",
        tokens=np.array([0, 3, 3, 1, 2, 0, 3], dtype=np.uint16),
        lengths=np.array([5, 2]),  # predicted: 3 3 1 2, and 3
        hashes=np.zeros(2, dtype=np.uint64),
        bytes=10,
        context_length=2,
    )
    nats = 3 * math.log(2) + 2 * math.log(6)
    model = Uniform()
    found = evaluate(model, validation, batch_tokens=batch_tokens)  # type: ignore[arg-type]
    assert found["loss"] == pytest.approx(nats / 5, rel=1e-6)
    assert found["bits_per_byte"] == pytest.approx(nats / math.log(2) / 10, rel=1e-6)
    assert model.training


def test_neither_packing_nor_batches_matter(new_run: NewRun) -> None:
    first_rows = []
    variants = ("data.packing=best_fit", "data.packing=concat", "data.packing=padded", "trainer.evaluation_batch_tokens=32")
    for number, override in enumerate(variants):
        # Rows of different packings have different tokens: with no rate to speak of, the losses at the end must agree as well.
        _, run = new_run(f"run-{number}", override, "optim.lr=1e-12", "trainer.max_steps=1")
        train_here(run)
        first_rows.append(run.metrics.rows()[0])
        assert run.metrics.rows()[1]["val/domain/loss"] == pytest.approx(first_rows[0]["val/domain/loss"], rel=1e-6)
    for row in first_rows[1:3]:
        assert row == first_rows[0]
    assert first_rows[3] == pytest.approx(first_rows[0], rel=1e-6, abs=1e-9)


def test_forgetting_is_the_rise_since_step_0(new_run: NewRun) -> None:
    _, run = new_run("run", "trainer.max_steps=6", "trainer.evaluate_every_steps=2", "trainer.log_every_steps=100", "optim.lr=1e-2")
    train_here(run, stop_after=4)
    train_here(run)
    rows = run.metrics.rows()
    assert [row["step"] for row in rows] == [0, 2, 4, 6]
    for domain in ("domain", "general"):
        start = rows[0][f"val/{domain}/loss"]
        assert rows[0][f"val/{domain}/forgetting"] == 0.0
        for row in rows:
            assert row[f"val/{domain}/forgetting"] == row[f"val/{domain}/loss"] - start
        assert rows[-1][f"val/{domain}/loss"] < start - 0.05
        ratios = {row[f"val/{domain}/bits_per_byte"] / row[f"val/{domain}/loss"] for row in rows}
        assert max(ratios) == pytest.approx(min(ratios), rel=1e-12)


def test_step_0_and_the_end_are_always_evaluated(new_run: NewRun) -> None:
    _, run = new_run("run", "trainer.log_every_steps=100", "trainer.max_steps=3")
    train_here(run)
    rows = run.metrics.rows()
    assert [row["step"] for row in rows] == [0, 3]
    for row in rows:
        assert all(f"val/{domain}/{value}" in row for domain in ("domain", "general") for value in VALUES)
