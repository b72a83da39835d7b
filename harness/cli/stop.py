"""harness stop: let the workers of a study save checkpoints and leave."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from harness.cli.arguments import StudyName
from harness.runs.exit_codes import FAILED


def stop(
    study: StudyName,
    timeout_seconds: Annotated[float, typer.Option("--timeout", help="Seconds to wait for the workers to leave.")] = 120.0,
) -> None:
    """Stop a study cleanly: its trials save checkpoints, and none is lost."""
    from harness.runs.confirmation import read_plan
    from harness.runs.directory import find_study
    from harness.search.workers import living_workers

    directory = find_study(study)
    # Also when no worker is to be seen: one that is just starting sees the request. The next `harness sweep` withdraws it.
    directory.stop_request.touch()
    if not living_workers(directory):
        typer.echo(f"{directory.name}: no worker is running")
        return
    deadline = time.monotonic() + timeout_seconds
    while workers := living_workers(directory):
        if time.monotonic() > deadline:
            typer.echo(
                f"{directory.name}: asked to stop, but still running: {', '.join(str(worker['id']) for worker in workers)}", err=True
            )
            raise typer.Exit(FAILED)
        time.sleep(0.1)
    plan = read_plan(directory)
    verb = f"confirm {plan.study}" if plan else f"sweep {directory.name}"
    typer.echo(f"{directory.name}: stopped; `harness {verb}` goes on")
