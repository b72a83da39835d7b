"""harness data: tokenize and pack into the cache, and say what came of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.arguments import AsJson, Overrides, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from harness.config.schema import Config
    from harness.data.mixture import Progress
    from harness.data.multiple_choice import MultipleChoiceSet
    from harness.data.training_data import TrainingData
    from harness.data.validation import ValidationSet
    from harness.training.plan import Plan


Show = Annotated[int, typer.Option("--show", min=0, help="Print so many samples, with the tokens that are trained.")]


def data(overrides: Overrides = None, as_json: AsJson = False, show: Show = 0) -> None:
    """Tokenize and pack into the cache; print tokens, rows, efficiency and what is lost."""
    from harness.config.checks import check, check_input
    from harness.config.checks.trainer import planned_steps
    from harness.config.load import load

    config = load(overrides or [], checked_by=check_input).config
    describes_run = planned_steps(config.trainer) is not None
    if describes_run:
        check(config)

    # Only now what takes seconds to import: a typo is answered at once.
    from harness.data.epochs import refuse_oversampling
    from harness.data.mixture import build_training_data, build_validation_data
    from harness.data.multiple_choice import build_multiple_choice_sets
    from harness.data.preview import preview
    from harness.models.tokenizer import load_tokenizer
    from harness.schedule.replay_share import varies
    from harness.training.plan import build_plan
    from harness.training.progress import TokenizationProgress

    tokenizer = load_tokenizer(config)
    progress = TokenizationProgress().update
    objective = config.objective.name
    training = build_training_data(
        config.data,
        tokenizer,
        seed=config.seed,
        progress=progress,
        objective=objective,
        replayed_later=varies(config),
        prompt=config.adapter.tokens,
    )
    validation = build_validation_data(config.data, tokenizer, progress=progress, objective=objective)
    choices = build_multiple_choice_sets(config.data, tokenizer)
    plan = build_plan(config, training) if describes_run else None
    if plan:
        refuse_oversampling(config.data, plan.data, plan.batch_size, plan.steps)
    epochs = plan.data.order.epochs(int(plan.batch_size.rows_before(plan.steps)[-1])) if plan else {}
    teacher = _teacher_samples(config, plan.data if plan else training, plan.rows if plan else None, tokenizer, progress)
    samples = preview(training, tokenizer, show)
    if as_json:
        shown = {"samples": [asdict(sample) for sample in samples]} if samples else {}
        print_json({**_to_json(training, validation, choices, plan, epochs), "teacher": teacher, **shown})
        return
    from rich.console import Console

    from harness.cli.samples import show_samples
    from harness.report.table import show as show_table

    console = Console()
    show_samples(samples, training.context_length, console)
    show_table(_sources(training, epochs, config.data.packing), console)
    if validation:
        show_table(_domains(validation), console)
    if choices:
        show_table(_multiple_choice(choices), console)
    if plan:
        console.print(f"A run of this configuration: {plan.steps:,} steps, {plan.tokens_after(plan.steps):,} tokens", soft_wrap=True)
    if teacher:
        of = "that run" if plan else "one epoch"
        console.print(
            f"Teacher: {teacher['samples']} tokens at each of {teacher['positions']:,} positions of {of} are in the cache", soft_wrap=True
        )
    console.print(f"Data fingerprint {training.fingerprint[:12]}")


def _teacher_samples(config: Config, training: TrainingData, rows: int | None, tokenizer: Any, progress: Progress) -> dict[str, int] | None:
    """Have what a distillation needs of its teacher's samples in the cache, for `rows` rows of a run, None: for all; how much that is."""
    if config.objective.name != "distill" or config.objective.teacher_samples is None:
        return None
    from harness.training.sample_teacher import with_teacher_samples

    with_teacher_samples(config, training, tokenizer, progress, rows=rows)
    needed = training.rows_until(rows)
    positions = sum(int(source.row_targets[needed[source.name]].sum()) for source in training.sources)
    return {"samples": config.objective.teacher_samples, "positions": positions}


def _to_json(
    training: TrainingData,
    validation: dict[str, ValidationSet],
    choices: dict[str, MultipleChoiceSet],
    plan: Plan | None,
    epochs: dict[str, float],
) -> dict[str, Any]:
    sources = {name: {**asdict(part), "epochs": epochs.get(name)} for name, part in training.statistics().items()}
    domains = {
        domain: {
            "documents": part.documents,
            "predicted_tokens": part.predicted_tokens,
            "bytes": part.bytes,
            "fingerprint": part.fingerprint,
        }
        for domain, part in validation.items()
    }
    questions = {
        name: {
            "questions": part.questions,
            "choices": len(part.lengths),
            "tokens": len(part.tokens),
            "truncated": part.truncated,
            "left_out": part.left_out,
            "fingerprint": part.fingerprint,
        }
        for name, part in choices.items()
    }
    run = {"steps": plan.steps, "tokens": plan.tokens_after(plan.steps), "rows_per_step": plan.batch_size.full} if plan else None
    return {
        **asdict(training.total()),
        "fingerprint": training.fingerprint,
        "sources": sources,
        "validation": domains,
        "multiple_choice": questions,
        "run": run,
    }


def _sources(training: TrainingData, epochs: dict[str, float], packing: str) -> Table:
    from rich.table import Table

    table = Table(title=f"Training data, packing {packing}, rows of {training.context_length}", title_justify="left")
    for column in ("source", "documents", "cut", "tokens", "trained", "kept", "rows", "efficiency", "share", "epochs"):
        table.add_column(column, justify="left" if column == "source" else "right")
    total = training.total()
    for name, part in [*training.statistics().items(), *([("total", total)] if len(training.sources) > 1 else [])]:
        table.add_row(
            name,
            f"{part.documents:,}",
            f"{part.documents_cut:,}",
            f"{part.tokens:,}",
            f"{part.trained_tokens:,}",
            f"{part.tokens_kept:.2%}",
            f"{part.rows:,}",
            f"{part.efficiency:.4f}",
            f"{part.share:.1%}",
            f"{epochs[name]:.2f}" if name in epochs else "",
            style="bold" if part is total else None,
        )
    return table


def _domains(validation: dict[str, ValidationSet]) -> Table:
    from rich.table import Table

    table = Table(title="Validation sets, the same for every packing", title_justify="left")
    for column in ("domain", "documents", "predicted tokens", "bytes"):
        table.add_column(column, justify="left" if column == "domain" else "right")
    for domain, part in validation.items():
        table.add_row(domain, f"{part.documents:,}", f"{part.predicted_tokens:,}", f"{part.bytes:,}")
    return table


def _multiple_choice(choices: dict[str, MultipleChoiceSet]) -> Table:
    from rich.table import Table

    table = Table(title="Multiple-choice sets, the same for every trial", title_justify="left")
    for column in ("set", "questions", "choices", "tokens", "truncated", "left out"):
        table.add_column(column, justify="left" if column == "set" else "right")
    for name, part in choices.items():
        counts = (part.questions, len(part.lengths), len(part.tokens), part.truncated, part.left_out)
        table.add_row(name, *(f"{count:,}" for count in counts))
    return table
