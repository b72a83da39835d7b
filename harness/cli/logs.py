"""harness logs: the logs of a trial's attempts and of its workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion
from harness.config.terminal import say

if TYPE_CHECKING:
    from harness.work.logs import Log


def logs(
    study: Annotated[
        str, typer.Argument(help="A study, or a run that was submitted: its name, or its directory.", autocompletion=completion.studies)
    ],
    trial: Annotated[int | None, typer.Argument(min=0, help="The number of a trial; without it, all workers of the study.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on printing what is added, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="The last so many lines of each file; 0: all.")] = 100,
) -> None:
    """Print the logs of a trial: its own, and those of the workers that took it up, whatever Slurm jobs they were. Each under its path."""
    from harness.work.logs import follow_logs, last_lines

    found = _find_logs(study, trial)
    for log in found:
        _print_heading(log)
        for line in last_lines(log.path, lines):
            say(line)
    if not found:
        say(f"{study}: nothing has been said yet", err=True)
    if not follow:
        return
    shown = found[-1] if found else None
    try:
        for log, added in follow_logs(found):
            if log != shown:
                _print_heading(log)
            shown = log
            say(added, nl=False)
    except KeyboardInterrupt:
        return


def _find_logs(word: str, trial: int | None) -> list[Log]:
    from harness.runs.directory import find_study, run_called
    from harness.work.logs import run_logs, study_logs, trial_logs

    run = run_called(word)
    if run is not None:
        if run.study is not None:
            return trial_logs(run.study, int(run.path.name))
        return run_logs(run)
    study = find_study(word)
    return study_logs(study) if trial is None else trial_logs(study, trial)


def _print_heading(log: Log) -> None:
    typer.secho(f"==> {log.path} <== {log.title}", bold=True)
