"""harness merge: a model from several."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import completion
from harness.cli.announce import announce
from harness.cli.arguments import AsJson, print_json
from harness.config.errors import InputError
from harness.config.overrides import hydra_text
from harness.config.terminal import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def merge(
    out: Annotated[Path, typer.Argument(help="A new directory.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME=MODEL:WEIGHT|OVERRIDES|FILE.yml",
            help="Ingredients, such as docs=runs/cpt/trials/0007:0.6 chat=ORG/NAME:0.4, and keys of model.merge; or a recipe of mergekit.",
            autocompletion=completion.overrides,
            show_default=False,
        ),
    ] = None,
    method: Annotated[str | None, typer.Option(help="model.merge.method, in short.")] = None,
    base: Annotated[str | None, typer.Option(help="model.merge.base, in short.")] = None,
    scale: Annotated[float | None, typer.Option("--lambda", help="model.merge.scale, in short.")] = None,
    density: Annotated[float | None, typer.Option(help="The density of every ingredient.")] = None,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Write a LoRA of the base, for peft: the exact sum of LoRA ingredients, or of --rank.")
    ] = False,
    rank: Annotated[int | None, typer.Option(min=1, help="With --adapter: cut to this rank, as near as possible.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all of it and say what would be made; no weight is read.")] = False,
    as_json: AsJson = False,
) -> None:
    """Merge models, runs and LoRA adapters into a plain transformers checkpoint with tokenizer and model card, or into a LoRA adapter.

    Everything is checked from headers before a weight is read; tensors are read and written a few rows at a time. To search weights and
    methods, or to go on training, start a run from a merge: model=merge.
    """
    if rank is not None and not adapter:
        raise InputError(f"--rank {rank}: only with --adapter, since a model has no rank")
    announce("reading the headers of the models")
    from harness.merging.adapter import plan_adapter, write_adapter
    from harness.merging.write import refuse_full_disk, refuse_used, write_merge
    from harness.work.merge import adapter_result, adapter_summary, ingredients_of, merge_plan_of, plan_summary

    words = words or []
    short = {"method": method, "base": base, "scale": scale}
    short |= {f"ingredients.{name}.density": density for name in ingredients_of(words)}
    given = [f"model.merge.{name}={hydra_text(value)}" for name, value in short.items() if value is not None]
    refuse_used(out)
    plan = merge_plan_of([*words, *given])
    low_rank = plan_adapter(plan, rank=rank) if adapter else None
    if low_rank is None:
        refuse_full_disk(plan, out)
    summary = plan_summary(plan) if low_rank is None else {**plan_summary(plan), "adapter": adapter_summary(low_rank)}
    if not as_json:
        _show(summary)
    if not dry_run:
        with _bar() as progress:
            if low_rank is None:
                write_merge(plan, out, progress=progress)
            else:
                summary["adapter"] |= adapter_result(write_adapter(low_rank, out, progress=progress))
    if as_json:
        print_json({**summary, "out": None if dry_run else str(out)})
    elif not dry_run:
        _say_what_it_is(summary, out)
        say(out)


def _say_what_it_is(summary: dict[str, Any], out: Path) -> None:
    adapter = summary.get("adapter")
    if adapter is None:
        say(f"a transformers checkpoint: AutoModelForCausalLM.from_pretrained({str(out)!r}); harness evaluate {out} …", err=True)
        return
    held = "the exact sum" if adapter["exact"] else f"with {adapter['share']:.1%} of the change (in squares)"
    say(f"an adapter of {adapter['modules']:,} matrices, {held}: peft.PeftModel.from_pretrained(model, {str(out)!r})", err=True)


def _show(summary: dict[str, Any]) -> None:
    """The plan, on stderr."""
    say(f"{summary['method']}: {summary['tensors']:,} tensors, {summary['bytes'] / 1e6:,.1f} MB ({', '.join(summary['dtypes'])})", err=True)
    for name, model in summary["models"].items():
        licence = model["licence"] or "licence not told"
        path = "" if model["path"] == name else f" {model['path']}"
        say(f"  {model['role']} {name}{path}: {model['tensors']:,} tensors, {licence}, {model['fingerprint'][:16]}", err=True)
    if (adapter := summary.get("adapter")) is not None:
        kind = "the exact sum" if adapter["exact"] else "the nearest to the merge"
        say(f"  written as a LoRA of rank {adapter['rank']}, {kind}", err=True)
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
