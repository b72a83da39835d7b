"""Losses of pairs against arithmetic, and against what TRL 1.16 says of one batch."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from harness.config.schema import PairLossName
from harness.training.preference_losses import Answers, kto_losses, preference_losses


def answers(logps: list[float], reference: list[float], tokens: list[int]) -> Answers:
    return Answers(torch.tensor(logps, dtype=torch.float64), torch.tensor(reference, dtype=torch.float64), torch.tensor(tokens))


ONE = answers([-10.0], [-11.0], [5]), answers([-12.0], [-11.5], [8])
"""chosen.shift 1, rejected.shift -0.5."""
BATCH = (
    answers([-32.774024592, -58.760332575], [-32.111759994, -57.512037612], [17, 20]),
    answers([-49.088512389, -93.868268210], [-47.002092812, -89.072669784], [5, 15]),
)
"""A policy with every norm 5 % larger than its reference, stories260k."""


@pytest.mark.parametrize(
    ("kind", "options", "loss"),
    [
        ("dpo", {"beta": 0.1}, 0.620957048),
        ("dpo", {"beta": 0.1, "label_smoothing": 0.1}, 0.635957048),
        ("robust", {"beta": 0.1, "label_smoothing": 0.1}, 0.602207048),
        ("ipo", {"beta": 0.1}, 22.44390625),
        ("dpo_norm", {"beta": 5}, 0.238344508),
        ("apo_zero", {"beta": 0.1}, 0.962523416),
        ("apo_down", {"beta": 0.1}, 0.987549342),
        ("simpo", {"beta": 2, "gamma": 1}, 2.126928011),
        ("orpo", {"beta": 1}, 1.042057808),
        # The chosen answer has become more likely: no penalty.
        ("dpop", {"beta": 0.1, "gamma": 50}, 0.620957048),
    ],
)
def test_arithmetic(kind: PairLossName, options: dict[str, float], loss: float) -> None:
    assert preference_losses(kind, *ONE, **options).tolist() == [pytest.approx(loss, rel=1e-6)]


def test_kto_by_arithmetic() -> None:
    both = answers([-10.0, -12.0], [-11.0, -11.5], [5, 8])  # shifts 1 and -0.5
    labels = torch.tensor([True, False])
    assert kto_losses(both, labels, 0.0, beta=0.1).tolist() == pytest.approx([0.475020813, 0.487502604], abs=1e-9)
    assert kto_losses(both, labels, 0.5, beta=0.1).tolist() == pytest.approx([0.487502604, 0.475020813], abs=1e-9)
    weighted = kto_losses(both, labels, 0.5, beta=0.1, desirable_weight=2, undesirable_weight=3).tolist()
    assert weighted == pytest.approx([2 * 0.487502604, 3 * 0.475020813], abs=1e-8)


def test_kto_on_a_batch_of_trl() -> None:
    losses = [kto_losses(side, torch.tensor([good] * 2), 0.0, beta=0.1) for side, good in zip(BATCH, (True, False), strict=True)]
    assert torch.cat(losses).mean().item() == pytest.approx(0.469525, abs=1e-5)


def test_dpop_penalises_a_chosen_answer_that_becomes_less_likely() -> None:
    chosen, rejected = answers([-13.0], [-11.0], [5]), ONE[1]
    # d = -2 + 0.5; beta (d - 3 * 2) = -0.75
    assert preference_losses("dpop", chosen, rejected, beta=0.1, gamma=3).item() == pytest.approx(math.log1p(math.exp(0.75)), abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "options", "loss"),
    [
        ("dpo", {"beta": 0.1}, 0.577950),
        ("dpo", {"beta": 0.1, "label_smoothing": 0.1}, 0.602808),  # which TRL's sigmoid ignores
        ("robust", {"beta": 0.1, "label_smoothing": 0.1}, 0.546878),
        ("ipo", {"beta": 0.1}, 21.926556),
        ("dpo_norm", {"beta": 0.1}, 0.677387),
        ("apo_zero", {"beta": 0.1}, 0.939050),
        ("apo_down", {"beta": 0.1}, 0.914487),
        ("simpo", {"beta": 2, "gamma": 1}, 0.001774),
        ("orpo", {"beta": 0.1}, 0.001703),
    ],
)
def test_a_batch_of_trl(kind: PairLossName, options: dict[str, float], loss: float) -> None:
    # TRL sums in float32: of the larger losses 1e-5 is less than it can tell.
    assert preference_losses(kind, *BATCH, **options).mean().item() == pytest.approx(loss, abs=1e-5, rel=1e-6)


def test_the_gradient_of_dpo() -> None:
    logps = torch.tensor([-10.0], requires_grad=True)
    chosen = Answers(logps, ONE[0].reference, ONE[0].tokens)
    preference_losses("dpo", chosen, ONE[1], beta=0.1).sum().backward()  # type: ignore[no-untyped-call]
    assert logps.grad is not None
    assert logps.grad.item() == pytest.approx(-0.046257015, abs=1e-8)


def test_a_policy_that_is_its_reference_has_the_loss_of_a_coin() -> None:
    same = answers([-10.0, -3.0], [-10.0, -3.0], [5, 2])
    assert preference_losses("dpo", same, same, beta=0.1).tolist() == [pytest.approx(math.log(2), abs=1e-7)] * 2


@pytest.mark.parametrize("kind", get_args(PairLossName))
@pytest.mark.parametrize("logp", [0.0, -1e4])
def test_certain_and_impossible_answers_have_finite_losses_and_gradients(kind: PairLossName, logp: float) -> None:
    logps = torch.tensor([logp], requires_grad=True)
    chosen = Answers(logps, torch.tensor([-5.0]), torch.tensor([4]))
    loss = preference_losses(kind, chosen, ONE[1], beta=0.1, gamma=1).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.isfinite()
    assert logps.grad is not None
    assert logps.grad.isfinite().all()
