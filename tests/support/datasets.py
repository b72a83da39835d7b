"""Training data and evaluation sets of a configuration, without a run."""

from __future__ import annotations

from typing import Any

from harness.config.schema import DataConfig
from harness.data.mixture import build_training_data
from harness.data.tokenization import Documents, Progress, Tokenization
from harness.data.training_data import TrainingData
from harness.evaluation.build import build_evaluation_sets
from harness.evaluation.domain_loss import DomainLossSet
from harness.evaluation.evaluation_set import EvaluationSet
from harness.training.evaluation import evaluated


def evaluation_sets(config: DataConfig, tokenizer: Any, documents: Documents = "texts") -> dict[str, EvaluationSet]:
    """By name."""
    return {part.name: part for part in build_evaluation_sets(Tokenization(config, tokenizer, documents=documents))}


def domain_set(config: DataConfig, tokenizer: Any, name: str, documents: Documents = "texts") -> DomainLossSet:
    part = evaluation_sets(config, tokenizer, documents)[name]
    assert isinstance(part, DomainLossSet)
    return part


def training_data(
    config: DataConfig,
    tokenizer: Any,
    seed: int = 0,
    documents: Documents = "texts",
    *,
    prompt: int = 0,
    progress: Progress | None = None,
) -> TrainingData:
    """With what evaluation sets hold refused, as in a run."""
    sets = evaluation_sets(config, tokenizer, documents)
    held_out = {part.key: part.not_to_train_on for part in sets.values() if part.not_to_train_on is not None}
    tokens = Tokenization(config, tokenizer, progress, documents=documents)
    return build_training_data(tokens, seed, evaluated=held_out, prompt=prompt)


def measure(model: Any, part: EvaluationSet, batch_tokens: int) -> dict[str, float]:
    """The metrics of a set, by their names in it."""
    with evaluated(model, batch_tokens=batch_tokens) as reading:
        return part.measure(reading, lambda done: None).values
