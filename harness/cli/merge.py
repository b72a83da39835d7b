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
from harness.config.terminal import say
from harness.runs.exit_codes import FAILED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from harness.merging.plan import Plan


def merge(
    out: Annotated[Path, typer.Argument(help="A new directory.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL|NAME=MODEL:WEIGHT|OVERRIDES|FILE.yml",
            help="Ingredients, such as docs=runs/cpt/trials/0007:0.6 chat=ORG/NAME:0.4 study:cpt, and keys of model.merge; a recipe of "
            "mergekit; or a run that merged, STUDY/NUMBER.",
            autocompletion=completion.overrides,
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="model.merge.method, in short; of models without a name linear, their mean, if not given.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="model.merge.base, in short.")] = None,
    scale: Annotated[float | None, typer.Option("--lambda", help="model.merge.scale, in short.")] = None,
    density: Annotated[float | None, typer.Option(help="The density of every ingredient.")] = None,
    top: Annotated[int | None, typer.Option(metavar="K", help="Of study:NAME, its K best trials.")] = None,
    last: Annotated[int | None, typer.Option(metavar="K", help="Of a run, its last K checkpoints; of trunk:STUDY/NUMBER, states.")] = None,
    greedy: Annotated[
        bool,
        typer.Option(
            "--greedy",
            help="The mean of those models with which it does not get worse, the best first. Other words say how that is measured: "
            "data.validation.docs.path=FILE, …; else it is as the first model that is a run was.",
        ),
    ] = False,
    metric: Annotated[str | None, typer.Option(help="With --greedy: what chooses; default: the study's objective, else the loss.")] = None,
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
    if greedy and adapter:
        raise InputError("--greedy and --adapter exclude each other: a soup is a model")
    if metric is not None and not greedy:
        raise InputError(f"--metric {metric}: only with --greedy, since nothing else is measured")
    announce("reading the headers of the models")
    from harness.merging.adapter import plan_adapter, write_adapter
    from harness.merging.write import refuse_full_disk, refuse_used, write_merge
    from harness.work.merge import adapter_result, adapter_summary, in_short, merge_plan_of, plan_summary, scores_of

    words = in_short(words or [], method=method, base=base, scale=scale, density=density, top=top, last=last)
    refuse_used(out)
    if greedy:
        plan, scores, found = _soup(words, out, metric, dry_run=dry_run)
    else:
        plan, scores, found = merge_plan_of(words), scores_of(words), {}
    low_rank = plan_adapter(plan, rank=rank) if adapter else None
    if low_rank is None:
        refuse_full_disk(plan, out)
    summary = {**plan_summary(plan), **found, **({} if low_rank is None else {"adapter": adapter_summary(low_rank)})}
    if not as_json:
        _show(summary)
        for line in scores:
            say(f"  {line}", err=True)
    if not dry_run:
        with _bar() as progress:
            if low_rank is None:
                write_merge(plan, out, progress=progress, scores=scores)
            else:
                summary["adapter"] |= adapter_result(write_adapter(low_rank, out, progress=progress))
    if as_json:
        print_json({**summary, "out": None if dry_run else str(out)})
    elif not dry_run:
        _say_what_it_is(summary, out)
        say(out)


def _soup(words: list[str], out: Path, metric: str | None, *, dry_run: bool) -> tuple[Plan, list[str], dict[str, Any]]:
    """The plan of a greedy soup, what is said of how good it is, and the same for --json; of a dry run the plan of all models, which are
    not measured."""
    from harness.merging.write import refuse_full_disk
    from harness.models.merged import merge_plan
    from harness.work.greedy_soup import greedy_soup, plan_of_all
    from harness.work.kept_run import UnfinishedError

    plan = plan_of_all(words, metric=metric)
    refuse_full_disk(plan, out)
    if dry_run:
        return plan, ["--greedy: which of these models stay is seen when their means are measured"], {}
    try:
        soup = greedy_soup(words, out, metric=metric)
    except UnfinishedError as error:
        say(str(error), err=True)
        raise typer.Exit(FAILED) from None
    return merge_plan(soup.merge, seed=plan.recipe.seed), soup.lines, {"greedy": soup.to_json()}


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
