"""harness confirm: the best of a study again, over seeds."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.announce import announce
from harness.cli.arguments import AsJson, DryRun, LauncherOverrides, StudyName, print_json
from harness.config.terminal import say
from harness.runs.exit_codes import DONE, FAILED

if TYPE_CHECKING:
    from harness.runs.directory import StudyDirectory
    from harness.runs.record import StudyRecord

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
            help="In so many rounds at most: each after the first takes as many again, of those that were better in the search than what "
            "is confirmed, and that by what was measured so far are expected to meet the constraints.",
        ),
    ] = 1,
    retrain: Annotated[
        bool,
        typer.Option(
            "--retrain",
            help="Of a study of merges: for each seed train the ingredients that are runs here again, with seeds of their own, in this "
            "process or, with launcher=slurm, in jobs; then merge these.",
        ),
    ] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Runs at a time; default: as many as the study had.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return at once; `harness status STUDY-confirm` watches, `harness stop STUDY-confirm` stops.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Run the best of a study again over fresh seeds: means, intervals, the winner. The same command goes on where it stopped.

    The best that one seed lets through a constraint lie at its edge, where fresh seeds may push them over it: --rounds goes further inside.

    The runs are launched as those of the study were, or as LAUNCHER says: with launcher=slurm they are submitted, and the command returns.
    Given again when they have ended, it submits the next round.
    """
    from harness.cli.submitted import report, submitting
    from harness.cli.sweep import report_unfinished
    from harness.config.errors import InputError
    from harness.config.launcher import launcher_alone
    from harness.runs.directory import find_study
    from harness.runs.fresh_seeds import shifts
    from harness.search.confirm import check_confirmation
    from harness.search.next_candidates import to_try_next
    from harness.search.status import read_status
    from harness.work.cluster import check_workers, confirmation_script, submit_wanted
    from harness.work.confirm import confirm_in_rounds, refuse_retraining
    from harness.work.kept_run import UnfinishedError
    from harness.work.retrain import awaited_jobs
    from harness.work.start_study import follow_workers, launcher_of, start_missing

    if detach and as_json:
        raise InputError("--detach and --json exclude each other: there is nothing to print yet")
    if trial and top is not None:
        raise InputError("--trial and --top exclude each other: the candidates are those that are named, or the best")
    top = TOP if top is None else top
    announce(f"looking for the best of {study}")
    status = read_status(find_study(study))
    name, record = status.study.name, status.study
    launcher = launcher_alone(overrides) if overrides else launcher_of(record.directory)
    refuse_retraining(record, asked=retrain, detach=detach and launcher.name == "local")
    if dry_run:
        if launcher.name != "slurm":
            raise InputError("--dry-run: shows a batch script, so it needs launcher=slurm")
        sweep, _ = check_confirmation(record, top=top, seeds=seeds, trials=trial or [])
        say(confirmation_script(record.directory, launcher, workers or sweep.config.launcher.workers), nl=False)
        return
    if launcher.name == "slurm":
        with submitting():
            check_workers(record.directory, launcher)
    notes = [] if status.is_finished else [f"{name}: not finished; its candidates are the best so far"]
    if len(record.objectives) > 1:
        notes.append(f"{name}: several objectives; candidates are ranked by the first, {record.objective.metric}")

    def train(study: StudyRecord, directory: StudyDirectory) -> bool:
        while notes:
            say(notes.pop(0), err=True)
        confirmation = study.confirmation
        assert confirmation is not None, "it was written"
        left = confirmation.to_go
        numbers, over = (", ".join(map(str, dict.fromkeys(run[key] for run in left))) for key in ("candidate", "seed"))
        say(
            f"{name}: trials {numbers} over seeds {over}: {len(left)} runs to go, in {directory.path}; they are not charged to the budget "
            f"of {name}",
            err=True,
        )
        if launcher.name == "slurm":
            report(submit_wanted(directory, after=awaited_jobs(directory)))
            return False
        if detach:
            started = start_missing(directory).tend(replace=False)
            say(f"{directory.path}: {started} workers started; harness status {directory.name} --watch")
            return False
        from harness.config.literal_console import LiteralConsole

        followed = follow_workers(directory, console=LiteralConsole(file=sys.stderr))
        if not followed.status.is_finished:
            report_unfinished(followed)
        return True

    try:
        with submitting():
            record = confirm_in_rounds(
                record,
                train,
                top=top,
                seeds=seeds,
                trials=trial or [],
                rounds=rounds,
                workers=workers,
                launcher=launcher,
                retrain_ingredients=retrain,
            )
    except UnfinishedError as error:
        say(str(error), err=True)
        raise typer.Exit(FAILED) from None
    confirmation = record.confirmation
    assert confirmation is not None, "it was written"
    if not confirmation.is_complete:
        return
    if as_json:
        print_json({**confirmation.to_json(), "shifts": shifts(record), "to_try_next": to_try_next(record, top)})
    else:
        from harness.report.confirmation_table import print_confirmation

        print_confirmation(record)
    raise typer.Exit(DONE if confirmation.winner else FAILED)
