"""The model that a run's is compared with by data.kl: what its adapter, its training or its merge has changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from typing import Any

from transformers import PreTrainedModel

from harness.config.schema import Config, left_when_off
from harness.models.adapters.lora import without_lora
from harness.models.adapters.steering import without_steering
from harness.models.compiled import uncompiled
from harness.training.evaluation import Base, evaluated
from harness.training.reference_logprobs import load_reference


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
        if left_when_off(config.adapter):
            yield loaded()
            return
        with adapter_off(config, model):
            yield model

    return base


@contextmanager
def adapter_off(config: Config, model: PreTrainedModel) -> Iterator[None]:
    """Within it the model is what its adapter, one that can be off, was put on; without dropout and gradients."""
    off = without_steering if config.adapter.name == "steering" else without_lora
    with evaluated(model, batch_tokens=1), uncompiled() if config.trainer.compile else nullcontext(), off(model):
        yield
