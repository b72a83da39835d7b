"""harness train and harness resume: one run in this process."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion
from harness.cli.announce import announce
from harness.cli.arguments import Detach, DryRun, NewDirectory, Overrides, StudyDryRun, StudyOverrides, Workers
from harness.config.terminal import say
from harness.evaluation.kinds import metric_of, shown_name
from harness.runs.directory import StudyDirectory, runs_root
from harness.runs.exit_codes import DONE, FAILED, STOPPED

NOTICED_SHARE = 0.05
"""Of a run's time: an evaluation set that takes less is not named."""

if TYPE_CHECKING:
    from harness.config.launcher_schema import LauncherConfig
    from harness.config.load import Loaded
    from harness.config.schema import Config
    from harness.runs.directory import RunDirectory
    from harness.runs.result import Result
    from harness.work.start_run import Attempted


def train(
    overrides: Overrides = None,
    config: Annotated[
        Path | None, typer.Option(help="A resolved config.yaml, as every run directory holds one; only values can be overridden.")
    ] = None,
    directory: NewDirectory = None,
    dry_run: DryRun = False,
) -> None:
    """Train one run; prints its directory. With launcher=slurm: submit a job that does, and return."""
    announce("reading the configuration; then the libraries, the data and the model")
    from harness.config.launcher import load_launcher, split_launcher
    from harness.config.load import load, load_given_file

    own, overrides = split_launcher(overrides or [])
    launcher = load_launcher(own)
    label: str | None
    if config is not None:
        resolved, label = load_given_file(config, overrides), config.resolve().parent.name
    else:
        loaded = load(overrides)
        resolved, label = loaded.config, loaded.composed.groups.get("experiment")
        _print_transfer_notes(loaded)
    _report(launch_or_start(resolved, launcher, label=label, directory=directory, dry_run=dry_run))


def launch_or_start(
    config: Config, launcher: LauncherConfig, *, label: str | None, directory: Path | None, dry_run: bool
) -> Attempted | None:
    """Run it in this process; with launcher=slurm submit a job, or print its script. None if it does not run here, and on ranks other than
    0."""
    if launcher.name != "slurm":
        from harness.work.start_run import start_run

        _refuse_dry_run(dry_run)
        return start_run(config, label=label, directory=directory)
    from harness.cli.submitted import report, submitting
    from harness.runs.directory import RunDirectory, runs_root
    from harness.work.cluster import launch_run, run_script

    if dry_run:
        shown = directory or runs_root() / "TIME-NAME"
        say(run_script(config, launcher, RunDirectory(shown)), nl=False)
        return None
    with submitting():
        report(launch_run(config, launcher, label=label, directory=directory))
    return None


def _print_transfer_notes(loaded: Loaded) -> None:
    """Print what may not transfer when a recipe is used in another setting."""
    from harness.work.start_run import world_of

    experiment = loaded.composed.groups.get("experiment") or ""
    if not experiment.startswith("best/") or not world_of(loaded.config).is_main:
        return
    from harness.runs.bundle import named_bundle
    from harness.search.transfer import transfer_notes

    bundle = named_bundle(experiment)
    if bundle is not None:
        for note in transfer_notes(experiment.removeprefix("best/"), bundle, loaded):
            say(note, err=True)


def resume(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|STUDY", help="A run or a study: its name under runs/, or its directory.", autocompletion=completion.runs
        ),
    ],
    overrides: StudyOverrides = None,
    workers: Workers = None,
    detach: Detach = False,
    dry_run: StudyDryRun = False,
) -> None:
    """Go on with a run from its last checkpoint, or with a study as it was launched.

    A study may get another budget and launcher: harness resume cpt budget.trials=16. With launcher=slurm a run goes on in a job.
    """
    from harness.config.errors import InputError
    from harness.config.launcher import launcher_alone
    from harness.runs.directory import find_run_or_study
    from harness.runs.result import ENDED_WELL, read_result
    from harness.work.start_run import continue_run

    found = find_run_or_study(run)
    announce(f"going on with {found.path}")
    if isinstance(found, StudyDirectory):
        from harness.cli.sweep import launch_or_follow
        from harness.work.start_study import resumed

        launch_or_follow(resumed(found, overrides or [], workers=workers), detach=detach, dry_run=dry_run)
    if workers is not None or detach:
        raise InputError(f"--workers, --detach: of a study; {found.path} is a single run")
    launcher = launcher_alone(overrides or [])
    if launcher.name == "slurm":
        _resume_in_a_job(found, launcher, dry_run=dry_run)
        return
    _refuse_dry_run(dry_run)
    before = read_result(found).state
    attempted = continue_run(found)
    if attempted and before in ENDED_WELL:
        say(f"{found.path} is {before}", err=True)
    _report(attempted)


