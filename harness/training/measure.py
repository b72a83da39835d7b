"""A run that trains nothing: the model that it starts from, evaluated. Without Lightning."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch

from harness.config.schema import Config
from harness.data.tokenization import Progress
from harness.evaluation.evaluation_set import EvaluationSet
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
from harness.training.steering import directions_of
from harness.training.steering_diagnosis import agreement_metrics
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
    directions = directions_of(config, inputs.tokenizer, progress)
    adapted = build_adapted_model(config, inputs.tokenizer, directions)
    model: Any = adapted.model
    refuse_unknown_ids(model, inputs.tokenizer, inputs.largest_id, path=config.model.path)
    result.parameters = count_parameters(model)
    device = device_of(config.trainer, ranks.rank() % config.trainer.devices)
    model.to(device=device, dtype=weights_dtype(config.trainer.precision))
    on_gpu = computes_on_gpu(config.trainer)
    meter = _Meter(inputs.evaluation, stop, evaluation_progress)
    evaluator = Evaluator(config, inputs.evaluation, meter, tokenizer=inputs.tokenizer)
    try:
        with liger_kernels(model, on_gpu=on_gpu) if config.model.liger else contextlib.nullcontext():
            values = evaluator.evaluate(model, lambda: forward_context(config.trainer.precision, torch.device(device).type), step=0)
    except _StoppedError:
        return STOPPED
    finally:
        result.tokens.read += meter.tokens
        result.add_evaluation(evaluator.seconds, evaluator.set_seconds)
    values |= agreement_metrics(config.adapter, directions, adapted.steering)
    row = {"step": 0, "tokens": 0, **values}
    if ranks.is_main():
        run.generations.append(0, evaluator.texts)
        run.documents.append(0, evaluator.documents)
        run.metrics.append(row)
        log_row(loggers, row)
    result.metrics = dict(values)
    result.tokens.position = inputs.tokens_read
    return COMPLETE


class _StoppedError(Exception):
    """The run is asked to stop."""


class _Meter:
    """How far the evaluation has come. Leaves it, when the run is asked to stop: nothing needs to be saved."""

    def __init__(self, sets: Sequence[EvaluationSet], stop: StopFlag, progress: Progress | None) -> None:
        self._sets, self._stop, self._progress = sets, stop, progress
        self._index, self._done, self._before = 0, 0, 0

    def __call__(self, name: str, done: int, size: int) -> None:
        if not done and self._done:  # of the next set; sets of different kinds may have one name
            self._before += self._sets[self._index].tokens_read
            self._index += 1
        self._done = done
        if self._progress is not None:
            self._progress(name, done, size)
        if any(ranks.anywhere(self._stop.is_set)):
            raise _StoppedError

    @property
    def tokens(self) -> int:
        """Of the sets that are measured, and of what is done of the one that is under way."""
        if not self._done:
            return self._before
        part = self._sets[self._index]
        return self._before + round(self._done / part.size * part.tokens_read)
