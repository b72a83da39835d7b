"""harness best: the winner of a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.arguments import AsJson, StudyName, print_json
from harness.runs.exit_codes import FAILED

if TYPE_CHECKING:
    from harness.runs.record import RunRecord, StudyRecord


def best(
    study: StudyName,
    export: Annotated[str | None, typer.Option(metavar="NAME", help="Write it to conf/experiment/best/NAME.yaml.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the best configuration of a study (the confirmed one, after `harness confirm`), and export it as an experiment."""
    from harness.config.errors import InputError
    from harness.runs.directory import find_study
    from harness.runs.record import load_study
    from harness.search.status import best_json

    record = load_study(find_study(study))
    if record.confirms is not None:
        raise InputError(f"{record.name} is the confirmation of {record.confirms}: harness best {record.confirms}")
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
    metrics = record.confirmed.metrics if record.confirmed else winner.result.metrics
    if as_json:
        confirmation = record.confirmation.to_json() if record.confirmation else None
        document = {"study": record.name, **(best_json(record, winner) or {}), "metrics": metrics, "confirmation": confirmation}
        print_json({**document, "experiment": f"best/{export}" if export else None})
        return
    for line in _lines(record, winner):
        typer.echo(line)
    for metric in record.constraints:
        typer.echo(f"  {metric} {metrics[metric]:.4f}")
    for key, value in winner.params.items():
        typer.echo(f"  {key}={value}")
    if path is not None:
        typer.echo(f"wrote {path}; run it again: harness train experiment=best/{export} seed=1")


def _lines(record: StudyRecord, winner: RunRecord) -> list[str]:
    from harness.report.confirmation import seeds_text, verdict

    what = f"{record.name}: trial {winner.number}, {record.objective.metric}"
    if record.confirmed:
        return [f"{what} {seeds_text(record.confirmed)}, confirmed", *verdict(record)]
    lines = [f"{what} {winner.result.objective:.4f} (one seed, not confirmed)"]
    return [*lines, *verdict(record)] if record.confirmation else [*lines, f"  harness confirm {record.name} runs the best over seeds"]
