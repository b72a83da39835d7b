"""Arguments and options that several verbs share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli import completion

OVERRIDES_HELP = "Hydra overrides: optim.lr=1e-3 schedule=wsd experiment=quickstart"
Overrides = Annotated[list[str] | None, typer.Argument(help=OVERRIDES_HELP, autocompletion=completion.overrides, show_default=False)]
SweepOverrides = Annotated[
    list[str] | None,
    typer.Argument(help=f"{OVERRIDES_HELP} budget.trials=8", autocompletion=completion.sweep_overrides, show_default=False),
]
LauncherOverrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="LAUNCHER",
        help="Overrides of the launcher: launcher=slurm launcher.time=04:00:00",
        autocompletion=completion.launcher_overrides,
        show_default=False,
    ),
]
StudyOverrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="OVERRIDES",
        help="Of a run: launcher=slurm launcher.time=04:00:00. Of a study also its budget: budget.trials=16",
        autocompletion=completion.study_overrides,
        show_default=False,
    ),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Trials at a time; default: the sweep's launcher.workers.")]
Detach = Annotated[bool, typer.Option("--detach", help="Return at once; `harness status` watches, `harness stop` stops.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="With launcher=slurm: print the batch script; submit and write nothing.")]
StudyDryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check all but the data, and start nothing; with launcher=slurm, print the batch script.")
]
RunName = Annotated[
    str, typer.Argument(help="A run: its directory, its name under runs/, or STUDY/NUMBER.", autocompletion=completion.runs)
]
Speaker = Annotated[
    str,
    typer.Argument(
        metavar="MODEL|RUN|TRIAL",
        help="A model's directory or hub name; or a run: its directory, its name under runs/, or STUDY/NUMBER.",
        autocompletion=completion.runs,
    ),
]
NewDirectory = Annotated[Path | None, typer.Option("--dir", help="Directory for the run, new or empty; default: a new one under runs/.")]
StudyName = Annotated[str, typer.Argument(help="A study: its name under runs/, or its directory.", autocompletion=completion.studies)]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on stdout.")]


def print_json(document: Any) -> None:
    typer.echo(json.dumps(document, indent=2, allow_nan=False))
