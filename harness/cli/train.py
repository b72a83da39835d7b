"""harness train and harness resume: one run in this process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion
from harness.cli.arguments import Overrides
from harness.config.errors import InputError, wrong_value
from harness.launch.environment import world_of as environment_world
from harness.runs.directory import RunDirectory, find_run, new_run_directory
from harness.runs.exit_codes import DONE, FAILED, STOPPED
from harness.runs.world import World

if TYPE_CHECKING:
    from harness.config.load import Loaded
    from harness.config.schema import Config
    from harness.runs.result import Result

Meet = Callable[[Path | None], Path | None]
"""On rank 0: names the run's directory to the others, None if there will be none. On these: waits for it."""


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
        _tell_of_transfer(loaded)
    world = world_of(resolved)
    with _all_ranks(resolved, world) as meet:
        if not world.is_main:
            _follow(meet, resolved, world)
            return
        named = directory is not None and directory.exists()
        run = new_run_directory(label) if directory is None else _given(directory)
        with _nothing_half_written(run, keep_directory=named):
            write_yaml(run.config, to_plain(resolved))
            meet(run.path)
            _report(run, world)


def _tell_of_transfer(loaded: Loaded) -> None:
    """Say what does not carry over where a recipe is used otherwise than it was found."""
    experiment = loaded.composed.groups.get("experiment") or ""
    if not experiment.startswith("best/") or not environment_world(os.environ).is_main:
        return
    from harness.runs.bundle import named_bundle
    from harness.search.transfer import transfer_notes

    bundle = named_bundle(experiment)
    if bundle is not None:
        for note in transfer_notes(experiment.removeprefix("best/"), bundle, loaded):
            typer.echo(note, err=True)


def run_again(config: Config, *, label: str, directory: Path | None) -> tuple[Path, Result]:
    """Train a configuration that another verb has made, in this process; the run's directory, and what came of it.

    Raises InputError for input that cannot be used; nothing then stays of a directory that was made here.
    """
    from harness.cli.attempt import attempt
    from harness.config.validate import to_plain
    from harness.runs.files import write_yaml
    from harness.runs.result import read_result

    if world_of(config).size > 1:
        raise InputError("not under torchrun or srun: the ranks of one machine are started from here")
    named = directory is not None and directory.exists()
    run = new_run_directory(label) if directory is None else _given(directory)
    with _nothing_half_written(run, keep_directory=named):
        write_yaml(run.config, to_plain(config))
        attempt(run, crashed="failed", show_progress=True)
    return run.path, read_result(run)


def resume(
    run: Annotated[
        str, typer.Argument(help="A run: its directory, its name under runs/, or STUDY/NUMBER.", autocompletion=completion.runs)
    ],
) -> None:
    """Go on with a run from its last checkpoint."""
    from harness.config.load import load_file
    from harness.runs.result import read_result

    found = find_run(run)
    if found.study is not None:
        raise InputError(f"{run} is a trial of the study {found.study.name}: `harness sweep {found.study.name}` goes on with it")
    config = load_file(found.config)
    world = world_of(config)
    with _all_ranks(config, world) as meet:
        if not world.is_main:
            _follow(meet, config, world)
            return
        if read_result(found).state == "complete":
            typer.echo(f"{found.path} is complete", err=True)
            typer.echo(found.path)
            return
        meet(found.path)
        _report(found, world)


def world_of(config: Config) -> World:
    """Which rank of the run torchrun or srun has made of this process; alone without them. Raises InputError when they made too many."""
    world = environment_world(os.environ)
    ranks = config.trainer.devices * config.trainer.nodes
    if world.size not in (1, ranks):
        raise wrong_value(
            "trainer.devices", config.trainer.devices, f"makes {ranks} ranks (times trainer.nodes), but {world.size} processes were started"
        )
    return world


@contextmanager
def _all_ranks(config: Config, world: World) -> Iterator[Meet]:
    """All ranks that were started, connected: they go on together from where rank 0 names the run's directory, or not at all."""
    if world.size == 1:
        yield lambda path: path
        return
    from harness.training.ranks import connected, from_main

    met = False

    def meet(path: Path | None) -> Path | None:
        nonlocal met
        met = True
        return from_main(lambda: path)

    with connected(world, accelerator=config.trainer.accelerator):
        try:
            yield meet
        finally:
            if world.is_main and not met:
                meet(None)


def _follow(meet: Meet, config: Config, world: World) -> None:
    """This process as a rank other than 0."""
    from harness.cli.attempt import follow
    from harness.training.stop import StopFlag

    stop = StopFlag()
    stop.install()
    path = meet(None)
    if path is None:
        return  # rank 0 says why
    follow(RunDirectory(path), config, world, stop)


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


def _report(run: RunDirectory, world: World) -> None:
    """Attempt the run and say what came of it: its directory on stdout, the rest on stderr."""
    from harness.cli.attempt import attempt
    from harness.runs.result import read_result

    code = attempt(run, crashed="failed", show_progress=True, world=world if world.size > 1 else None)
    result = read_result(run)
    if code == STOPPED:
        typer.echo(f"stopped at step {result.step}; `harness resume {run.path}` goes on", err=True)
    elif code == DONE:
        for name, value in result.metrics.items():
            if name.startswith("val/"):
                typer.echo(f"{name:40} {value:.4f}", err=True)
    typer.echo(run.path)
    raise typer.Exit(FAILED if code == STOPPED else code)
