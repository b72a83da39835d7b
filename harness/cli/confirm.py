"""harness confirm: the best of a study again, over seeds."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from harness.cli.arguments import AsJson, DryRun, LauncherOverrides, StudyName, print_json
from harness.runs.exit_codes import DONE, FAILED

TOP = 3


def confirm(
    study: StudyName,
    overrides: LauncherOverrides = None,
    top: Annotated[int | None, typer.Option(metavar="K", help=f"How many of the study's best configurations; default: {TOP}.")] = None,
    seeds: Annotated[int, typer.Option(metavar="N", help="Over how many seeds each; at least 2.")] = 3,
    trial: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="This trial, rather than the best; may be repeated. Adds to an earlier confirmation."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at a time; default: as many as the study had.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return at once; `harness status STUDY-confirm` watches, `harness stop STUDY-confirm` stops.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Run the best of a study again over fresh seeds: means, intervals, the winner. The same command goes on where it stopped.

    The runs are launched as those of the study were, or as LAUNCHER says: with launcher=slurm they are submitted, and the command returns.
    """
    from harness.cli.submitted import report, submitting
    from harness.cli.sweep import report_unfinished
    from harness.config.errors import InputError
    from harness.config.launcher import launcher_alone
    from harness.runs.directory import find_study
    from harness.runs.fresh_seeds import shifts, to_try_next
    from harness.runs.record import load_study
    from harness.search.confirm import check_confirmation, open_confirmation
    from harness.search.status import read_status
    from harness.work.cluster import check_workers, confirmation_script, submit_wanted
    from harness.work.study import follow_workers, launcher_of, start_missing

    if detach and as_json:
        raise InputError("--detach and --json exclude each other: there is nothing to print yet")
    if trial and top is not None:
        raise InputError("--trial and --top exclude each other: the candidates are those that are named, or the best")
    top = TOP if top is None else top
    status = read_status(find_study(study))
    name, record = status.study.name, status.study
    launcher = launcher_alone(overrides) if overrides else launcher_of(record.directory)
    if dry_run:
        if launcher.name != "slurm":
            raise InputError("--dry-run: shows a batch script, so it needs launcher=slurm")
        sweep, _ = check_confirmation(record, top=top, seeds=seeds, trials=trial or [])
        typer.echo(confirmation_script(record.directory, launcher, workers or sweep.config.launcher.workers), nl=False)
        return
    if launcher.name == "slurm":
        with submitting():
            check_workers(record.directory, launcher)
    directory = open_confirmation(record, top=top, seeds=seeds, workers=workers, launcher=launcher, trials=trial or [])
    confirmation = load_study(record.directory).confirmation
    assert confirmation is not None, "it was written"
    if not status.is_finished:
        typer.echo(f"{name}: not finished; its candidates are the best so far", err=True)
    if len(record.objectives) > 1:
        typer.echo(f"{name}: several objectives; candidates are ranked by the first, {record.objective.metric}", err=True)
    if not confirmation.is_complete:
        left, named = len(confirmation.plan.runs) - confirmation.ended, ", ".join(map(str, confirmation.seeds))
        typer.echo(
            f"{name}: {len(confirmation.candidates)} candidates over seeds {named}: {left} runs to go, in {directory.path}; "
            f"they are not charged to the budget of {name}",
            err=True,
        )
        if launcher.name == "slurm":
            with submitting():
                report(submit_wanted(directory))
            return
        if detach:
            started = start_missing(directory).tend(replace=False)
            typer.echo(f"{directory.path}: {started} workers started; harness status {directory.name} --watch")
            return
        from rich.console import Console

        followed = follow_workers(directory, console=Console(file=sys.stderr))
        if not followed.status.is_finished:
            report_unfinished(followed)
    record = load_study(record.directory)
    confirmation = record.confirmation
    assert confirmation is not None, "it was written"
    if as_json:
        added = {
            "shifts": shifts(record),
            "to_try_next": to_try_next(record, top) if confirmation.is_complete and not confirmation.winner else [],
        }
        print_json({**confirmation.to_json(), **added})
    else:
        from harness.report.confirmation import print_confirmation

        print_confirmation(record)
    raise typer.Exit(DONE if confirmation.winner else FAILED)
