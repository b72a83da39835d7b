"""The loss by the number of tokens before the predicted one in its window, beside the loss of all."""

from __future__ import annotations

import math

from harness.data.ragged import Int64
from harness.evaluation.domain_loss import DomainLossSet
from harness.evaluation.evaluation_set import Float64
from harness.evaluation.kinds import position_buckets


class LossByPositionSet(DomainLossSet):
    """Measures loss/tokens_0_63, … besides, of the buckets that hold any token; weighted by their tokens they add up to the loss."""

    _also_measured = " by position"

    def _values(self, nats: Float64, predicted: Int64) -> dict[str, float]:
        values = self._losses(math.fsum(nats))
        for name, start, stop in position_buckets(self.context_length):
            if tokens := int(predicted[start:stop].sum()):
                values[f"loss/{name}"] = math.fsum(nats[start:stop]) / tokens
        return values
