"""Starting or resuming a single run: its directory, its configuration, its attempt."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config.errors import InputError, wrong_value
from harness.launch.environment import world_of as environment_world
from harness.runs.directory import RunDirectory, new_run_directory
from harness.runs.world import World
from harness.work.elsewhere import reach

if TYPE_CHECKING:
    from harness.config.schema import Config
    from harness.training.stop_flag import StopFlag

ShareDirectory = Callable[[Path | None], Path | None]
"""On rank 0: sends the run's directory to the other ranks, None if there is none. On these: waits for it."""


@dataclass(frozen=True)
class Attempted:
    """The outcome of an attempt on a single run; details are in result.json."""

    run: RunDirectory
    code: int
    """An exit code: DONE, FAILED or STOPPED."""


def start_run(
    config: Config,
    *,
    label: str | None = None,
    directory: Path | None = None,
    show_progress: bool = True,
    stop: StopFlag | None = None,
) -> Attempted | None:
    """Make a run's directory and train; None on a rank other than 0.

    label: what the directory is named by, beside the time; default: the model. directory: new or empty, instead of one under the runs root.
    stop: as of `harness.work.attempt.attempt`.
    Raises InputError for a directory, data or a model that cannot be used; nothing is left of the run then.
    """
    from harness.config.validate import to_plain
    from harness.runs.files import write_yaml

    reach(config)
    world = world_of(config)
    with _all_ranks(config, world) as share:
        if not world.is_main:
            _follow(share, config, world)
            return None
        named = directory is not None and directory.exists()
        run = make_directory(config, label=label, directory=directory)
        with _removed_on_bad_input(run, keep_directory=named):
            write_yaml(run.config, to_plain(config))
            share(run.path)
            return _attempt(run, world, show_progress, stop)


def continue_run(run: RunDirectory, *, show_progress: bool = True, stop: StopFlag | None = None) -> Attempted | None:
    """Train on from the run's last checkpoint; None on a rank other than 0. Nothing happens to a run that is complete or was ended early.

    Raises InputError for an unfinished trial of a study, whose workers go on with it, and for data or a model that cannot be used.
    """
    from harness.runs.exit_codes import DONE
    from harness.runs.result import ENDED_WELL, read_result
    from harness.runs.run_config import load_run_config

    if run.study is not None and read_result(run).state == "complete":
        return Attempted(run, DONE)
    refuse_trial(run)
    config = load_run_config(run)
    if read_result(run).state not in ENDED_WELL:
        reach(config)
    world = world_of(config)
    with _all_ranks(config, world) as share:
        if not world.is_main:
            _follow(share, config, world)
            return None
        if read_result(run).state in ENDED_WELL:
            return Attempted(run, DONE)
        share(run.path)
        return _attempt(run, world, show_progress, stop)


def refuse_trial(run: RunDirectory) -> None:
    """Raise InputError for a trial of a study, with which its study goes on."""
    if run.study is not None:
        raise InputError(f"{run.name} is a trial of the study {run.study.name}: `harness resume {run.study.name}` goes on with it")


def world_of(config: Config) -> World:
    """This process's rank under torchrun or srun, else rank 0 of one. Raises InputError where the number of ranks is not the run's."""
    world = environment_world(os.environ)
    ranks = config.trainer.devices * config.trainer.nodes
    if world.size not in (1, ranks):
        raise wrong_value(
            "trainer.devices", config.trainer.devices, f"makes {ranks} ranks (times trainer.nodes), but {world.size} processes were started"
        )
    return world


def _attempt(run: RunDirectory, world: World, show_progress: bool, stop: StopFlag | None) -> Attempted:
    from harness.runs.exit_codes import FAILED, MACHINE_FAULT, OUT_OF_MEMORY
    from harness.work.attempt import attempt

    code = attempt(run, show_progress=show_progress, world=world if world.size > 1 else None, stop=stop)
    # For a single run it is a failure like any other; result.json says which.
    return Attempted(run, FAILED if code in (OUT_OF_MEMORY, MACHINE_FAULT) else code)


@contextmanager
def _all_ranks(config: Config, world: World) -> Iterator[ShareDirectory]:
    """Connect all ranks; they continue together once rank 0 shares the run's directory, or not at all."""
    if world.size == 1:
        yield lambda path: path
        return
    from harness.training.ranks import connected, from_main

    shared = False

    def share(path: Path | None) -> Path | None:
        nonlocal shared
        shared = True
        return from_main(lambda: path)

    with connected(world, accelerator=config.trainer.accelerator):
        try:
            yield share
        finally:
            if world.is_main and not shared:
                share(None)


def _follow(share: ShareDirectory, config: Config, world: World) -> None:
    """This process as a rank other than 0."""
    from harness.training.stop_flag import StopFlag
    from harness.work.attempt import follow

    stop = StopFlag()
    stop.install()
    path = share(None)
    if path is None:
        return  # rank 0 says why
    follow(RunDirectory(path), config, world, stop)


def make_directory(config: Config, *, label: str | None = None, directory: Path | None = None) -> RunDirectory:
    """The directory for a new run, as `start_run` makes it. Raises InputError."""
    return new_run_directory(label or _label(config)) if directory is None else _empty_directory(directory)


def _label(config: Config) -> str:
    """The name of a run without an experiment: its model's."""
    if config.model.merge.method is not None:
        return f"merge-{config.model.merge.method}"
    return Path(config.model.path).name if config.model.path else config.model.family


def _empty_directory(directory: Path) -> RunDirectory:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise InputError(f"--dir={directory}: not empty; `harness resume {directory}` goes on with the run in it")
    except OSError as error:
        raise InputError(f"--dir={directory}: cannot be made: {error.strerror}") from error
    return RunDirectory(directory)


@contextmanager
def _removed_on_bad_input(run: RunDirectory, *, keep_directory: bool) -> Iterator[None]:
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
