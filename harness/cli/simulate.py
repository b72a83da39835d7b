"""harness simulate: a sweep in virtual time, over a table of learning curves."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import completion
from harness.cli.arguments import AsJson, SweepOverrides, print_json
from harness.config.errors import InputError, wrong_value
from harness.runs.exit_codes import FAILED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table as RichTable

    from harness.search.simulation.outcome import Outcome
    from harness.search.sweep import Sweep


def simulate(
    name: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="A file of sweeps/ by its name, or any file.", autocompletion=completion.sweeps)
    ],
    table: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Learning curves: .csv, .jsonl or .parquet, a row an evaluation, columns by configuration key."),
    ],
    overrides: SweepOverrides = None,
    where: Annotated[list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="Use only the table's rows that have this value.")] = None,
    rename: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN=NAME", help="What a column of the table is called here: loss=val/target/loss.")
    ] = None,
    interpolation: Annotated[str, typer.Option(help="Between the table's points: quadratic, linear or nearest.")] = "quadratic",
    workers: Annotated[int | None, typer.Option(min=1, help="Virtual workers; default: the sweep's launcher.workers.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Searches, each with a seed of its own.")] = 1,
    preempted: Annotated[float, typer.Option(min=0, max=1, help="Chance that an attempt is preempted.")] = 0.0,
    killed: Annotated[float, typer.Option(min=0, max=1, help="Chance that worker and attempt are killed without a word.")] = 0.0,
    crashed: Annotated[float, typer.Option(min=0, max=1, help="Chance that an attempt crashes.")] = 0.0,
    slow: Annotated[float, typer.Option(min=0, max=1, help="Share of workers that take four times as long.")] = 0.0,
    tokens_per_second: Annotated[float, typer.Option(min=1e-3, help="Of a worker, where the table has no column seconds.")] = 1e5,
    target: Annotated[float | None, typer.Option(help="Say how many tokens it takes to find this objective.")] = None,
    reach: Annotated[
        str | None,
        typer.Option(metavar="OVERRIDES", help='The same for what another search finds, in the median: "search=tpe budget.trials=64".'),
    ] = None,
    keep: Annotated[Path | None, typer.Option(metavar="DIRECTORY", help="Leave the study here, for compare and status.")] = None,
    as_json: AsJson = False,
) -> None:
    """Try a sweep on a table of learning curves: the real scheduler in virtual time, without training anything."""
    from harness.search.loading import is_of_the_sweep, load_sweep
    from harness.search.simulation.outcome import check_table, median_curve, to_json, to_reach
    from harness.search.simulation.reading import assignments, read_table
    from harness.search.simulation.world import Faults

    if interpolation not in ("quadratic", "linear", "nearest"):
        raise wrong_value("--interpolation", interpolation, "valid: quadratic, linear, nearest")
    if preempted + killed + crashed > 1:
        raise InputError(f"--preempted, --killed, --crashed: {preempted} + {killed} + {crashed} exceeds 1")
    if keep is not None and seeds > 1:
        raise InputError(f"--keep {keep}: keeps one study, there are --seeds {seeds}")
    if target is not None and reach is not None:
        raise InputError("--target and --reach: give one of them")
    given = [*(overrides or []), *([f"launcher.workers={workers}"] if workers else [])]
    sweep = load_sweep(name, given)
    curves = read_table(
        table,
        where=assignments("--where", where or []),
        rename=assignments("--rename", rename or []),
        interpolation=interpolation,  # type: ignore[arg-type]  # checked above
    )
    check_table(sweep, curves)
    faults = Faults(preempted=preempted, killed=killed, crashed=crashed, slow=slow)
    rival: list[Outcome] = []
    if reach is not None:
        # In place of what this search says of itself; what it says of its runs holds for both.
        runs = [text for text in given if not is_of_the_sweep(text)]
        other = load_sweep(name, [*runs, f"launcher.workers={sweep.config.launcher.workers}", *shlex.split(reach)])
        rival = _searches("the other search", other, curves, seeds, faults, tokens_per_second, None)
        target = _median_best(rival)
    outcomes = _searches(sweep.name, sweep, curves, seeds, faults, tokens_per_second, keep)
    direction = sweep.config.objective.direction
    document: dict[str, Any] = {
        "sweep": sweep.name,
        "table": str(table),
        "workers": sweep.config.launcher.workers,
        "objective": {"metric": sweep.config.objective.metric, "direction": direction},
        "outside": sorted(curves.outside),
        "median": median_curve(outcomes),
        "outcomes": [to_json(outcome) for outcome in outcomes],
    }
    if target is not None:
        document["reach"] = to_reach(outcomes, target, direction)
    if rival and target is not None:
        document["reach"]["other"] = {"overrides": reach, **to_reach(rival, target, direction)}
    if as_json:
        print_json(document)
    else:
        _show(document, outcomes, sweep)
    if any(outcome.lost or outcome.faulty or any(outcome.overshoot.values()) for outcome in outcomes):
        raise typer.Exit(FAILED)


def _searches(title: str, sweep: Sweep, table: Any, seeds: int, faults: Any, tokens_per_second: float, keep: Path | None) -> list[Outcome]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from harness.search.simulation.outcome import simulate as search

    budget = sweep.config.budget
    limits = [budget.trials, sweep.most_trials, budget.tokens // sweep.largest_trial_tokens if budget.tokens else None]
    total = min((limit for limit in limits if limit is not None), default=None)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    outcomes = []
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for seed in range(seeds):
            task = progress.add_task(f"{title}, seed {seed}", total=total)
            outcomes.append(
                search(
                    sweep,
                    table,
                    workers=sweep.config.launcher.workers,
                    seed=seed,
                    faults=faults,
                    tokens_per_second=tokens_per_second,
                    keep=keep,
                    on_end=lambda ended, task=task: progress.advance(task),  # type: ignore[misc]
                )
            )
            progress.remove_task(task)
    return outcomes


def _median_best(outcomes: Sequence[Outcome]) -> float:
    import statistics

    best = [outcome.best.objective for outcome in outcomes if outcome.best]
    if not best:
        raise InputError("--reach: that search finds nothing within the constraints")
    return statistics.median(best)


def _show(document: dict[str, Any], outcomes: Sequence[Outcome], sweep: Sweep) -> None:
    from rich.console import Console

    from harness.report.text import count_text, metric_text

    console = Console()
    console.print(_by_seed(outcomes))
    for what, counts in (("trials", [outcome.states for outcome in outcomes]), ("attempts", [outcome.happened for outcome in outcomes])):
        total = sum((Counter(count) for count in counts), Counter[str]())
        console.print(f"{what}: {', '.join(f'{number} {how}' for how, number in total.items())}", highlight=False)
    console.print(f"{sweep.config.objective.metric}, best so far, median over seeds:", highlight=False, soft_wrap=True)
    console.print(_median(document["median"]))
    reach = document.get("reach")
    for title, found in (("", reach), ("the other search: ", reach.get("other"))) if reach else ():
        if found is None:
            continue
        tokens = "not reached" if found["median"] is None else f"{count_text(found['median'])} tokens"
        line = f"{title}{sweep.config.objective.metric} {metric_text(found['target'])}: {tokens} in the median; by {found['reached']} of "
        console.print(line + f"{len(outcomes)} seeds", highlight=False, soft_wrap=True)
    if document["outside"]:
        console.print(f"beyond the table's ends, and answered by them: {', '.join(document['outside'])}", highlight=False)
    for outcome in outcomes:
        for line in outcome.faulty:
            console.print(f"seed {outcome.seed}: {line}", style="red", highlight=False)


def _by_seed(outcomes: Sequence[Outcome]) -> RichTable:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from harness.report.text import ABSENT, count_text, duration_text, metric_text

    shown = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("seed", "best", "after", "trials", "attempts", "tokens", "shared", "time", "lost", "over"):
        shown.add_column(column, justify="right")
    for outcome in outcomes:
        best = outcome.best
        over = ", ".join(f"{amount:g} {unit}" for unit, amount in outcome.overshoot.items() if amount) or "0"
        shown.add_row(
            str(outcome.seed),
            metric_text(best.objective) if best else ABSENT,
            count_text(best.tokens) if best else ABSENT,
            str(sum(outcome.states.values())),
            str(outcome.attempts),
            count_text(outcome.tokens),
            count_text(outcome.shared_tokens),
            duration_text(outcome.seconds),
            str(outcome.lost),
            over,
        )
    return shown


def _median(curve: list[dict[str, float | None]]) -> RichTable:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from harness.report.text import count_text, metric_text

    shown = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    shown.add_column("tokens", justify="right")
    shown.add_column("best", justify="right")
    for point in curve:
        shown.add_row(count_text(point["tokens"] or 0), metric_text(point["objective"]))
    return shown
