"""The learning rate over the steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

from harness.config.schema.base import NonNegative, OnlyFor, Section, Share

ScheduleName = Literal["constant", "linear", "cosine", "wsd", "inverse_sqrt", "infinite"]
DecayShape = Literal["linear", "cosine", "1-sqrt"]
Annealed = OnlyFor(("wsd", "infinite"))
"""Schedules with a decay at the end that what comes before it does not depend on."""


@dataclass(kw_only=True)
class ScheduleConfig(Section):
    """The learning rate over the steps of a run, as a multiple of optim.lr; and what else changes while it decays."""

    name: ScheduleName = "linear"
    """linear, cosine: decay from the end of the warm-up to the end of the run; wsd: warm up, stay, decay; inverse_sqrt: 1/sqrt(step);
    infinite: warm up, cool down to a constant rate, stay, decay (arXiv 2503.02844)."""
    warmup: int | float | str = 0.1
    """Length of the linear warm-up: a fraction of the run (0.1), steps (100), or tokens ("2e6 tokens")."""
    initial_lr: NonNegative = 0.0
    """The rate that the warm-up rises from: that at which the model's earlier training ended, to re-warm from there."""
    cooldown: Annotated[int | float | str, OnlyFor(("infinite",))] = 0.3
    """Length of the cosine cool-down from optim.lr to the constant rate, given as warmup is."""
    constant_share: Annotated[float, Gt(0), Le(1), OnlyFor(("infinite",))] = 0.3
    """The constant rate, as a share of optim.lr."""
    decay_fraction: Annotated[float, Gt(0), Le(1), Annealed] = 0.2
    """The last part of the run, in which the rate decays, as a fraction of the run."""
    decay_shape: Annotated[DecayShape, Annealed] = "1-sqrt"
    """Shape of the decay (1-sqrt: arXiv 2405.18392)."""
    floor: Annotated[Share, OnlyFor(("linear", "cosine", "wsd", "inverse_sqrt", "infinite"))] = 0.0
    """The rate at the end of the run, as a share of optim.lr."""
    decay_betas: Annotated[tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] | None, Annealed] = None
    """optim.betas while the rate decays (arXiv 2508.01483); null: as before."""
    decay_weight_decay: Annotated[NonNegative | None, Annealed] = None
    """optim.weight_decay while the rate decays; null: as before."""
    decay_replay_share: Annotated[Annotated[float, Ge(0), Lt(1)] | None, Annealed] = None
    """data.replay_share while the rate decays; null: as before."""
