"""What an objective needs, and what does not go together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from harness.config.checks.model import pretrained_problems
from harness.config.schema import SMOOTHED, Config, gamma_of, left_when_off, needs_reference


def objective_problems(config: Config) -> Iterator[str]:
    match config.objective.name:
        case "distill":
            yield from _distillation(config)
        case "preference":
            yield from _preference(config)
    if config.objective.name not in ("preference", "sft"):
        for name, source in config.data.sources.items():
            if source.format == "preference_text":
                yield f"data.sources.{name}.format=preference_text: read with objective=preference or sft alone; valid: preference"


def _preference(config: Config) -> Iterator[str]:
    objective, packing = config.objective, config.data.packing
    if packing == "padded":
        # Then nothing keeps documents of a row apart, and a pair's answers would see each other.
        yield "data.packing=padded: answers lie in one row with others with objective=preference; valid: best_fit"
    if objective.label_smoothing and objective.kind not in SMOOTHED:
        yield _unread("label_smoothing", objective.label_smoothing, objective.kind, ", ".join(SMOOTHED))
    if objective.gamma is not None and not gamma_of(replace(objective, gamma=None)):
        yield _unread("gamma", objective.gamma, objective.kind, "simpo, dpop")
    if config.data.share_prompt:
        if objective.kind == "kto":
            yield "data.share_prompt=true: has no effect with objective.kind=kto, which learns from answers one by one; valid: false"
        if config.adapter.tokens:
            yield (
                f"data.share_prompt=true: not with adapter.tokens={config.adapter.tokens}, a soft prompt before each answer's prompt; "
                "valid: false"
            )
        if config.data.isolation == "position_ids":
            yield "data.isolation=position_ids: says nothing of shared prompts with data.share_prompt=true; valid: auto, mask"
    if objective.kind == "kto":
        if config.trainer.batch_pairs == 1:
            yield "trainer.batch_pairs=1: objective.kind=kto compares each answer with others of its step; valid: at least 2"
    else:
        for name, weight in (("desirable_weight", objective.desirable_weight), ("undesirable_weight", objective.undesirable_weight)):
            if weight != 1:
                yield _unread(name, weight, objective.kind, "kto")
    if objective.reference is not None:
        if not needs_reference(objective):
            yield _unread("reference", objective.reference, objective.kind, "kinds that compare with a reference, such as dpo")
        yield from pretrained_problems("objective.reference", objective.reference, config.data.context_length)
    if not objective.precompute_reference:
        yield from _reference_of_each_step(config)


def _reference_of_each_step(config: Config) -> Iterator[str]:
    """objective.precompute_reference=false: where the model with its adapter off is no reference."""
    objective, key = config.objective, "objective.precompute_reference=false"
    if not needs_reference(objective):
        yield f"{key}: has no effect with objective.kind={objective.kind}; read by kinds that compare with a reference, such as dpo"
        return
    other = left_when_off(config.adapter)
    if config.model.checkpoint is not None:
        other = "model.checkpoint"
    elif objective.reference is not None:
        other = f"objective.reference={objective.reference}"
    if other is not None:
        yield (
            f"{key}: each step would read its pairs with the adapter off, and with {other} that is not the reference; "
            "valid: true, or adapter=lora (variant plain, rslora or dora) over the model that is the reference"
        )


def _unread(key: str, value: object, kind: str, readers: str) -> str:
    return f"objective.{key}={value}: has no effect with objective.kind={kind}; read by {readers}"


def _distillation(config: Config) -> Iterator[str]:
    objective = config.objective
    if objective.teacher is None:
        yield "objective.teacher: required with objective.name=distill, the directory or hub name of the model to learn from"
    else:
        yield from pretrained_problems("objective.teacher", objective.teacher, config.data.context_length)
    if objective.teacher_samples is None and config.adapter.tokens:
        yield (
            f"adapter.tokens={config.adapter.tokens}: the teacher would read the student's soft prompt; valid: "
            "objective.teacher_samples=N, for which it reads the documents alone, or adapter.tokens=0"
        )
    if objective.beta is not None and objective.beta >= 1:
        yield f"objective.beta={objective.beta}: of objective.divergence=jsd, a share between both divergences; valid: below 1"
    if objective.teacher_samples is not None and objective.divergence != "forward_kl":
        yield (
            f"objective.teacher_samples={objective.teacher_samples}: samples of the teacher give without bias only forward_kl, not "
            f"objective.divergence={objective.divergence}; valid: objective.divergence=forward_kl, or objective.teacher_samples=null"
        )
