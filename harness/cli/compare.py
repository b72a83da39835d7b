"""harness compare: runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import completion
from harness.cli.announce import announce
from harness.cli.arguments import AsJson, print_json
from harness.config.writable import check_output

if TYPE_CHECKING:
    from harness.report.comparison import Comparison

HELP = "Studies, single runs, trials (STUDY/NUMBER), and places in W&B (wandb:ENTITY/PROJECT or wandb:ENTITY/PROJECT/GROUP)."


def compare(
    names: Annotated[list[str], typer.Argument(metavar="STUDY|RUN|wandb:PATH", help=HELP, autocompletion=completion.runs)],
    as_json: AsJson = False,
    html: Annotated[Path | None, typer.Option(help="Write a self-contained page: history, importances, curves, trade-offs.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write all runs and metrics as CSV.")] = None,
    limit: Annotated[int, typer.Option(help="Rows of the table; 0 shows all.")] = 20,
    show_all: Annotated[bool, typer.Option("--all", help="Show parameters that are the same in all runs, too.")] = False,
    objective: Annotated[str | None, typer.Option(metavar="METRIC", help="Rank by this metric, instead of the first study's.")] = None,
    maximize: Annotated[bool, typer.Option("--maximize", help="More of --objective is better.")] = False,
    tag: Annotated[list[str] | None, typer.Option(help="Of a place in W&B, the runs with this tag; may be repeated.")] = None,
    filters: Annotated[str | None, typer.Option("--filter", metavar="JSON", help="Of a place in W&B, the runs that its API finds.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Keep the table up to date while the study runs.")] = False,
    workspace: Annotated[bool, typer.Option("--workspace", help="Save a W&B view: curves, parallel coordinates, importance.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Write a W&B report about these runs.")] = False,
) -> None:
    """Compare studies and runs, from their files or from W&B: a table, parameter importances, a page, W&B views."""
    from harness.cli.compare_input import asked_objective, read_compared
    from harness.report.comparison import compare as put_side_by_side
    from harness.report.json_csv import to_csv, to_json

    for option, path in (("--csv", csv), ("--html", html)):
        if path is not None:
            check_output(option, path)

    announce(f"reading {', '.join(names)}")

    def look() -> Comparison:
        compared = read_compared(names, tags=tag or [], filters=filters)
        return put_side_by_side(
            compared.studies, compared.runs, objective=asked_objective(objective, maximize, compared), show_all=show_all
        )

    from harness.config.literal_console import LiteralConsole

    console = LiteralConsole(stderr=as_json)
    if follow:
        from harness.cli.compare_live import watch_runs
        from harness.tracking.remote_path import is_remote

        compared = watch_runs(look, console, limit=limit or None, remote=any(map(is_remote, names)))
    else:
        compared = look()
    written = []
    if csv is not None:
        from harness.runs.files import write_output

        write_output(csv, to_csv(compared))
        written.append(str(csv))
    if html is not None:
        from harness.report.page import write_page

        write_page(compared, html)
        written.append(str(html))
    if workspace or report:
        from harness.cli.wandb_views import save_views

        written += save_views(compared, names, workspace=workspace, report=report)
    if as_json:
        print_json(to_json(compared))
        return
    from harness.report.arms import arms
    from harness.report.fitted_table import show
    from harness.report.table import render, render_arms, render_importances
    from harness.report.text import metric_text
    from harness.runs.on_report import on_report, report_lines

    # On a terminal, what was followed is still there.
    if not (follow and console.is_terminal):
        show(render(compared, limit=limit or None), console)
    if len(compared.runs) > 3 and compared.studies:
        if found := arms(compared):
            show(render_arms(compared, found), console)
        show(render_importances(compared), console)
    found_on_report = on_report(compared.studies[0]) if len(compared.studies) == 1 else None
    for line in report_lines(found_on_report, metric_text) if found_on_report else ():
        console.print(line, highlight=False, soft_wrap=True)
    for place in written:
        console.print(f"wrote {place}", highlight=False, soft_wrap=True)
