"""The figures of a page, in order, each with a note on how to read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report import curves, figures
from harness.report.arms import arms, arms_figure, arms_note
from harness.report.comparison import Comparison
from harness.report.figure_style import axis_limits, is_maximized
from harness.report.history import complete_trials, histories
from harness.report.importances import NONE_FOUND
from harness.report.notes import sharing_note
from harness.report.text import bound_text
from harness.report.trunk_tree import drawn_rows, trunk_tree

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Panel:
    section: str
    title: str
    note: str
    views: dict[str, Figure]
    """Figures by the name of their button; {} if there is nothing to show yet."""
    width: str = "half"
    """half, third or full: of the page."""


def panels(comparison: Comparison) -> list[Panel]:
    """The figures for which there are data, and a note where one would be expected."""
    return [*_search(comparison), *_trunks(comparison), *_parameters(comparison), *_training(comparison)]


def _search(comparison: Comparison) -> Iterator[Panel]:
    if views := histories(comparison):
        yield Panel("Search", "Optimisation history", _history_note(comparison), views)
    elif comparison.studies:
        yield Panel("Search", "Optimisation history", "Nothing to draw yet: no trial is complete.", {}, "full")
    if found := arms(comparison):
        yield Panel("Search", "Arms", f"Expected best of n trials. {arms_note(comparison, found)}", {"": arms_figure(comparison, found)})
    yield from _tradeoffs(comparison)
    if figure := figures.parallel(comparison):
        note = "Drag along an axis to keep only the runs that pass there, in every picture; click the axis to let go. — means not active."
        if any(comparison.feasible(run) is False for run, _ in figures.finished(comparison)):
            note += " Infeasible runs are grey."
        yield Panel("Search", "Parallel coordinates", note, {"": figure}, "full")


def _history_note(comparison: Comparison) -> str:
    notes = ["The line is the best so far among feasible trials." if comparison.constraints else "The line is the best so far."]
    if any(not comparison.has_full_length(run) for run, _ in complete_trials(comparison)):
        notes.append("Open circles are shorter runs: their objectives do not compare with those of full length.")
    if any(run.state in ("pruned", "failed") for run in comparison.runs):
        notes.append("Pruned trials are at their last value, failed ones at the edge.")
    values = [value for _, value in complete_trials(comparison)]
    low, high = axis_limits(values, maximize=is_maximized(comparison))
    if beyond := sum(not low <= value <= high for value in values):
        notes.append(f"{beyond} far off, beyond the axis: a double click shows all.")
    return " ".join(notes)


def _trunks(comparison: Comparison) -> Iterator[Panel]:
    if figure := trunk_tree(comparison):
        rows = len(drawn_rows(comparison))
        sharing = sum(1 for run in comparison.runs if run.result.tokens.shared)
        some = f" The {rows} runs of the best branches." if sharing > rows else ""
        yield Panel("Trunks", "What runs had in common", f"{sharing_note(comparison)}{some}", {"": figure}, "full tree")


def _tradeoffs(comparison: Comparison) -> Iterator[Panel]:
    if comparison.objective is None:
        return
    own = comparison.objective.metric.rpartition("/")[0]
    # What falls in every run is what they learn.
    lost = {metric for run in comparison.runs for metric, value in run.result.metrics.items() if value > 0}
    forgetting = sorted(metric for metric in lost if metric.endswith("/forgetting") and not metric.startswith(f"{own}/"))
    others = [metric for metric in comparison.trade_offs if not comparison.is_objective(metric)]
    for metric in dict.fromkeys([*others, *forgetting]):
        if figure := figures.tradeoff(comparison, metric):
            bound = comparison.constraints.get(metric)
            note = f"Constraint: {bound_text(bound)}. " if bound else ""
            yield Panel(
                "Search", f"Objective against {metric}", f"{note}The dotted line joins the runs that no other beats in both.", {"": figure}
            )


def _parameters(comparison: Comparison) -> Iterator[Panel]:
    if figure := figures.importances(comparison):
        yield Panel("Parameters", "Importances", f"{comparison.importances.note}.", {"": figure}, "third")
    elif len(comparison.studies) == 1:
        yield Panel("Parameters", "Importances", f"{NONE_FOUND.capitalize()}.", {}, "third")
    for key in comparison.by_importance:
        if figure := figures.slice_of(comparison, key):
            known = key in comparison.importances.shares
            note = f"Importance: {comparison.importances.text(key)}." if known else "The objective against it."
            yield Panel("Parameters", key, note, {"": figure}, "third")


def _training(comparison: Comparison) -> Iterator[Panel]:
    shown = len(curves.drawn_runs(comparison))
    note = f"The best {shown} of {len(comparison.runs)} runs. " if len(comparison.runs) > shown >= curves.LIMIT else ""
    if any(comparison.feasible(run) is False for run in curves.drawn_runs(comparison)):
        note += "Infeasible runs are grey and dotted. "
    objective = [comparison.objective.metric] if comparison.objective else comparison.metrics[:3]
    for metric in dict.fromkeys([*objective, "train/loss", *comparison.constraints]):
        if figure := curves.curve(comparison, metric):
            yield Panel("Training", metric, f"{note}Over tokens trained.", {"": figure})
    if figure := curves.rates(comparison):
        yield Panel("Training", "Learning-rate schedules", f"{note}As planned, over tokens trained.", {"": figure})
