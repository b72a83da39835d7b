"""harness merge: a model from several."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import completion
from harness.cli.announce import announce
from harness.cli.arguments import AsJson, print_json
from harness.config.private import hydra_text
from harness.config.terminal import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def merge(
    out: Annotated[Path, typer.Argument(help="A new directory.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[OVERRIDES|FILE.yml]...",
            help="Such as model.merge.ingredients.NAME.path=MODEL model.merge.ingredients.NAME.weight=0.5; or a recipe of mergekit.",
            autocompletion=completion.overrides,
            show_default=False,
        ),
    ] = None,
    method: Annotated[str | None, typer.Option(help="model.merge.method, in short.")] = None,
    base: Annotated[str | None, typer.Option(help="model.merge.base, in short.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all of it and say what would be made; no weight is read.")] = False,
    as_json: AsJson = False,
) -> None:
    """Merge models, runs and LoRA adapters into a plain transformers checkpoint with tokenizer and model card.

    Everything is checked from headers before a weight is read; tensors are read and written a few rows at a time. To search weights and
    methods, or to go on training, start a run from a merge: model=merge.
    """
    announce("reading the headers of the models")
    from harness.merging.write import refuse_used, write_merge
    from harness.work.merge import merge_plan_of, plan_summary

    short = {"method": method, "base": base}
    given = [f"model.merge.{name}={hydra_text(value)}" for name, value in short.items() if value is not None]
    refuse_used(out)
    plan = merge_plan_of([*(words or []), *given])
    summary = plan_summary(plan)
    if not as_json:
        _show(summary)
    if not dry_run:
        with _bar() as progress:
            write_merge(plan, out, progress=progress)
    if as_json:
        print_json({**summary, "out": None if dry_run else str(out)})
    elif not dry_run:
        say(f"a transformers checkpoint: AutoModelForCausalLM.from_pretrained({str(out)!r}); harness evaluate {out} …", err=True)
        say(out)


def _show(summary: dict[str, Any]) -> None:
    """The plan, on stderr."""
    say(f"{summary['method']}: {summary['tensors']:,} tensors, {summary['bytes'] / 1e6:,.1f} MB ({', '.join(summary['dtypes'])})", err=True)
    for name, model in summary["models"].items():
        licence = model["licence"] or "licence not told"
        path = "" if model["path"] == name else f" {model['path']}"
        say(f"  {model['role']} {name}{path}: {model['tensors']:,} tensors, {licence}, {model['fingerprint'][:16]}", err=True)
    say(f"  configuration of {summary['configuration_of']}, tokenizer of {summary['tokenizer_of']}", err=True)
    for note in summary["notes"]:
        say(f"  note: {note}", err=True)


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """Bytes written, on stderr, for whoever watches."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from harness.config.literal_console import LiteralConsole

    console = LiteralConsole(stderr=True)
    columns = (TextColumn("[bold]merging"), DownloadColumn(), BarColumn(bar_width=None), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("merging")
        yield lambda done, total: bar.update(task, completed=done, total=total)
