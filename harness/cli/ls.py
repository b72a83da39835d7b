"""harness ls: what there is to look at, to go on with, and to choose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import completion
from harness.cli.arguments import AsJson, print_json

if TYPE_CHECKING:
    from harness.report.fitted_table import Column

BY_DEFAULT = ("studies", "runs", "experiments", "sweeps", "synth", "recipes")


def ls(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="WHAT",
            help="studies, runs, experiments, sweeps, synth, recipes or choices (of every group); default: all but the choices.",
            autocompletion=completion.sections,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List what there is: studies and runs under runs/, and the experiments, sweeps, recipes for data (synth), recipes of
    runs and choices that can be named."""
    from harness.config.errors import unknown
    from harness.work.listing import SECTIONS, listing

    if what is not None and what not in SECTIONS:
        raise unknown("list", what, SECTIONS)
    found = listing((what,) if what else SECTIONS if as_json else BY_DEFAULT)
    if as_json:
        print_json(found)
        return
    from rich.text import Text

    from harness.config.literal_console import LiteralConsole
    from harness.report.fitted_table import FittedTable, show

    console = LiteralConsole(highlight=False)
    for section, entries in found.items():
        console.print(Text(section, style="bold"))
        if not entries:
            console.print(Text(f"  none; {HOW_TO_MAKE[section]}", style="dim"), soft_wrap=True)
        elif section == "choices":
            for group, names in entries.items():
                console.print(Text(f"  {group}={'|'.join(names)}"), soft_wrap=True)
        elif section in ("experiments", "sweeps", "synth"):
            width = max(len(entry["name"]) for entry in entries)
            for entry in entries:
                own = "" if entry["shipped"] else f"  ({entry['path']})"
                line = Text(f"  {entry['name']:{width}}  {entry['about']}{own}")
                console.print(line, no_wrap=True, overflow="ellipsis" if console.is_terminal else "ignore", crop=console.is_terminal)
        else:
            show(FittedTable(list(_columns(section, entries))), console)


HOW_TO_MAKE = {
    "studies": "harness sweep NAME begins one",
    "runs": "harness train experiment=NAME begins one",
    "experiments": "harness init experiment NAME copies one",
    "sweeps": "harness init sweep NAME copies one",
    "synth": "harness init synth NAME copies one",
    "recipes": "harness best STUDY --export NAME writes one",
    "choices": "conf/GROUP/NAME.yaml makes one",
}


def _columns(section: str, entries: list[dict[str, Any]]) -> Iterator[Column]:
    from rich.text import Text

    from harness.report.fitted_table import Column
    from harness.report.table import STATE_STYLES
    from harness.report.text import count_text, duration_text, metric_text

    def column(name: str, texts: list[str], *, expendable: float = 0.0) -> Column:
        return Column(name, [Text(text) for text in texts], expendable=expendable, is_text=True)

    yield column("name", [f"  {entry['name']}" for entry in entries])
    match section:
        case "studies":
            yield column("trials", [_counts(entry.get("trials", {})) for entry in entries])
            yield column("metric", [entry.get("metric", "") for entry in entries], expendable=2)
            yield column("best", ["" if entry.get("best") is None else f"trial {entry['best']}" for entry in entries], expendable=1)
            yield column("objective", [metric_text(entry["objective"]) if entry.get("objective") is not None else "" for entry in entries])
        case "runs":
            states = [entry.get("state", "") for entry in entries]
            yield Column("state", [Text(state, style=STATE_STYLES.get(state, "")) for state in states], is_text=True)
            yield column("tokens", [count_text(entry.get("tokens", 0)) for entry in entries], expendable=2)
            yield column("time", [duration_text(entry.get("seconds", 0.0)) for entry in entries], expendable=3)
            yield column("metrics", [_metrics(entry.get("metrics", {})) for entry in entries], expendable=1)
        case "recipes":
            yield column("metric", [entry.get("metric") or "" for entry in entries], expendable=1)
            yield column("objective", [metric_text(entry["objective"]) if entry.get("objective") is not None else "" for entry in entries])
            yield column("exported", [entry.get("exported", "") for entry in entries], expendable=2)
    if any("problem" in entry for entry in entries):
        yield column("problem", [entry.get("problem", "") for entry in entries])


def _counts(states: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in states.items()) or "none yet"


def _metrics(metrics: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
