"""From the configuration to an objective: the only place that chooses one by its name."""

from __future__ import annotations

from typing import assert_never

from harness.config.schema import Config
from harness.training.objectives.distill import Distillation
from harness.training.objectives.kto import Kto
from harness.training.objectives.next_token import Conversations, NextToken
from harness.training.objectives.objective import Objective
from harness.training.objectives.preference import Preference


def build_objective(config: Config) -> Objective:
    """The objective of `config.objective`; no model is loaded yet."""
    match config.objective.name:
        case "cpt":
            return NextToken(config)
        case "sft":
            return Conversations(config)
        case "distill":
            return Distillation(config)
        case "preference":
            return Kto(config) if config.objective.kind == "kto" else Preference(config)
        case _:
            assert_never(config.objective.name)
