"""harness data: tokenize and pack into the cache, and print statistics."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.arguments import AsJson, Overrides, print_json
from harness.evaluation.kinds import KINDS

if TYPE_CHECKING:
    from rich.table import Table

    from harness.data.training_data import TrainingData
    from harness.evaluation.evaluation_set import EvaluationSet
    from harness.work.prepare import Prepared


Show = Annotated[int, typer.Option("--show", min=0, help="Print so many samples, with the tokens that are trained.")]


def data(overrides: Overrides = None, as_json: AsJson = False, show: Show = 0) -> None:
    """Tokenize and pack into the cache; print tokens, rows, efficiency and what is lost."""
    from harness.work.prepare import prepare

    prepared = prepare(overrides or [])
    from harness.data.preview import preview

    training, plan, config = prepared.training, prepared.plan, prepared.config
    samples = preview(training, prepared.tokenizer, show) if training else []
    if as_json:
        shown = {"samples": [asdict(sample) for sample in samples]} if samples else {}
        print_json({**_to_json(prepared), "teacher": prepared.from_objective, **shown})
        return
    from rich.console import Console

    from harness.cli.samples import show_samples
    from harness.report.fitted_table import show as show_table

    console = Console()
    if training:
        show_samples(samples, training.context_length, console)
        show_table(_sources(training, prepared.epochs, config.data.packing), console)
    for kind in KINDS:
        if sets := [part for part in prepared.evaluation if part.section == kind.section]:
            show_table(_evaluation(kind.title, sets), console)
    if plan:
        console.print(f"A run of this configuration: {plan.steps:,} steps, {plan.tokens_after(plan.steps):,} tokens", soft_wrap=True)
    if made := prepared.from_objective:
        of = "that run" if plan else "one epoch"
        drawn = f"{made['samples']} tokens at each of {made['positions']:,} positions"
        console.print(f"Teacher: {drawn} of {of} are in the cache", soft_wrap=True)
    if training:
        console.print(f"Data fingerprint {training.fingerprint[:12]}")


def _to_json(prepared: Prepared) -> dict[str, Any]:
    training, plan, epochs = prepared.training, prepared.plan, prepared.epochs
    evaluation = {
        kind.section: {
            part.name: {**part.summary(), "fingerprint": part.fingerprint} for part in prepared.evaluation if part.section == kind.section
        }
        for kind in KINDS
    }
    if training is None:
        return {"tokens": sum(part.tokens_read for part in prepared.evaluation), "sources": {}, **evaluation, "run": None}
    sources = {name: {**asdict(part), "epochs": epochs.get(name)} for name, part in training.statistics().items()}
    run = {"steps": plan.steps, "tokens": plan.tokens_after(plan.steps), "rows_per_step": plan.batch_size.full} if plan else None
    return {**asdict(training.total()), "fingerprint": training.fingerprint, "sources": sources, **evaluation, "run": run}


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


def _evaluation(title: str, sets: list[EvaluationSet]) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("set")
    for column in sets[0].summary():
        table.add_column(column.replace("_", " "), justify="right")
    for part in sets:
        table.add_row(part.name, *(f"{count:,}" for count in part.summary().values()))
    return table
