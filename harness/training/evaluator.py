"""All evaluations of a run: their metrics, the time that they take, and a word when it is too much."""

from __future__ import annotations

import logging
import math
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

from harness.config.schema import Config
from harness.models.compiled import uncompiled
from harness.training.errors import NonFiniteLossError
from harness.training.evaluation import Precision, evaluate, evaluate_choices

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from harness.data.mixture import Progress
    from harness.data.multiple_choice import MultipleChoiceSet
    from harness.data.validation import ValidationSet

log = logging.getLogger("harness")

UNNOTICED_SECONDS = 10.0
"""Evaluation that takes no longer than this in all is not worth a warning, whatever its share."""


class Evaluator:
    """Evaluates a model on every set, and keeps the losses of step 0 that forgetting is counted from."""

    def __init__(
        self,
        config: Config,
        validation: dict[str, ValidationSet],
        multiple_choice: dict[str, MultipleChoiceSet],
        progress: Progress | None = None,
    ) -> None:
        """`progress` is called after every batch with the name of the set, what is done of it, and its size, in predictions or choices."""
        self.validation = validation
        self.multiple_choice = multiple_choice
        self.initial_loss: dict[str, float] = {}
        """Loss of each domain at step 0."""
        self.seconds = 0.0
        """Wall time of all evaluations so far."""
        self.evaluations = 0
        self._config = config.trainer
        self._progress = progress
        self._has_warned = False

    def evaluate(self, model: PreTrainedModel, precision: Precision, *, step: int) -> dict[str, float]:
        """Metrics after `step` by their logged names, evaluation_seconds among them. Raises NonFiniteLossError."""
        began = time.perf_counter()
        # Importing torch's compiler takes seconds.
        with uncompiled() if self._config.compile else nullcontext():
            values = self._metrics(model, precision, step=step)
        seconds = time.perf_counter() - began
        self.seconds += seconds
        self.evaluations += 1
        return {**values, "evaluation_seconds": seconds}

    def _metrics(self, model: PreTrainedModel, precision: Precision, *, step: int) -> dict[str, float]:
        values: dict[str, float] = {}
        batch_tokens = self._config.evaluation_batch_tokens
        for domain, validation in self.validation.items():
            advance = _Advance(self._progress, domain, validation.predicted_tokens)
            measured = evaluate(model, validation, batch_tokens=batch_tokens, precision=precision, advance=advance)
            _refuse_non_finite(domain, step, measured["loss"])
            initial = self.initial_loss.setdefault(domain, measured["loss"])
            values.update({f"val/{domain}/{name}": value for name, value in measured.items()})
            values[f"val/{domain}/forgetting"] = measured["loss"] - initial
        for name, choices in self.multiple_choice.items():
            advance = _Advance(self._progress, name, len(choices.lengths))
            measured = evaluate_choices(model, choices, batch_tokens=batch_tokens, precision=precision, advance=advance)
            _refuse_non_finite(name, step, measured["answer_bits_per_byte"])
            values.update({f"val/{name}/{metric}": value for metric, value in measured.items()})
        return values

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
        sizes = [(f"data.validation.{domain}.max_tokens", part.predicted_tokens, "tokens") for domain, part in self.validation.items()]
        sizes += [
            (f"data.multiple_choice.{name}.max_questions", part.questions, "questions") for name, part in self.multiple_choice.items()
        ]
        listed = ", ".join(f"{key} (now {size:,} {unit})" for key, size, unit in sizes)
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


def _refuse_non_finite(name: str, step: int, value: float) -> None:
    if not math.isfinite(value):
        raise NonFiniteLossError(f"the loss on {name} after step {step} is {value}")
