"""All evaluations of a run: their metrics, their time, and a warning when it is too much."""

from __future__ import annotations

import logging
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.config.schema import Config
from harness.evaluation.kinds import mean_losses, place_of
from harness.generation.build import build_engine
from harness.models.compiled import uncompiled
from harness.runs.report_split import REPORT
from harness.training import ranks
from harness.training.base import base_of
from harness.training.evaluation import EvaluatedModel, Precision, evaluated
from harness.training.run_errors import NonFiniteLossError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from harness.data.tokenization import Progress
    from harness.evaluation.evaluation_set import EvaluationSet
    from harness.generation.engine import Engine
    from harness.runs.generations import WrittenText
    from harness.runs.report_split import ByDocument

log = logging.getLogger("harness")

UNNOTICED_SECONDS = 10.0
"""Evaluation that takes no longer than this in all is not worth a warning, whatever its share."""


class Evaluator:
    """Evaluates a model on every set, and keeps the values of step 0 that later ones are compared with."""

    def __init__(self, config: Config, sets: Sequence[EvaluationSet], progress: Progress | None = None, *, tokenizer: Any = None) -> None:
        """`progress` is called after every batch with the name of the set, what is done of it, and its size. tokenizer: the run's, for sets
        that let the model write."""
        self.sets = sets
        self.initial: dict[str, dict[str, float]] = {}
        """The values of step 0, or where they are known those of the base, by the key of their set."""
        self.texts: list[WrittenText] = []
        """What the model wrote in the last evaluation."""
        self.documents: dict[str, ByDocument] = {}
        """Of what is kept for the report, the documents behind each metric of the last evaluation."""
        self.seconds = 0.0
        """Wall time of all evaluations so far."""
        self.set_seconds: defaultdict[str, float] = defaultdict(float)
        """Of them, those of each set, by its key."""
        self.evaluations = 0
        self._rare: dict[str, _Rare] = {part.key: _Rare(part) for part in sets if part.every_evaluations != 1}
        self._config = config.trainer
        self._mean_loss = config.data.mean_loss
        self._without_stop = [f"data.generation.{name}.stop" for name, one in config.data.generation.items() if not one.stop]
        self._build_engine = partial(build_engine, config, tokenizer=tokenizer)
        self._engine: tuple[PreTrainedModel, Engine] | None = None
        self._base = base_of(config, tokenizer)
        self._progress = progress
        self._has_warned = False

    def due(self, step: int, *, is_last: bool) -> list[EvaluationSet]:
        """The sets that are measured in the evaluation after `step`; is_last: whether the run ends there."""
        return [part for part in self.sets if is_last or step == 0 or self._is_due(part.every_evaluations, step)]

    def _is_due(self, every: int | None, step: int) -> bool:
        steps = self._config.evaluate_every_steps
        return every == 1 or (every is not None and steps is not None and step % (steps * every) == 0)

    def evaluate(
        self, model: PreTrainedModel, precision: Precision = nullcontext, *, step: int, sets: Sequence[EvaluationSet] | None = None
    ) -> dict[str, float]:
        """Metrics after `step` by their logged names, evaluation_seconds among them; sets: those that are measured, None: all.

        Raises NonFiniteLossError.
        """
        began = time.perf_counter()
        values: dict[str, float] = {}
        self.texts, self.documents = [], {}
        # Importing torch's compiler takes seconds.
        with (
            uncompiled() if self._config.compile else nullcontext(),
            evaluated(
                model,
                batch_tokens=self._config.evaluation_batch_tokens,
                precision=precision,
                build_engine=self._engine_of,
                base=self._base,
            ) as reading,
        ):
            for part in self.sets if sets is None else sets:
                values.update(self._measure(part, reading, step=step))
        if self._mean_loss:
            values.update(mean_losses(values))
        seconds = time.perf_counter() - began
        self.seconds += seconds
        self.evaluations += 1
        return {**values, "evaluation_seconds": seconds}

    def _engine_of(self, model: PreTrainedModel) -> Engine:
        """Built once a run: what is probed and prepared depends on the model's kind and on the tokenizer, not on its weights."""
        if self._engine is None or self._engine[0] is not model:
            engine = self._build_engine(model)
            self._engine = model, engine
            if self._without_stop and not engine.ends and ranks.is_main():
                log.warning("the model has no end token: its texts end at max_new_tokens alone without %s", ", ".join(self._without_stop))
        return self._engine[1]

    def _measure(self, part: EvaluationSet, model: EvaluatedModel, *, step: int) -> dict[str, float]:
        place = place_of(part.section, part.name)
        began = time.perf_counter()
        found = part.measure(model, _Advance(self._progress, part.name, part.size))
        measured = found.values
        self.texts += found.texts
        if part.name.endswith(f"/{REPORT}"):
            self.documents.update((f"{place}/{name}", documents) for name, documents in found.documents.items())
        seconds = time.perf_counter() - began
        self.set_seconds[part.key] += seconds
        if part.key in self._rare:
            self._rare[part.key].add(seconds)
        for name, value in measured.items():
            if not math.isfinite(value):
                raise NonFiniteLossError(f"{place}/{name} after step {step} is {value}")
        initial = self.initial.setdefault(part.key, {**measured, **found.base})
        return {f"{place}/{name}": value for name, value in {**measured, **part.since_start(measured, initial)}.items()}

    def forecast(self, steps: int) -> Iterator[str]:
        """After the first evaluation of a run of `steps` steps: what each set that lets the model write is going to take, in words."""
        for part in self.sets:
            if part.key in self.set_seconds and part.writes:
                seconds, every = self.set_seconds[part.key], part.every_evaluations
                times = self._rare[part.key].planned(self._planned(steps)) if part.key in self._rare else self._planned(steps)
                often = f"{part.key}.every_evaluations={'null' if every is None else every}"
                yield (
                    f"{part.key}: {part.limit[1]} in {seconds:.1f} s; {times} times in this run ({often}), which is about "
                    f"{times * seconds:.0f} s"
                )

    def _planned(self, steps: int) -> int:
        every = self._config.evaluate_every_steps
        return 2 if every is None else 1 + math.ceil(steps / every)

    def warn_of_share(self, steps: int, seconds_per_step: float) -> None:
        """Say so, once, if evaluation is going to take more than its share of a run of `steps` steps."""
        if self._has_warned:
            return
        every = self._config.evaluate_every_steps
        each = (self.seconds - sum(rare.seconds for rare in self._rare.values())) / self.evaluations
        planned = self._planned(steps)
        evaluating, training = each * planned, seconds_per_step * steps
        often = f"{planned} times {each:.1f} s"
        for key, rare in self._rare.items():
            evaluating += rare.mean * rare.planned(planned)
            often += f" and {rare.planned(planned)} times {rare.mean:.1f} s ({key})"
        share = evaluating / (evaluating + training)
        if evaluating <= UNNOTICED_SECONDS or share <= self._config.warn_evaluation_share:
            return
        self._has_warned = True
        listed = ", ".join(f"{key} (now {size})" for key, size in (part.limit for part in self.sets))
        log.warning(
            "evaluation takes about %.0f %% of this run's time: %s, against %.0f s of training. "
            "Less of it: a larger trainer.evaluate_every_steps (now %s), a smaller %s, or data.max_evaluation_tokens for all",
            100 * share, often, training, "null" if every is None else every, listed,
        )  # fmt: skip


class _Rare:
    """The time of a set that not every evaluation measures."""

    def __init__(self, part: EvaluationSet) -> None:
        self._every, self.seconds, self._times = part.every_evaluations, 0.0, 0

    def add(self, seconds: float) -> None:
        self.seconds += seconds
        self._times += 1

    @property
    def mean(self) -> float:
        return self.seconds / max(1, self._times)

    def planned(self, evaluations: int) -> int:
        """How often it is measured in a run of so many evaluations, the first and the last among them."""
        return 2 if self._every is None else 1 + math.ceil((evaluations - 1) / self._every)


class _Advance:
    """Counts what is done of a set, for the progress bar."""

    def __init__(self, progress: Progress | None, name: str, size: int) -> None:
        self._progress, self._name, self._size, self._done = progress, name, size, 0
        self(0)

    def __call__(self, done: int) -> None:
        self._done += done
        if self._progress is not None:
            self._progress(self._name, self._done, self._size)
