"""harness compare: runs side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import completion
from harness.cli.arguments import AsJson, print_json
from harness.config.errors import InputError
from harness.runs.directory import find_run, find_study, is_study, runs_root
from harness.runs.record import RunRecord, StudyRecord, load_run, load_study


def compare(
    names: Annotated[
        list[str],
        typer.Argument(metavar="STUDY|RUN...", help="Studies, single runs, trials (STUDY/NUMBER).", autocompletion=completion.runs),
    ],
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Write a self-contained page: history, importances, curves, trade-offs.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write all runs and metrics as CSV.")] = None,
    limit: Annotated[int, typer.Option(help="Rows of the table; 0 shows all.")] = 20,
) -> None:
    """Compare studies and runs: a table with parameter importances."""
    from harness.report import comparison as report, document
    from harness.runs.files import write_text

    studies, runs = _read(names)
    compared = report.compare(studies, runs)
    for option, path in (("--csv", csv), ("--html", html)):
        if path is not None and not path.parent.is_dir():
            raise InputError(f"{option}={path}: no such directory {path.parent}")
    if csv is not None:
        write_text(csv, document.to_csv(compared))
    if html is not None:
        from harness.report.page import write_page

        write_page(compared, html)
    if as_json:
        print_json(document.to_json(compared))
        return
    from rich.console import Console

    from harness.report.table import render, render_importances, show

    console = Console()
    show(render(compared, limit=limit or None), console)
    if len(compared.runs) > 3 and studies:
        show(render_importances(compared), console)
    for path in (csv, html):
        if path is not None:
            console.print(f"wrote {path}", highlight=False, soft_wrap=True)


def _read(names: list[str]) -> tuple[list[StudyRecord], list[RunRecord]]:
    """The studies (all of their trials, or those that were named) and the single runs."""
    studies: dict[Path, StudyRecord] = {}
    runs: list[RunRecord] = []
    for name in names:
        if any(is_study(path) for path in (runs_root() / name, Path(name))):
            whole = load_study(find_study(name))
            studies[whole.directory.path.resolve()] = whole
            continue
        run = find_run(name)
        if run.study is None:
            runs.append(load_run(run))
            continue
        # A trial is judged by its study's objective and constraints.
        record = studies.setdefault(run.study.path.resolve(), replace(load_study(run.study), runs=[]))
        if all(trial.directory.path.resolve() != run.path.resolve() for trial in record.runs):
            record.runs.append(load_run(run, study=run.study.name))
    return list(studies.values()), runs
