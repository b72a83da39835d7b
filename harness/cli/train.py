"""harness train and harness resume: one run in this process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion
from harness.cli.arguments import Overrides
from harness.config.errors import InputError
from harness.runs.directory import RunDirectory, find_run, new_run_directory
from harness.runs.exit_codes import DONE, FAILED, STOPPED

if TYPE_CHECKING:
    from harness.config.schema import Config


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
    from harness.config.validate import to_plain
    from harness.runs.files import write_yaml

    if config is not None:
        resolved, label = load_file(config, overrides), config.resolve().parent.name
    else:
        loaded = load(overrides or [])
        resolved, label = loaded.config, loaded.composed.groups.get("experiment") or resolved_label(loaded.config)
    named = directory is not None and directory.exists()
    run = new_run_directory(label) if directory is None else _given(directory)
    with _nothing_half_written(run, keep_directory=named):
        write_yaml(run.config, to_plain(resolved))
        _report(run)


def resume(
    run: Annotated[
        str, typer.Argument(help="A run: its directory, its name under runs/, or STUDY/NUMBER.", autocompletion=completion.runs)
    ],
) -> None:
    """Go on with a run from its last checkpoint."""
    from harness.runs.result import read_result

    found = find_run(run)
    if found.study is not None:
        raise InputError(f"{run} is a trial of the study {found.study.name}: `harness sweep {found.study.name}` goes on with it")
    if read_result(found).state == "complete":
        typer.echo(f"{found.path} is complete", err=True)
        typer.echo(found.path)
        return
    _report(found)


def resolved_label(config: Config) -> str:
    """What a run is called when no experiment names it: its model's name."""
    return Path(config.model.path).name if config.model.path else config.model.family


def _given(directory: Path) -> RunDirectory:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise InputError(f"--dir={directory}: not empty; `harness resume {directory}` goes on with the run in it")
    except OSError as error:
        raise InputError(f"--dir={directory}: cannot be made: {error.strerror}") from error
    return RunDirectory(directory)


@contextmanager
def _nothing_half_written(run: RunDirectory, *, keep_directory: bool) -> Iterator[None]:
    """Remove what a run has written when its input turns out to be bad before its first row of metrics.

    Data and model are looked at after the run's directory is made, since from then on its files say what it does, and a killed
    process can be resumed.
    """
    try:
        yield
    except InputError:
        # Not what another process writes, which was given the same directory and came first.
        if run.metrics.last() is None and not run.is_attempted():
            for path in run.path.iterdir():
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink()
            if not keep_directory:
                shutil.rmtree(run.path, ignore_errors=True)
        raise


def _report(run: RunDirectory) -> None:
    """Attempt the run and say what came of it: its directory on stdout, the rest on stderr."""
    from harness.cli.attempt import attempt
    from harness.runs.result import read_result

    code = attempt(run, crashed="failed", show_progress=True)
    result = read_result(run)
    if code == STOPPED:
        typer.echo(f"stopped at step {result.step}; `harness resume {run.path}` goes on", err=True)
    elif code == DONE:
        for name, value in result.metrics.items():
            if name.startswith("val/"):
                typer.echo(f"{name:40} {value:.4f}", err=True)
    typer.echo(run.path)
    raise typer.Exit(FAILED if code == STOPPED else code)
