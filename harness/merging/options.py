"""What a recipe says of a tensor as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from harness.merging.random_masks import Noise

Rescale = Literal["l1", "density", "none"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Of a method, whatever the ingredient."""

    scale: float = 1.0
    """λ: what the merged change is multiplied by before it is added to the base."""
    normalize: bool | None = None
    """Whether sums are divided by the weights in them; None: as the method has it."""
    topk: float = 1.0
    """sce: share of the positions, those that differ most between the ingredients, in (0, 1]."""
    rescale: Rescale = "l1"
    """dare, della: what is kept is scaled so that its sum of magnitudes stays, or by 1 / density as in the paper, or not."""
    by_row: bool = False
    """nuslerp: every row has an angle of its own."""
    noise: Noise = field(default_factory=lambda: Noise(0))
