"""harness workers: more of them, or fewer, while a study runs."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.arguments import LauncherOverrides, StudyName
from harness.config.terminal import say


def workers(
    study: StudyName,
    overrides: LauncherOverrides = None,
    add: Annotated[int | None, typer.Option("--add", min=1, metavar="N", help="Start so many more.")] = None,
    to: Annotated[int | None, typer.Option("--to", min=1, metavar="N", help="Have so many: start or dismiss.")] = None,
) -> None:
    """Change how many workers a study has, while it runs. Those that are dismissed save a checkpoint and leave; no trial is lost.

    New ones are launched as the study was, or as LAUNCHER says: workers of several clusters and machines may share one study.
    """
    from harness.cli.submitted import report, submitting, workers_text
    from harness.config.errors import InputError
    from harness.config.launcher import launcher_alone
    from harness.runs.directory import find_study
    from harness.search.status import read_status
    from harness.work.elastic import change_workers
    from harness.work.start_study import launcher_of

    if (add is None) == (to is None):
        raise InputError("harness workers: give one of --add N and --to N; `harness stop` dismisses all")
    directory = find_study(study)
    status = read_status(directory)
    if status.is_finished:
        raise InputError(f"{directory.name}: the study is finished, there is nothing to do for workers")
    if directory.stop_request.exists():
        raise InputError(f"{directory.name}: the study was stopped; `harness resume {directory.name}` goes on with it")
    launcher = launcher_alone(overrides) if overrides else launcher_of(directory)
    with submitting():
        change = change_workers(directory, launcher, add=add, to=to)
        if change.submitted is not None:
            report(change.submitted)
    if change.started:
        say(f"{directory.path}: {workers_text(change.started)} started on this machine, beside {change.present}")
    if change.dismissed:
        say(f"{directory.path}: {workers_text(len(change.dismissed))} dismissed: {', '.join(change.dismissed)}")
    if change.present == change.wanted:
        say(f"{directory.path}: {workers_text(change.present)} already")
