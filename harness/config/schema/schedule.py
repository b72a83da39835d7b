"""The learning rate over the steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt, Le

from harness.config.schema.base import OnlyFor, Section, Share

ScheduleName = Literal["constant", "linear", "cosine", "wsd", "inverse_sqrt"]
DecayShape = Literal["linear", "cosine", "1-sqrt"]


@dataclass(kw_only=True)
class ScheduleConfig(Section):
    """The learning rate over the steps of a run, as a multiple of optim.lr."""

    name: ScheduleName = "linear"
    """linear, cosine: decay from the end of the warm-up to the end of the run; wsd: warm up, stay, decay; inverse_sqrt: 1/sqrt(step)."""
    warmup: int | float | str = 0.1
    """Length of the linear warm-up: a fraction of the run (0.1), steps (100), or tokens ("2e6 tokens")."""
    decay_fraction: Annotated[float, Gt(0), Le(1), OnlyFor(("wsd",))] = 0.2
    """The last part of the run, in which the rate decays, as a fraction of the run."""
    decay_shape: Annotated[DecayShape, OnlyFor(("wsd",))] = "1-sqrt"
    """Shape of the decay (1-sqrt: arXiv 2405.18392)."""
    floor: Annotated[Share, OnlyFor(("linear", "cosine", "wsd", "inverse_sqrt"))] = 0.0
    """The rate at the end of the run, as a share of optim.lr."""
