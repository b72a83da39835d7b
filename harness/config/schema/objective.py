"""What is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.config.schema.base import Section

ObjectiveName = Literal["cpt", "sft"]


@dataclass(kw_only=True)
class ObjectiveConfig(Section):
    """What is learned."""

    name: ObjectiveName = "cpt"
    """cpt: next-token prediction on every token of a document; sft: on the tokens of conversations that data.loss_on names."""
