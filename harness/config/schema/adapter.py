"""Which weights are trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.config.schema.base import Section


@dataclass(kw_only=True)
class AdapterConfig(Section):
    """Which weights are trained."""

    name: Literal["none"] = "none"
    """none: all weights of the model."""
