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
    rounds: Annotated[
        int,
        typer.Option(
            metavar="R",
            min=1,
            help="In so many rounds at most: each after the first takes as many again, of those that were better in the search than what "
            "is confirmed, and that by what was measured so far are expected to meet the constraints.",
        ),
    ] = 1,
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at a time; default: as many as the study had.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return at once; `harness status STUDY-confirm` watches, `harness stop STUDY-confirm` stops.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Run the best of a study again over fresh seeds: means, intervals, the winner. The same command goes on where it stopped.

    The best that one seed lets through a constraint lie at its edge, and fresh seeds may push all of them over it: --rounds goes on
    further inside.

    The runs are launched as those of the study were, or as LAUNCHER says: with launcher=slurm they are submitted, and the command returns;
    given again when they have ended, it submits the next round.
    """
    from harness.cli.submitted import report, submitting
    from harness.cli.sweep import report_unfinished
    from harness.config.errors import InputError
    from harness.config.launcher import launcher_alone
    from harness.runs.directory import find_study
    from harness.runs.fresh_seeds import shifts
    from harness.runs.record import load_study
    from harness.search.confirm import check_confirmation, open_confirmation
    from harness.search.fresh_seeds import next_round, to_try_next
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
    if not status.is_finished:
        typer.echo(f"{name}: not finished; its candidates are the best so far", err=True)
    if len(record.objectives) > 1:
        typer.echo(f"{name}: several objectives; candidates are ranked by the first, {record.objective.metric}", err=True)
    each, named = len(trial) if trial else top, trial or []
    while True:
        directory = open_confirmation(record, top=top, seeds=seeds, workers=workers, launcher=launcher, trials=named)
        confirmation = load_study(record.directory).confirmation
        assert confirmation is not None, "it was written"
        if not confirmation.is_complete:
            left, over = len(confirmation.plan.runs) - confirmation.ended, ", ".join(map(str, confirmation.seeds))
            typer.echo(
                f"{name}: {len(confirmation.candidates)} candidates over seeds {over}: {left} runs to go, in {directory.path}; "
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
        named = next_round(record, each=each, most=each * rounds)
        if not named:
            break
        typer.echo(f"{name}: goes on with trials {', '.join(map(str, named))}, which are expected to meet the constraints", err=True)
    confirmation = record.confirmation
    assert confirmation is not None, "it was written"
    if as_json:
        added = {
            "shifts": shifts(record),
            "to_try_next": to_try_next(record, each) if confirmation.is_complete else [],
        }
        print_json({**confirmation.to_json(), **added})
    else:
        from harness.report.confirmation import print_confirmation

        print_confirmation(record)
    raise typer.Exit(DONE if confirmation.winner else FAILED)
