"""Starting or continuing a study, and following its workers until they leave."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config.launcher_schema import LauncherConfig
from harness.config.synth_path import made_sources
from harness.config.terminal import say
from harness.runs.directory import StudyDirectory, runs_root, study_called

if TYPE_CHECKING:
    from rich.console import Console

    from harness.launch.local import LocalWorkers
    from harness.search.status import Status
    from harness.search.sweep import Sweep


def read_sweep(sweep: str, overrides: list[str], *, name: str | None = None, workers: int | None = None) -> Sweep:
    """Read a sweep and check all of it; nothing is written.

    sweep: a name under sweeps/, a file, or a study that was launched, which goes on as it is. What an earlier launch of the study was given
    need not be given again. name: of the study; default: the file's. workers: instead of the sweep's launcher.workers.
    Raises InputError for whatever is wrong with it, and where a study of this name was launched with another sweep.
    """
    from harness.search.checks import advice
    from harness.search.go_on import with_earlier
    from harness.search.load_sweep import load_sweep, sweep_file
    from harness.search.open_study import refuse_other_sweep

    overrides = [*overrides, *_workers(workers)]
    file = sweep_file(sweep)
    study = study_called(sweep) if file is None else _launched_from(file)
    if study is not None and name in (None, study.name):
        return resumed(study, overrides)
    if file is not None:
        overrides = with_earlier(StudyDirectory(runs_root() / (name or file.stem)), overrides)
    loaded = load_sweep(sweep, overrides, name=name)
    for line in (*loaded.start.lines(), *advice(loaded)):
        say(f"{loaded.name}: {line}", err=True)
    refuse_other_sweep(loaded)
    return loaded


def resumed(study: StudyDirectory, overrides: list[str], *, workers: int | None = None) -> Sweep:
    """The sweep of a study that was launched, from its frozen file alone, with another budget or launcher; nothing is written.

    Raises InputError as `harness.search.go_on.go_on`.
    """
    from harness.search.go_on import go_on

    return go_on(study, [*overrides, *_workers(workers)])


def _workers(workers: int | None) -> list[str]:
    return [f"launcher.workers={workers}"] if workers else []


def _launched_from(file: Path) -> StudyDirectory | None:
    """The study whose frozen sweep.yaml this is; None for a file that asks a question of its own."""
    from harness.config.user_yaml import read_mapping

    if file.name != "sweep.yaml" or "launched" not in read_mapping(file, holds="objective, space, budget, …"):
        return None
    return StudyDirectory(file.parent)


def begin_study(sweep: Sweep) -> StudyDirectory:
    """Prepare the sweep's data and make the study's directory; or find the one that it was begun in before.

    Raises InputError for data that cannot be used; nothing is written then but tokenized text.
    """
    from harness.search.open_study import open_study
    from harness.work.prepare import prepare_apart

    if not has_trained(sweep):
        # Before the first worker starts: bad data is reported once, and no trial waits for another to tokenize.
        prepare_apart(sweep.base.config, common_to_trials(sweep))
    return open_study(sweep)


def common_to_trials(sweep: Sweep) -> list[str]:
    """Overrides of the data that are prepared before the first trial. What a recipe makes that is searched is none of them, where there is
    other text of its kind, to train on or to replay: teachers are asked when a trial needs it, so that all that they write is of use to
    one. How often a trial goes through the rest is not known without it, and is checked by the trial."""
    data, base = sweep.base.config.data, sweep.config.base
    searched = {name for name in made_sources(data) if any(key.startswith(f"data.sources.{name}.") for key in sweep.config.space)}
    drawn = {name: source for name, source in data.sources.items() if source.weight > 0}
    for replay in {source.replay for source in drawn.values()} | {False}:
        if all(name in searched for name, source in drawn.items() if source.replay == replay):
            return base
    limits = ["data.max_epochs=null"] if data.max_epochs is not None else []
    limits += [f"data.sources.{name}.max_epochs=null" for name, source in data.sources.items() if source.max_epochs is not None]
    return [*base, *(f"data.sources.{name}.weight=0" for name in sorted(searched)), *(limits if searched else [])]


def has_trained(sweep: Sweep) -> bool:
    """Whether a trial of the sweep's study has loaded its data already.

    Raises InputError where a model that it merged is another one by now, or what its trials steered by: further trials could not be
    compared with them.
    """
    from harness.runs.record import load_run
    from harness.work.merge import refuse_changed_models
    from harness.work.steer import refuse_changed_vector

    study = StudyDirectory(runs_root() / sweep.name)
    loaded = (run for run in study.trials() if load_run(run).result.fingerprints)
    first = next(loaded, None)
    if first is not None and sweep.base.config.model.merge.method is not None:
        # All: where models are searched, or how many of a study, each trial may have merged others.
        refuse_changed_models(first, *loaded)
    if first is not None and sweep.base.config.adapter.vector is not None:
        refuse_changed_vector(study)
    return first is not None


def launcher_of(directory: StudyDirectory) -> LauncherConfig:
    """The launcher that the study was last launched with."""
    from harness.config.validate import to_section
    from harness.runs.files import read_yaml

    return to_section(LauncherConfig, read_yaml(directory.sweep)["launcher"])


def start_missing(directory: StudyDirectory) -> LocalWorkers:
    """Start workers up to the number wanted; workers of an earlier start, perhaps detached, count. None where nothing is left to do, but
    for one that brings a page in W&B up to date."""
    from harness.launch.local import LocalWorkers
    from harness.search.status import read_status
    from harness.tracking.study_overview import is_tracked_online

    status = read_status(directory)
    page = status.is_finished and not status.workers and is_tracked_online(directory)
    return LocalWorkers(directory, 1 if page else status.missing_workers)


@dataclass(frozen=True)
class Followed:
    """The state of a study after its workers have left."""

    status: Status
    workers: LocalWorkers
    """Those that were started here."""
    signal: int | None
    """The last SIGINT or SIGTERM received."""

    def why_unfinished(self) -> list[str]:
        """Why the workers left before the study was finished, line by line; the study's name leads the first."""
        study = self.status.study
        stopped = study.directory.stop_request.exists()
        lines = [f"{'stopped' if stopped else 'not finished, its workers died'}; {self.status.standings_text()}"]
        if not stopped:
            lines += [f"  {line}" for line in self.workers.last_words()]
            lines.append(f"all that they said: {self.workers.log}")
        lines.append(f"`harness resume {study.name}` goes on with it: {study.directory.path}")
        return [line if line.startswith("  ") else f"{study.name}: {line}" for line in lines]


