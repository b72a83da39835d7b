"""A configuration's model, ready to write."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from harness.config.schema import Config
from harness.generation.build import build_engine
from harness.generation.engine import Engine
from harness.models.adapters.build import build_adapted_model
from harness.models.attention import refuse_attention
from harness.models.device import computes_on_gpu, device_of, refuse_missing_devices
from harness.models.liger import liger_kernels
from harness.models.precision import forward_context, weights_dtype
from harness.training.evaluation import EvaluatedModel, evaluated


@contextmanager
def writing(config: Config, tokenizer: Any, *, batch_rows: int | None = None) -> Iterator[Engine]:
    """The engine of the model, see `reading`."""
    with reading(config, tokenizer, batch_rows=batch_rows) as model:
        yield model.engine


@contextmanager
def reading(config: Config, tokenizer: Any, *, batch_rows: int | None = None, alone: bool = False) -> Iterator[EvaluatedModel]:
    """The model, with its adapter, and the last weights of model.checkpoint, as they are evaluated; it reads and writes. alone: as of
    `evaluated`.

    Raises InputError for a model that cannot be used.
    """
    trainer = config.trainer
    refuse_missing_devices(trainer)
    if trainer.threads is not None:
        torch.set_num_threads(trainer.threads)
    refuse_attention(config)
    model: Any = build_adapted_model(config, tokenizer).model
    device = device_of(trainer, 0)
    model.to(device=device, dtype=weights_dtype(trainer.precision))
    build = partial(build_engine, config, tokenizer=tokenizer, batch_rows=batch_rows)
    with (
        liger_kernels(model, on_gpu=computes_on_gpu(trainer)) if config.model.liger else contextlib.nullcontext(),
        evaluated(
            model,
            batch_tokens=trainer.evaluation_batch_tokens,
            precision=lambda: forward_context(trainer.precision, torch.device(device).type),
            build_engine=build,
            alone=alone,
        ) as evaluated_model,
    ):
        yield evaluated_model
