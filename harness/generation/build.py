"""The engine of a configuration."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel

from harness.config.schema import Config
from harness.data.chat.encoder import build_chat_encoder
from harness.generation.engine import Engine


def answers_turns(config: Config, tokenizer: Any) -> bool:
    """Whether the model was made to answer in conversations: its tokenizer has a chat template, or one is given or trained."""
    return tokenizer.chat_template is not None or config.data.chat_template is not None or config.objective.name == "sft"


def build_engine(config: Config, model: PreTrainedModel, tokenizer: Any, *, batch_rows: int | None = None) -> Engine:
    """The engine that writes as `config.sampling` says. batch_rows: of a batch; None: as trainer.evaluation_batch_tokens has room for.

    Raises InputError for a chat template that cannot be used.
    """
    return Engine(
        model,
        tokenizer,
        config.sampling,
        batch_tokens=config.trainer.evaluation_batch_tokens,
        batch_rows=batch_rows,
        stop_token=build_chat_encoder(config.data, tokenizer).stop_token() if answers_turns(config, tokenizer) else None,
    )