def follow_workers(directory: StudyDirectory, *, console: Console | None = None) -> Followed:
    """Start the workers that are missing and follow the study until all have left; on the first Ctrl-C (or SIGTERM) ask them to, on the
    second kill them.

    console: where the live view goes; stdout by default.
    """
    from harness.search.workers import living_workers
    from harness.work.live import follow

    interrupts = handled = 0
    last: int | None = None
    workers: LocalWorkers | None = None

    def interrupt(number: int, frame: object) -> None:
        # Nothing more: the interrupted code may hold any lock.
        nonlocal interrupts, last
        interrupts, last = interrupts + 1, number

    def tend() -> int:
        nonlocal handled
        assert workers is not None
        if interrupts and not handled:
            # print, not typer.echo: the live view shows what goes through sys.stderr above itself.
            print("stopping: trials save a checkpoint and leave (once more: kill them)", file=sys.stderr)
            directory.stop_request.touch()  # workers that an earlier command started see it, too
            workers.ask_to_stop()
        if interrupts > 1:
            workers.kill()
        handled = interrupts
        own = workers.tend(replace=not directory.stop_request.exists())
        return own or (len(living_workers(directory)) if interrupts < 2 else 0)

    # Before the first worker starts: there is no moment at which a signal would leave workers behind.
    with _signal_handler(interrupt):
        workers = start_missing(directory)
        status = follow(directory, tend, console=console)
    return Followed(status, workers, last)


@contextlib.contextmanager
def _signal_handler(handler: Callable[[int, object], None]) -> Iterator[None]:
    """Handle SIGINT and SIGTERM; only in the main thread, where Python allows it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
