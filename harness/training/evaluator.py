"""All evaluations of a run: their metrics, their time, and a warning when it is too much."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from harness.config.schema import Config
from harness.evaluation.kinds import place_of
from harness.models.compiled import uncompiled
from harness.training.evaluation import EvaluatedModel, Precision, evaluated
from harness.training.run_errors import NonFiniteLossError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from harness.data.tokenization import Progress
    from harness.evaluation.evaluation_set import EvaluationSet

log = logging.getLogger("harness")

UNNOTICED_SECONDS = 10.0
"""Evaluation that takes no longer than this in all is not worth a warning, whatever its share."""


class Evaluator:
    """Evaluates a model on every set, and keeps the values of step 0 that later ones are compared with."""

    def __init__(self, config: Config, sets: Sequence[EvaluationSet], progress: Progress | None = None) -> None:
        """`progress` is called after every batch with the name of the set, what is done of it, and its size."""
        self.sets = sets
        self.initial: dict[str, dict[str, float]] = {}
        """The values of step 0, by the key of their set."""
        self.seconds = 0.0
        """Wall time of all evaluations so far."""
        self.evaluations = 0
        self._config = config.trainer
        self._progress = progress
        self._has_warned = False

    def evaluate(self, model: PreTrainedModel, precision: Precision = nullcontext, *, step: int) -> dict[str, float]:
        """Metrics after `step` by their logged names, evaluation_seconds among them. Raises NonFiniteLossError."""
        began = time.perf_counter()
        values: dict[str, float] = {}
        # Importing torch's compiler takes seconds.
        with (
            uncompiled() if self._config.compile else nullcontext(),
            evaluated(model, batch_tokens=self._config.evaluation_batch_tokens, precision=precision) as reading,
        ):
            for part in self.sets:
                values.update(self._measure(part, reading, step=step))
        seconds = time.perf_counter() - began
        self.seconds += seconds
        self.evaluations += 1
        return {**values, "evaluation_seconds": seconds}

    def _measure(self, part: EvaluationSet, model: EvaluatedModel, *, step: int) -> dict[str, float]:
        place = place_of(part.section, part.name)
        measured = part.measure(model, _Advance(self._progress, part.name, part.size))
        for name, value in measured.items():
            if not math.isfinite(value):
                raise NonFiniteLossError(f"{place}/{name} after step {step} is {value}")
        initial = self.initial.setdefault(part.key, measured)
        return {f"{place}/{name}": value for name, value in {**measured, **part.since_start(measured, initial)}.items()}

    def warn_of_share(self, steps: int, seconds_per_step: float) -> None:
        """Say so, once, if evaluation is going to take more than its share of a run of `steps` steps."""
        if self._has_warned:
            return
        each, every = self.seconds / self.evaluations, self._config.evaluate_every_steps
        planned = 2 if every is None else 1 + math.ceil(steps / every)
        evaluating, training = each * planned, seconds_per_step * steps
        share = evaluating / (evaluating + training)
        if evaluating <= UNNOTICED_SECONDS or share <= self._config.warn_evaluation_share:
            return
        self._has_warned = True
        listed = ", ".join(f"{key} (now {size})" for key, size in (part.limit for part in self.sets))
        log.warning(
            "evaluation takes about %.0f %% of this run's time: %d times %.1f s, against %.0f s of training. "
            "Less of it: a larger trainer.evaluate_every_steps (now %s), a smaller %s, or data.max_evaluation_tokens for all",
            100 * share, planned, each, training, "null" if every is None else every, listed,
        )  # fmt: skip


class _Advance:
    """Counts what is done of a set, for the progress bar."""

    def __init__(self, progress: Progress | None, name: str, size: int) -> None:
        self._progress, self._name, self._size, self._done = progress, name, size, 0
        self(0)

    def __call__(self, done: int) -> None:
        self._done += done
        if self._progress is not None:
            self._progress(self._name, self._done, self._size)
