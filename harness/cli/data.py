"""harness data: tokenize and pack into the cache, and print statistics."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.announce import announce
from harness.cli.arguments import AsJson, Overrides, print_json
from harness.evaluation.kinds import KINDS

if TYPE_CHECKING:
    from rich.console import Console

    from harness.config.schema import Config
    from harness.report.fitted_table import Column

Show = Annotated[int, typer.Option("--show", min=0, help="Print so many samples, with the tokens that are trained.")]


def data(overrides: Overrides = None, as_json: AsJson = False, show: Show = 0) -> None:
    """Tokenize and pack into the cache; print tokens, rows, efficiency and what is lost."""
    from harness.work.prepare import known_summary, prepare, read_config

    config = read_config(overrides or [])
    # Where nothing has changed since the last time, its answer holds: to look again would import torch and transformers.
    summary = None if show else known_summary(config)
    samples = []
    if summary is None:
        from harness.work.data_summary import summary_of

        announce("reading the data: what the cache does not hold is tokenized")
        prepared = prepare(config)
        summary = summary_of(prepared)
        if prepared.training and show:
            from harness.data.preview import preview

            samples = preview(prepared.training, prepared.tokenizer, show)
    if as_json:
        print_json({**summary, **({"samples": [asdict(sample) for sample in samples]} if samples else {})})
        return
    from harness.cli.data_samples import show_samples
    from harness.config.literal_console import LiteralConsole

    console = LiteralConsole()
    show_samples(samples, config.data.context_length, console)
    _show(summary, config, console)


def _show(summary: dict[str, Any], config: Config, console: Console) -> None:
    """The document of --json for people."""
    if summary["sources"]:
        title = f"Training data, packing {config.data.packing}, rows of {config.data.context_length}"
        _show_table(title, list(_sources(summary)), console)
    for kind in KINDS:
        if sets := summary[kind.section]:
            _show_table(kind.title, list(_evaluation(sets)), console)
    run, teacher, reference = summary["run"], summary["teacher"], summary.get("reference")  # which older notes lack
    if run:
        console.print(f"A run of this configuration: {run['steps']:,} steps, {run['tokens']:,} tokens", soft_wrap=True)
    if teacher:
        drawn = f"{teacher['samples']} tokens at each of {teacher['positions']:,} positions"
        console.print(f"Teacher: {drawn} of {'that run' if run else 'one epoch'} are in the cache", soft_wrap=True)
    if reference:
        of_what = ", ".join(f"{count:,} {what}" for what, count in reference.items())
        console.print(f"Reference: what it says of {of_what} of {'that run' if run else 'one epoch'} is in the cache", soft_wrap=True)
    if summary["sources"]:
        console.print(f"Data fingerprint {summary['fingerprint'][:12]}")


def _show_table(title: str, columns: list[Column], console: Console) -> None:
    from rich.text import Text

    from harness.report.fitted_table import FittedTable, show

    console.print(Text(title, style="italic"), soft_wrap=True)
    show(FittedTable(columns), console)


def _sources(summary: dict[str, Any]) -> Iterator[Column]:
    from rich.text import Text

    from harness.report.fitted_table import Column

    rows: dict[str, dict[str, Any]] = {**summary["sources"], **({"total": summary} if len(summary["sources"]) > 1 else {})}

    def column(heading: str, texts: list[str], *, expendable: float = 0.0, is_text: bool = False) -> Column:
        cells = [Text(text, style="bold" if row is summary else "") for text, row in zip(texts, rows.values(), strict=True)]
        return Column(heading, cells, expendable=expendable, is_text=is_text)

    def counts(key: str) -> list[str]:
        return [f"{row[key]:,}" for row in rows.values()]

    yield column("source", list(rows), is_text=True)
    yield column("documents", counts("documents"))
    yield column("cut", counts("documents_cut"), expendable=1)
    yield column("tokens", counts("tokens"))
    yield column("trained", counts("trained_tokens"), expendable=3)
    yield column("kept", [f"{row['tokens_kept']:.2%}" for row in rows.values()])
    yield column("rows", counts("rows"), expendable=4)
    yield column("efficiency", [f"{row['efficiency']:.4f}" for row in rows.values()], expendable=2)
    yield column("share", [f"{row['share']:.1%}" for row in rows.values()])
    yield column("epochs", [f"{row['epochs']:.2f}" if row.get("epochs") is not None else "" for row in rows.values()])


def _evaluation(sets: dict[str, dict[str, Any]]) -> Iterator[Column]:
    from rich.text import Text

    from harness.report.fitted_table import Column

    yield Column("set", [Text(name) for name in sets], is_text=True)
    for key in next(iter(sets.values())):
        if key != "fingerprint":
            yield Column(key, [Text(f"{counts[key]:,}") for counts in sets.values()])
