"""The model that a run's is compared with by data.kl: what its adapter, its training or its merge has changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

from transformers import PreTrainedModel

from harness.config.schema import AdapterConfig, Config
from harness.models.adapters.lora import without_lora
from harness.models.adapters.steering import without_steering
from harness.training.evaluation import Base
from harness.training.reference import load_reference


def base_of(config: Config, tokenizer: Any) -> Base:
    """Gives for the run's model its base: the same model with its adapter off, or, where that does not give it, another one that is loaded
    when it is first asked for."""

    @cache
    def loaded() -> PreTrainedModel:
        # What training starts from, even where what it came to is evaluated.
        start = replace(config, model=replace(config.model, checkpoint=None))
        return load_reference(start, tokenizer, config.model.merge.base, key="model.merge.base")

    @contextmanager
    def base(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
        if not _can_be_off(config.adapter):
            yield loaded()
            return
        with _off(config.adapter, model):
            yield model

    return base


def _can_be_off(adapter: AdapterConfig) -> bool:
    """Whether the model below an adapter is the model with the adapter off."""
    if adapter.name == "steering":
        return True
    return adapter.name == "lora" and adapter.variant != "pissa" and not (adapter.tokens or adapter.train_tokens)


def _off(adapter: AdapterConfig, model: PreTrainedModel) -> AbstractContextManager[None]:
    return without_steering(model) if adapter.name == "steering" else without_lora(model)
