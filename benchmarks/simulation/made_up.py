"""Tables that nothing was trained for: learning curves by formulas, of which no search was made or tuned.

Loss falls with a power of the rate's steps towards a floor, and rises with the square of the rate's distance from the best one, in
logarithms, more steeply above it; the best rate falls with a power of the length. What differs is how a run forgets, and what the best
weight decay does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.simulation.table import LENGTH, PLACES, Curve, Table

LOSS, FORGETTING = "val/target/loss", "val/general/forgetting"
RATES = [3e-5 * 3 ** (place / 2) for place in range(12)]
DECAYS = [0.0, 0.02, 0.05, 0.1]
LENGTHS = [40, 120, 360]
Forgetting = Callable[[float, float, float, float], float]
"""Of the rate, the weight decay, the steps of the run, and the share of it that is done; in nats."""


@dataclass(frozen=True)
class Law:
    """One family of runs."""

    best_rate: float
    """Of runs of 120 steps."""
    falls: float
    """The power of the length with which it falls."""
    width: float
    """Nats at a factor of e below the best rate."""
    decay_cost: Callable[[float], float]
    """Of the weight decay, in nats."""
    forgetting: Forgetting

    def table(self, name: str) -> Table:
        return Table(name, [self._curve(*point) for point in itertools.product(RATES, DECAYS, ("linear", "1-sqrt"), LENGTHS)])

    def _curve(self, rate: float, decay: float, shape: str, steps: int) -> Curve:
        best = self.best_rate * (120 / steps) ** self.falls
        distance = math.log(rate / best)
        lost = self.width * distance**2 * (1.5 if distance > 0 else 1.0) + self.decay_cost(decay) + 0.01 * (shape == "linear")
        rows = []
        for share in PLACES:
            learnt = 3 * (1 + 0.15 * steps * share * min(1.0, rate / best)) ** -0.45
            rows.append([2.2 + learnt + lost * share, self.forgetting(rate, decay, steps, share)])
        params = {"optim.lr": rate, "optim.weight_decay": decay, "schedule.decay_shape": shape, LENGTH: steps}
        return Curve(params, (LOSS, FORGETTING), np.array(rows), 0.0)


LAWS = {
    "made_up_free": Law(1e-3, 0.4, 0.15, lambda decay: 30 * (decay - 0.05) ** 2, lambda rate, decay, steps, share: 0.2 * share),
    "made_up_growing": Law(
        1.5e-3,
        0.2,
        0.10,
        lambda decay: 0.0,
        lambda rate, decay, steps, share: 0.001 * (rate / 3e-4) ** 1.5 * steps * share * (1 - 4 * decay),
    ),
    "made_up_early": Law(
        2e-3,
        0.3,
        0.12,
        lambda decay: 1.2 * decay,
        lambda rate, decay, steps, share: (
            0.64 * math.tanh(12 * share) * (rate / 1e-3) ** 0.6 * (steps / 360) ** 0.15 * (1 - 6 * decay) * (1 - 0.2 * share)
        ),
    ),
    "made_up_root": Law(
        1e-3,
        0.3,
        0.12,
        lambda decay: 2 * (decay - 0.03) ** 2,
        lambda rate, decay, steps, share: 0.08 * math.sqrt(rate / 1e-4 * steps / 40) * share * (1 - 5 * decay),
    ),
}
"""How far their runs forget: hardly; by the power 1.5 of the rate, and the steps; at once, and then hardly more; by the roots of both."""
