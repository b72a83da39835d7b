"""harness train and harness resume: one run in this process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion
from harness.cli.arguments import Overrides
from harness.runs.exit_codes import DONE, FAILED, STOPPED

if TYPE_CHECKING:
    from harness.work.run import Attempted


def train(
    overrides: Overrides = None,
    config: Annotated[
        Path | None, typer.Option(help="A resolved config.yaml, as every run directory holds one; only values can be overridden.")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Directory for the run, new or empty; default: a new one under runs/.")
    ] = None,
) -> None:
    """Train one run; prints its directory."""
    from harness.config.load import load, load_file
    from harness.work.run import start_run

    label: str | None
    if config is not None:
        resolved, label = load_file(config, overrides), config.resolve().parent.name
    else:
        loaded = load(overrides or [])
        resolved, label = loaded.config, loaded.composed.groups.get("experiment")
    _report(start_run(resolved, label=label, directory=directory))


def resume(
    run: Annotated[
        str, typer.Argument(help="A run: its directory, its name under runs/, or STUDY/NUMBER.", autocompletion=completion.runs)
    ],
) -> None:
    """Go on with a run from its last checkpoint."""
    from harness.runs.directory import find_run
    from harness.runs.result import read_result
    from harness.work.run import continue_run

    found = find_run(run)
    was_complete = read_result(found).state == "complete"
    attempted = continue_run(found)
    if attempted and was_complete:
        typer.echo(f"{found.path} is complete", err=True)
    _report(attempted)


def _report(attempted: Attempted | None) -> None:
    """Say what came of an attempt: the run's directory on stdout, the rest on stderr. Nothing on a rank other than 0."""
    from harness.runs.result import read_result

    if attempted is None:
        return
    run, code, result = attempted.run, attempted.code, read_result(attempted.run)
    if code == STOPPED:
        typer.echo(f"stopped at step {result.step}; `harness resume {run.path}` goes on", err=True)
    elif code == DONE:
        for name, value in result.metrics.items():
            if name.startswith("val/"):
                typer.echo(f"{name:40} {value:.4f}", err=True)
    typer.echo(run.path)
    raise typer.Exit(FAILED if code == STOPPED else code)
