"""How far rounding reaches: logits of a row in a batch and alone differ by about 1e-5, which may keep a token at a bar or remove it."""

from __future__ import annotations

import torch
from torch import Tensor

CLOSE = 1e-4
"""A difference of logits, or from a bar, that rounding might turn."""


class Rounding:
    """Of the logits of some rows, on their way through samplers. Those that cut keep what rounding might keep, and tell it here: where no
    such token is chosen, the choice is that of exact bars."""

    def __init__(self, logits_BV: Tensor) -> None:
        self.width_B1 = torch.full_like(logits_BV[:, :1], CLOSE)
        """How far apart two logits are, at least, whose order is sure."""
        self._doubtful: list[tuple[Tensor, Tensor]] = []
        self._mass_B1 = torch.zeros_like(self.width_B1)
        """Of what might be there or not, where bars are."""

    def scale(self, factor: Tensor | float) -> None:
        """Differences grow by this factor, a number or [B, 1]."""
        self.width_B1 = (self.width_B1 * factor).clamp(min=CLOSE)

    def possible(self, logits_BV: Tensor, score_BV: Tensor, low_B1: Tensor, high_B1: Tensor) -> Tensor:
        """Which tokens (bool) a bar on the score, somewhere from `low` to `high`, might keep."""
        width = self.width_B1
        near = (score_BV >= low_B1 - 2 * width) & (score_BV < high_B1 + width) & (logits_BV > -torch.inf)
        rows, tokens = near.nonzero(as_tuple=True)
        if len(rows):
            self._doubtful.append((rows, tokens))
            # What comes after sees the distribution with these or without.
            mass = (logits_BV[rows, tokens] - logits_BV.logsumexp(dim=-1)[rows]).exp()
            share = torch.zeros_like(width).index_add(0, rows, mass[:, None])
            self._mass_B1, self.width_B1 = self._mass_B1 + share, width + share
        return score_BV >= low_B1 - width

    def unsure(self, ids_B: Tensor, lead_B: Tensor, *, matters_later: bool) -> list[int]:
        """The rows whose best token, with this lead over the second, might be another one. matters_later: or whose distribution might,
        of which samplers learn."""
        unsure = lead_B < self.width_B1[:, 0]
        if matters_later:
            unsure |= self._mass_B1[:, 0] > CLOSE
        for rows, tokens in self._doubtful:
            unsure[rows[tokens == ids_B[rows]]] = True
        found: list[int] = unsure.nonzero().flatten().tolist()
        return found
