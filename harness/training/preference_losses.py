"""Losses of preference learning, as functions of the log-probabilities of whole answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.config.schema import PairLossName


@dataclass(frozen=True)
class Answers:
    """One answer of each of P pairs, or P answers with labels."""

    logps: Tensor
    """float32 [P]: log-probability of the answer after its prompt, summed over its tokens, in nats."""
    reference: Tensor
    """float32 [P]: the same under the reference; not looked at by kinds without one."""
    tokens: Tensor
    """int64 [P]: tokens of the answer that are predicted, at least 1."""

    @property
    def shift(self) -> Tensor:
        """log policy / reference: float32 [P]."""
        return self.logps - self.reference

    @property
    def mean_logps(self) -> Tensor:
        """Log-probability per token: float32 [P]."""
        return self.logps / self.tokens

    @property
    def mean_shift(self) -> Tensor:
        """log policy / reference per token: float32 [P]."""
        return self.shift / self.tokens


def preference_losses(
    kind: PairLossName, chosen: Answers, rejected: Answers, *, beta: float, gamma: float = 0.0, label_smoothing: float = 0.0
) -> Tensor:
    """The loss of each pair: float32 [P]. With s the logistic function, d the difference of `shift`, e the label smoothing:

    dpo        -(1 - e) log s(beta d) - e log s(-beta d)                                           (arXiv 2305.18290; e > 0: cDPO)
    robust     [-(1 - e) log s(beta d) + e log s(-beta d)] / (1 - 2 e)                             (arXiv 2403.00409)
    dpo_norm   -log s(beta d'), d' the difference of `mean_shift`                                  (arXiv 2411.15124)
    ipo        (d' - 1 / (2 beta))²                                                                (arXiv 2310.12036, per token)
    simpo      -log s(beta m - gamma), m the difference of `mean_logps`                            (arXiv 2405.14734)
    orpo       -beta log s(log odds of the chosen answer - those of the rejected), by `mean_logps` (arXiv 2403.07691, without its NLL)
    apo_zero   1 - s(beta chosen.shift) + s(beta rejected.shift)                                   (arXiv 2408.06266)
    apo_down   s(beta chosen.shift) + 1 - s(beta d)                                                (arXiv 2408.06266)
    dpop       -log s(beta (d - gamma max(0, -chosen.shift)))                                      (arXiv 2402.13228)
    """
    difference = chosen.shift - rejected.shift
    match kind:
        case "dpo":
            return (1 - label_smoothing) * F.softplus(-beta * difference) + label_smoothing * F.softplus(beta * difference)
        case "robust":
            right, wrong = F.softplus(-beta * difference), F.softplus(beta * difference)
            return ((1 - label_smoothing) * right - label_smoothing * wrong) / (1 - 2 * label_smoothing)
        case "dpo_norm":
            return F.softplus(-beta * (chosen.mean_shift - rejected.mean_shift))
        case "ipo":
            return (chosen.mean_shift - rejected.mean_shift - 1 / (2 * beta)) ** 2
        case "simpo":
            return F.softplus(gamma - beta * (chosen.mean_logps - rejected.mean_logps))
        case "orpo":
            return beta * F.softplus(_log_odds(rejected.mean_logps) - _log_odds(chosen.mean_logps))
        case "apo_zero":
            return torch.sigmoid(-beta * chosen.shift) + torch.sigmoid(beta * rejected.shift)
        case "apo_down":
            return torch.sigmoid(beta * chosen.shift) + torch.sigmoid(-beta * difference)
        case "dpop":
            return F.softplus(-beta * (difference - gamma * torch.clamp(-chosen.shift, min=0)))
        case _:
            assert_never(kind)


def kto_losses(
    answers: Answers, labels: Tensor, divergence: float, *, beta: float, desirable_weight: float = 1.0, undesirable_weight: float = 1.0
) -> Tensor:
    """The loss of each answer: float32 [P]. With s the logistic function and z the divergence (arXiv 2402.01306):

    good   desirable_weight (1 - s(beta (shift - z)))
    bad    undesirable_weight (1 - s(beta (z - shift)))

    labels: bool [P], which are good; divergence: how much more likely than under the reference an answer is after a prompt that is not its
    own, in nats, a mean over a step and at least 0.
    """
    ahead = beta * (answers.shift - divergence)
    return torch.where(labels, desirable_weight * torch.sigmoid(-ahead), undesirable_weight * torch.sigmoid(ahead))


def _log_odds(logp: Tensor) -> Tensor:
    """log p / (1 - p) of log p; of a p that rounds to 1, that of the largest p below."""
    below = torch.clamp(logp, max=-torch.finfo(logp.dtype).eps)
    return below - torch.log(-torch.expm1(below))