def attempt(run: Annotated[Path, typer.Argument(help="The run's directory.")]) -> None:
    """One attempt on a single run, for the jobs of launchers: exit code 75 asks for another one."""
    from harness.runs.directory import RunDirectory
    from harness.runs.result import read_result
    from harness.work.start_run import continue_run

    attempted = continue_run(RunDirectory(run), show_progress=False)
    if attempted is None:  # a rank other than 0
        return
    result = read_result(attempted.run)
    say(f"step {result.step}: {result.state}{f' ({result.reason})' if result.reason else ''}")
    raise typer.Exit(attempted.code)


def _resume_in_a_job(run: RunDirectory, launcher: LauncherConfig, *, dry_run: bool) -> None:
    from harness.cli.submitted import report, submitting
    from harness.config.errors import InputError
    from harness.runs.result import ENDED_WELL, read_result
    from harness.runs.run_config import load_run_config
    from harness.work.cluster import run_script, submit_run
    from harness.work.start_run import refuse_trial

    is_complete = read_result(run).state == "complete"
    if not is_complete:
        refuse_trial(run)
    config = load_run_config(run)
    if dry_run:
        say(run_script(config, launcher, run), nl=False)
    elif (state := read_result(run).state) in ENDED_WELL:
        say(f"{run.path} is {state}", err=True)
        say(run.path)
    elif run.is_attempted():
        raise InputError(f"{run.path}: another process works on this run")
    else:
        with submitting():
            report(submit_run(run, config, launcher))


def _refuse_dry_run(dry_run: bool) -> None:
    from harness.config.errors import InputError

    if dry_run:
        raise InputError("--dry-run: shows a batch script, so it needs launcher=slurm; `harness show` prints the configuration of a run")


def _end_lines(run: RunDirectory, result: Result) -> Iterator[str]:
    """What a run took, where it can be looked at, and what to do next."""
    from harness.report.text import count_text, duration_text
    from harness.tracking.wandb_directory import read_opened

    # As the last row has it: the seconds are of the whole process, imports and evaluations too.
    rate = result.metrics.get("tokens_per_second")
    speed = f", {count_text(rate)} tokens/s" if rate else ""
    evaluated = f", {duration_text(result.evaluation_seconds)} of them evaluating" if result.evaluation_seconds else ""
    long = {key: seconds / result.seconds for key, seconds in result.set_seconds.items() if seconds >= NOTICED_SHARE * result.seconds}
    if long:
        evaluated += f" ({', '.join(f'{key}: {share:.0%} of the run' for key, share in long.items())})"
    yield f"{count_text(result.tokens.reached)} tokens in {duration_text(result.seconds)}{evaluated}{speed}"
    opened = read_opened(run)
    if opened is not None and opened.url:
        yield f"W&B: {opened.url}"
    word = shlex.quote(str(run.name if run.path.parent.resolve() == runs_root().resolve() else run.path))
    if result.tokens.trained or result.tokens.shared:
        yield f"next: harness export {word} DIRECTORY, or harness compare {word} OTHER"


def _report(attempted: Attempted | None) -> None:
    """Print the result of an attempt: the run's directory on stdout, the rest on stderr. Nothing on ranks other than 0."""
    from harness.runs.result import read_result

    if attempted is None:
        return
    run, code, result = attempted.run, attempted.code, read_result(attempted.run)
    if code == STOPPED:
        say(f"stopped at step {result.step}; `harness resume {run.path}` goes on", err=True)
    elif code == FAILED and result.state == "waiting":
        say(f"when the disk is well again, `harness resume {run.path}` goes on", err=True)
    elif code == DONE:
        if result.reason:
            say(f"{result.state}: {result.reason}", err=True)
        for name, value in result.metrics.items():
            if metric_of(name):
                say(f"{shown_name(name, value):40} {value:.4f}", err=True)
        for line in _end_lines(run, result):
            say(line, err=True)
    say(run.path)
    raise typer.Exit(FAILED if code == STOPPED else code)
