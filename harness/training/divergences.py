"""How far a student's distribution of the next token is from its teacher's."""

from __future__ import annotations

import math
from typing import assert_never

import torch
from torch import Tensor

from harness.config.schema import DivergenceName

CHUNK_NUMBERS = 2**24
"""64 MB of float32."""


def summed_divergence(student_NV: Tensor, teacher_NV: Tensor, name: DivergenceName, *, temperature: float, beta: float) -> Tensor:
    """Divergence between softmax(teacher / temperature) and softmax(student / temperature), times temperature², summed over rows: [], nats.

    With P the teacher's and Q the student's distribution:
    forward_kl  KL(P || Q)
    reverse_kl  KL(Q || P)
    jsd         beta KL(P || M) + (1 - beta) KL(Q || M), M = beta P + (1 - beta) Q   (generalised Jensen-Shannon, arXiv 2306.13649)

    The gradient of each shrinks as 1 / temperature²; the factor undoes that (arXiv 1503.02531).

    Args: logits [N, V]; half precision is computed in float32.
    """
    p, q = _log_probabilities(teacher_NV, temperature), _log_probabilities(student_NV, temperature)
    match name:
        case "forward_kl":
            divergence = _kl(p, q)
        case "reverse_kl":
            divergence = _kl(q, p)
        case "jsd":
            m = torch.logaddexp(p + math.log(beta), q + math.log1p(-beta))
            divergence = beta * _kl(p, m) + (1 - beta) * _kl(q, m)
        case _:
            assert_never(name)
    return divergence * temperature**2


def kl_by_row(p_NV: Tensor, q_NV: Tensor) -> Tensor:
    """KL(softmax(p) || softmax(q)) of each row, in nats: float32 [N], with no more than CHUNK_NUMBERS numbers held besides at a time.

    Args: logits [N, V]; half precision is computed in float32.
    """
    rows = max(1, CHUNK_NUMBERS // p_NV.shape[-1])
    found = []
    for p_some, q_some in zip(torch.split(p_NV, rows), torch.split(q_NV, rows), strict=True):
        p, q = _log_probabilities(p_some, 1.0), _log_probabilities(q_some, 1.0)
        found.append((p.exp() * (p - q)).sum(dim=-1))
    return torch.cat(found) if found else p_NV.new_zeros(0)


def summed_sampled_forward_kl(student_NV: Tensor, samples_NS: Tensor, entropy_N: Tensor, *, temperature: float) -> Tensor:
    """An estimate of `summed_divergence`'s forward_kl from tokens drawn from the teacher, without bias in value and gradient: [], nats.

    KL(P || Q) = -H(P) - E[log Q(token)], token drawn from P; the expectation is replaced by the mean over the samples, H is exact.

    Args: student logits [N, V]; samples int64 [N, S], drawn at this temperature; entropy float [N], H(P) in nats.
    """
    q = _log_probabilities(student_NV, temperature)
    return (-entropy_N.sum() - q.gather(1, samples_NS).mean(dim=1).sum()) * temperature**2


def _log_probabilities(logits: Tensor, temperature: float) -> Tensor:
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    return (logits / temperature).log_softmax(dim=-1)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q) summed over rows."""
    return torch.sum(log_p.exp() * (log_p - log_q))
