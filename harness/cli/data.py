"""harness data: tokenize and pack into the cache, and say what came of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.arguments import AsJson, Overrides, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from harness.data.multiple_choice import MultipleChoiceSet
    from harness.data.training_data import TrainingData
    from harness.data.validation import ValidationSet
    from harness.work.prepare import Prepared


Show = Annotated[int, typer.Option("--show", min=0, help="Print so many samples, with the tokens that are trained.")]


def data(overrides: Overrides = None, as_json: AsJson = False, show: Show = 0) -> None:
    """Tokenize and pack into the cache; print tokens, rows, efficiency and what is lost."""
    from harness.work.prepare import prepare

    prepared = prepare(overrides or [])
    from harness.data.preview import preview

    training, plan, config = prepared.training, prepared.plan, prepared.config
    samples = preview(training, prepared.tokenizer, show)
    if as_json:
        shown = {"samples": [asdict(sample) for sample in samples]} if samples else {}
        print_json({**_to_json(prepared), "teacher": asdict(prepared.teacher) if prepared.teacher else None, **shown})
        return
    from rich.console import Console

    from harness.cli.samples import show_samples
    from harness.report.table import show as show_table

    console = Console()
    show_samples(samples, training.context_length, console)
    show_table(_sources(training, prepared.epochs, config.data.packing), console)
    if prepared.validation:
        show_table(_domains(prepared.validation), console)
    if prepared.choices:
        show_table(_multiple_choice(prepared.choices), console)
    if plan:
        console.print(f"A run of this configuration: {plan.steps:,} steps, {plan.tokens_after(plan.steps):,} tokens", soft_wrap=True)
    if teacher := prepared.teacher:
        of = "that run" if plan else "one epoch"
        drawn = f"{teacher.samples} tokens at each of {teacher.positions:,} positions"
        console.print(f"Teacher: {drawn} of {of} are in the cache", soft_wrap=True)
    console.print(f"Data fingerprint {training.fingerprint[:12]}")


def _to_json(prepared: Prepared) -> dict[str, Any]:
    training, plan, epochs = prepared.training, prepared.plan, prepared.epochs
    sources = {name: {**asdict(part), "epochs": epochs.get(name)} for name, part in training.statistics().items()}
    domains = {
        domain: {
            "documents": part.documents,
            "predicted_tokens": part.predicted_tokens,
            "bytes": part.bytes,
            "fingerprint": part.fingerprint,
        }
        for domain, part in prepared.validation.items()
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
        for name, part in prepared.choices.items()
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
