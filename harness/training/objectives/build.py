"""From the configuration to an objective."""

from __future__ import annotations

from typing import assert_never

from transformers import PreTrainedModel

from harness.config.schema import Config
from harness.training.module import TrainingModule
from harness.training.objectives.next_token import NextToken
from harness.training.plan import Plan


def build_module(model: PreTrainedModel, config: Config, plan: Plan) -> TrainingModule:
    """The module of `config.objective`."""
    match config.objective.name:
        case "cpt" | "sft":
            return NextToken(model, config, plan)
        case _:
            assert_never(config.objective.name)
