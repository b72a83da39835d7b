"""From the configuration to an objective."""

from __future__ import annotations

from typing import Any, assert_never

from transformers import PreTrainedModel

from harness.config.schema import Config
from harness.models.head import refuse_indivisible_model
from harness.models.teacher import load_teacher
from harness.training.module import TrainingModule
from harness.training.objectives.distill import Distillation
from harness.training.objectives.next_token import NextToken
from harness.training.plan import Plan


def build_module(model: PreTrainedModel, config: Config, plan: Plan, tokenizer: Any) -> TrainingModule:
    """The module of `config.objective`.

    Raises InputError for a teacher that cannot be used, and for a model whose loss cannot be computed in chunks where the configuration
    asks for that.
    """
    chunk = config.trainer.loss_chunk_tokens
    if chunk is not None:
        refuse_indivisible_model(model, f"trainer.loss_chunk_tokens={chunk}")
    match config.objective.name:
        case "cpt" | "sft":
            return NextToken(model, config, plan)
        case "distill":
            live = config.objective.teacher_samples is None
            return Distillation(model, config, plan, load_teacher(config, tokenizer) if live else None, len(tokenizer))
        case _:
            assert_never(config.objective.name)
