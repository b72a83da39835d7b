"""harness sweep: start a study, or go on with it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from harness.cli import completion
from harness.cli.announce import announce
from harness.cli.arguments import Detach, StudyDryRun, SweepOverrides, Workers
from harness.config.terminal import say
from harness.runs.exit_codes import DONE, FAILED

if TYPE_CHECKING:
    from harness.search.status import Status
    from harness.search.sweep import Sweep
    from harness.work.start_study import Followed


def sweep(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE|STUDY",
            help="A file of sweeps/ by its name, any file, or a study that goes on.",
            autocompletion=completion.sweeps,
        ),
    ],
    overrides: SweepOverrides = None,
    workers: Workers = None,
    detach: Detach = False,
    study: Annotated[
        str | None, typer.Option("--name", metavar="STUDY", help="What the study is called; default: the file's name.")
    ] = None,
    dry_run: StudyDryRun = False,
) -> None:
    """Start a study, or go on where it stopped. Ctrl-C stops it cleanly.

    With launcher=slurm, or a profile of a cluster (conf/launcher/, conf/local/launcher/), its workers are submitted as one job array that
    pulls trials, and the command returns. A study that was launched goes on by its name alone: what it was told then is in its sweep.yaml.
    """
    announce(f"checking all of {name}: every end of its space{'' if dry_run else ', then the data'}")
    from harness.work.start_study import read_sweep

    launch_or_follow(read_sweep(name, overrides or [], name=study, workers=workers), detach=detach, dry_run=dry_run)


def launch_or_follow(loaded: Sweep, *, detach: bool, dry_run: bool) -> NoReturn:
    """Submit the workers of a sweep's study, start them, or start and follow them; with dry_run say what would be done."""
    from harness.work.start_study import begin_study, follow_workers, start_missing

    if loaded.config.launcher.name == "slurm":
        _on_slurm(loaded, dry_run=dry_run)
        raise typer.Exit
    if dry_run:
        would = f"{loaded.config.launcher.workers} workers would be started on this machine"
        say(f"{loaded.name}: {would}; all is valid but for the data, which were not read (harness data reads them)", err=True)
        raise typer.Exit
    try:
        directory = begin_study(loaded)
    except subprocess.CalledProcessError as error:
        raise typer.Exit(error.returncode) from error
    if detach:
        started = start_missing(directory).tend(replace=False)
        say(f"{directory.path}: {started} workers started; harness status {directory.name} --watch")
        raise typer.Exit
    raise typer.Exit(_report(follow_workers(directory)))


def _on_slurm(sweep: Sweep, *, dry_run: bool) -> None:
    from harness.cli.submitted import report, submitting
    from harness.work.cluster import launch_study, study_script

    if dry_run:
        say(study_script(sweep), nl=False)
        return
    with submitting():
        report(launch_study(sweep))


def report_unfinished(followed: Followed) -> None:
    """Print on stderr why the workers left before the study was finished."""
    for line in followed.why_unfinished():
        say(line, err=True)


def end_lines(status: Status, counts: str) -> Iterator[str]:
    """What a study came to, where it is, and what to do next: nothing that could not work."""
    from harness.config.steering_controls import has_noise
    from harness.report.confirmation_table import answer
    from harness.report.text import count_text, duration_text
    from harness.runs.confirmation import ENOUGH_SEEDS
    from harness.runs.fresh_seeds import outcome
    from harness.tracking.off_note import wandb_off
    from harness.tracking.study_overview import published_url

    study, name = status.study, status.study.name
    runs = [*study.runs, *study.paid_for]
    seconds = sum(run.result.seconds for run in runs)
    spent = sum(run.result.tokens.spent for run in runs)
    if study.paid_for:
        counts = f"{counts}, {len(study.paid_for)} runs over fresh seeds"
    yield f"{name}: {counts}; {count_text(spent)} tokens in {duration_text(seconds)} of runs, in {study.directory.path}"
    if url := published_url(study.directory):
        yield f"{name}: W&B: {url}"
    if off := wandb_off(study.directory):
        yield f"{name}: {off}"
    next_steps = [f"harness compare {name} --html {name}.html"]
    if study.confirmation is not None:
        yield from answer(study)
    elif status.confirms_itself and status.best is not None:
        if any(study.has_full_length(run) for run in study.ranked):
            why = f"what was left of the budget holds fewer than {ENOUGH_SEEDS} runs of full length over fresh seeds"
        else:
            why = "no trial of full length is complete" + (" within the constraints" if study.constraints else "")
        yield f"{name}: not confirmed: {why}"
    if status.best is not None:
        different = len({outcome(run) for run in study.ranked if study.has_full_length(run)})
        # Three candidates are its default.
        may_confirm = different and has_noise(study.sweep.get("config", {}))
        confirm = [f"harness confirm {name}{f' --top {different}' if different < 3 else ''}"] if may_confirm else []
        next_steps += [*([] if study.confirmed else confirm), f"harness best {name} --export NAME"]
    elif (nearest := study.nearest) is not None:
        broken = ", ".join(study.breaks(nearest))
        yield f"{name}: no trial is complete and within the constraints; nearest: trial {nearest.number}, {broken}"
        next_steps += [
            "another range or bound (space.KEY.low=…, constraints.METRIC.max=…) under a --name of its own",
            f"harness best {name}/{nearest.number} --export NAME, as it is",
        ]
    elif study.runs:
        yield f"{name}: no trial is complete"
        next_steps = [f"harness logs {name}/{study.runs[0].number}"]
    yield f"{name}: next: {'; '.join(next_steps)}"


def _report(followed: Followed) -> int:
    status = followed.status
    if not status.is_finished:
        report_unfinished(followed)
        return FAILED
    for line in end_lines(status, status.standings_text()):
        say(line, err=True)
    return DONE if status.count().get("complete") else FAILED
