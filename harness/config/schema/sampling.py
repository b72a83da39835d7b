"""How a model that writes chooses its next token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Lt

from harness.config.schema.base import NonNegative, Section

SamplingName = Literal["greedy", "temperature"]


@dataclass(kw_only=True)
class SamplingConfig(Section):
    """How the next token is chosen. Every parameter is said here; nothing is taken from a checkpoint's generation_config.json."""

    name: SamplingName = "temperature"
    """What an arm of a study of samplers is called. The parameters below say what is done."""
    seed: Annotated[int, Ge(0), Lt(2**32)] = 0
    """Seed of the noise. A row's text depends on it, on the row's id and draw, and on the model: not on batch, order or worker."""
    temperature: NonNegative = 1.0
    """Logits are divided by it; 0: the most likely token, always."""
