"""What distillation needs, and what does not go together."""

from __future__ import annotations

from collections.abc import Iterator

from harness.config.checks.model import pretrained_problems
from harness.config.schema import Config


def objective_problems(config: Config) -> Iterator[str]:
    objective = config.objective
    if objective.name != "distill":
        return
    if objective.teacher is None:
        yield "objective.teacher: required with objective.name=distill, the directory or hub name of the model to learn from"
    else:
        yield from pretrained_problems("objective.teacher", objective.teacher, config.data.context_length)
    if objective.teacher_samples is None and config.adapter.tokens:
        yield (
            f"adapter.tokens={config.adapter.tokens}: the teacher would read the student's soft prompt; valid: "
            "objective.teacher_samples=N, for which it reads the documents alone, or adapter.tokens=0"
        )
    if objective.teacher_samples is not None and objective.divergence != "forward_kl":
        yield (
            f"objective.teacher_samples={objective.teacher_samples}: samples of the teacher give without bias only forward_kl, not "
            f"objective.divergence={objective.divergence}; valid: objective.divergence=forward_kl, or objective.teacher_samples=null"
        )
