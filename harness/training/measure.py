"""A run that trains nothing: the model that it starts from, evaluated. Without Lightning."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch

from harness.config.schema import Config
from harness.data.tokenization import Progress
from harness.models.adapters.build import build_adapted_model
from harness.models.attention import refuse_attention
from harness.models.device import computes_on_gpu, device_of
from harness.models.liger import liger_kernels
from harness.models.precision import forward_context, weights_dtype
from harness.models.vocabulary import refuse_unknown_ids
from harness.runs.lifecycle import COMPLETE, STOPPED, Ending, LiveResult
from harness.training import ranks
from harness.training.begin import begin
from harness.training.evaluator import Evaluator
from harness.training.loggers import MetricLogger, log_row
from harness.training.parameters import count_parameters
from harness.training.stop_flag import StopFlag


def measure(
    config: Config,
    live: LiveResult,
    *,
    stop: StopFlag,
    loggers: Sequence[MetricLogger] = (),
    progress: Progress | None = None,
    evaluation_progress: Progress | None = None,
) -> Ending:
    """Evaluate the run of `live` until its end or until `stop` is set, and log it as step 0; says which of the two it was.

    With several ranks all of them call it, connected, and those other than 0 without loggers. The values are those that a run with the same
    model logs before it trains, to the last bit. What comes of it is kept up to date in `live.result`, also when it raises.

    Raises InputError for data or a model that cannot be used, and NonFiniteLossError.
    """
    run, result = live.run, live.result
    inputs = begin(config, live, progress=progress)
    result.tokens.budgeted, result.tokens.position = inputs.tokens_read, 0
    live.running()

    refuse_attention(config)
    model: Any = build_adapted_model(config, inputs.tokenizer).model
    refuse_unknown_ids(model, inputs.tokenizer, inputs.largest_id, path=config.model.path)
    result.parameters = count_parameters(model)
    device = device_of(config.trainer, ranks.rank() % config.trainer.devices)
    model.to(device=device, dtype=weights_dtype(config.trainer.precision))
    on_gpu = computes_on_gpu(config.trainer)
    meter = _Meter(sum(part.size for part in inputs.evaluation), stop, evaluation_progress)
    evaluator = Evaluator(config, inputs.evaluation, meter)
    try:
        with liger_kernels(model, on_gpu=on_gpu) if config.model.liger else contextlib.nullcontext():
            values = evaluator.evaluate(model, lambda: forward_context(config.trainer.precision, torch.device(device).type), step=0)
    except _StoppedError:
        return STOPPED
    finally:
        result.tokens.read += round(meter.share * inputs.tokens_read)
        result.evaluation_seconds += evaluator.seconds
    row = {"step": 0, "tokens": 0, **values}
    if ranks.is_main():
        run.metrics.append(row)
        log_row(loggers, row)
    result.metrics = dict(values)
    result.tokens.position = inputs.tokens_read
    return COMPLETE


class _StoppedError(Exception):
    """The run is asked to stop."""


class _Meter:
    """How far the evaluation has come. Leaves it, when the run is asked to stop: nothing needs to be saved."""

    def __init__(self, size: int, stop: StopFlag, progress: Progress | None) -> None:
        self._size, self._stop, self._progress = size, stop, progress
        self._before = 0
        """Of the sets that are measured."""
        self._done = 0

    def __call__(self, name: str, done: int, size: int) -> None:
        if not done:  # of the next set; sets of different kinds may have one name
            self._before += self._done
        self._done = done
        if self._progress is not None:
            self._progress(name, done, size)
        if any(ranks.anywhere(self._stop.is_set)):
            raise _StoppedError

    @property
    def share(self) -> float:
        return (self._before + self._done) / max(1, self._size)
