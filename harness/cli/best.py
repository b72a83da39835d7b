"""harness best: the winner of a study."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.arguments import AsJson, StudyName, print_json
from harness.runs.exit_codes import FAILED


def best(
    study: StudyName,
    export: Annotated[str | None, typer.Option(metavar="NAME", help="Write it to conf/experiment/best/NAME.yaml.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the best configuration of a study, and export it as an experiment."""
    from harness.runs.directory import find_study
    from harness.runs.record import load_study

    record = load_study(find_study(study))
    winner = record.best
    if winner is None:
        complete = [run for run in record.runs if run.state == "complete"]
        reason = f"none of its {len(complete)} complete trials meets the constraints" if complete else "it has no complete trial"
        typer.echo(f"{record.name}: no best configuration: {reason}", err=True)
        raise typer.Exit(FAILED)
    path = None
    if export is not None:
        from harness.search.winner import export as write

        path = write(record, winner, export)
    if as_json:
        experiment = f"best/{export}" if export else None
        document = {"study": record.name, "number": winner.number, "params": winner.params, "objective": winner.result.objective}
        print_json({**document, "metrics": winner.result.metrics, "confirmed": False, "interval": None, "experiment": experiment})
        return
    typer.echo(f"{record.name}: trial {winner.number}, {record.objective.metric} {winner.result.objective:.4f} (one seed, not confirmed)")
    for metric in record.constraints:
        typer.echo(f"  {metric} {winner.result.metrics[metric]:.4f}")
    for key, value in winner.params.items():
        typer.echo(f"  {key}={value}")
    if path is not None:
        typer.echo(f"wrote {path}; run it again: harness train experiment=best/{export} seed=1")
