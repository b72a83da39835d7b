"""harness status: trials, states, budget, best so far, workers."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli import completion
from harness.cli.arguments import AsJson, print_json
from harness.cli.ls import ls as list_all
from harness.config.terminal import say

PIPED_COLUMNS = 160
WATCH_SECONDS = 0.5
SHOWN_TRIALS = 50
"""Those under way and the latest; a thousand are for `harness compare`, and for --json."""


def status(
    study: Annotated[
        str | None,
        typer.Argument(
            help="A study, or a data set that is made: its name under runs/, or its directory; default: a list of studies.",
            autocompletion=completion.studies_and_data,
        ),
    ] = None,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep watching until no worker is left, and no job of one.")] = False,
) -> None:
    """Show a study: trials, states, budget, best so far and workers; or a data set of `harness synth`: how far it is, and what it cost."""
    from harness.runs.directory import find_study, study_called, synth_called
    from harness.search.status import read_status
    from harness.work.study_jobs import WatchedJobs, failed_ingredients

    if study is None:
        list_all("studies", as_json)
        return
    if study_called(study) is None and (data_set := synth_called(study)) is not None:
        _show_data_set(data_set, as_json=as_json, watch=watch)
        return
    directory = find_study(study)
    jobs = WatchedJobs(directory)
    if as_json:
        print_json({**read_status(directory).to_json(), **jobs.to_json(), "failed_ingredients": failed_ingredients(directory)})
        return
    from harness.config.literal_console import LiteralConsole
    from harness.work.live import follow, render

    def notes() -> list[str]:
        return [*jobs.lines(), *(f"{run}: failed: {reason}" for run, reason in failed_ingredients(directory).items())]

    console = LiteralConsole()
    if watch:
        follow(directory, lambda: len(read_status(directory).workers) + jobs.live, console=console, notes=notes)
        if console.is_terminal:
            return  # it stands there
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED_COLUMNS
    shown = read_status(directory)
    console.print(render(shown, limit=SHOWN_TRIALS, notes=notes()))
    if shown.missing_workers and not jobs.live:
        wanted = shown.study.sweep["launcher"]["workers"]
        again = f"`harness confirm {shown.study.confirms}`" if shown.study.confirms else f"`harness resume {shown.study.name}`"
        console.print(
            f"{len(shown.workers)} of {wanted} workers live: no trial is lost, and {again} starts the others",
            soft_wrap=True,
            highlight=False,
        )


def _show_data_set(path: Path, *, as_json: bool, watch: bool) -> None:
    from harness.synthesis.directory import SynthDirectory
    from harness.synthesis.status import in_words, summary
    from harness.work.study_jobs import WatchedJobs

    directory = SynthDirectory(path)
    jobs = WatchedJobs(directory)
    found, shown = summary(directory), ""
    while watch and (found["state"] == "running" or (jobs.live and not jobs.trouble)):
        line = _how_far(found)
        if line != shown:
            say(line, err=True)
        shown = line
        time.sleep(WATCH_SECONDS)
        found = summary(directory)
    if as_json:
        print_json({**found, **jobs.to_json()})
        return
    say(_how_far(found))
    for line in [*in_words(found), *jobs.lines()]:
        say(line)


def _how_far(found: dict[str, Any]) -> str:
    written, shards = found["answers"], found["shards"]
    texts = f"{written['written']:,} of {written['asked']:,} texts"
    return f"{found['synth']}: {found['state']}, {texts}, {shards['done']} of {shards['all']} shards"
