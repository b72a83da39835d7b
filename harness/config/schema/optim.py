"""The optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Lt

from harness.config.schema.base import NonNegative, Positive, Section


@dataclass(kw_only=True)
class OptimConfig(Section):
    """The optimizer."""

    name: Literal["adamw"] = "adamw"
    """adamw: torch.optim.AdamW, with weight decay on matrices only (no biases, norms or embeddings)."""
    lr: Positive = 1e-3
    """Peak learning rate."""
    weight_decay: NonNegative = 0.1
    """Decoupled weight decay."""
    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.95)
    """Adam's averaging coefficients."""
    eps: Positive = 1e-8
    """Adam's denominator offset."""
    gradient_clip_norm: Positive | None = 1.0
    """Clip the global gradient norm to this; null: no clipping."""
