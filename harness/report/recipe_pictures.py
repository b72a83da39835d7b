"""The pictures of a recipe's README.md: the search, its parameters, the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.evaluation.kinds import main_metrics
from harness.report.axis import is_numeric
from harness.report.figure_style import BEST, FEASIBLE, INFEASIBLE, SINGLES, axis_limits
from harness.report.svg import Chart, Series, bars
from harness.report.text import digits_of, value_text
from harness.runs.bundle import Bundle
from harness.runs.metrics import Row
from harness.runs.record import StudyRecord

SLICES = 2
"""How many of the most important parameters get a picture."""


@dataclass(frozen=True)
class Trial:
    """A complete trial of full length."""

    number: int
    objective: float
    params: dict[str, Any]
    feasible: bool


def pictures(bundle: Bundle, study: StudyRecord | None, rows: Sequence[Row], *, shareable: Callable[[str, Any], Any]) -> dict[str, str]:
    """SVG by file name, as far as there are data. shareable: a parameter's value, by its key, without what is private."""
    found = {"curves.svg": _curves(bundle, rows)}
    if study is not None:
        done = [
            Trial(
                run.number or 0,
                run.result.objective,
                {key: shareable(key, value) for key, value in run.params.items()},
                study.is_feasible(run) is not False,
            )
            for run in study.runs
            if run.state == "complete" and run.result.objective is not None and study.has_full_length(run)
        ]
        found["history.svg"] = _history(bundle, study, done)
        keys = list(bundle.importances) or [key for key in bundle.space if key in bundle.params]
        found |= {f"{key}.svg": _slice(bundle, study, done, key) for key in keys[:SLICES]}
    if len(bundle.importances) > 1:
        found["importances.svg"] = bars(f"Importances for {bundle.metric}", list(bundle.importances.items()))
    return {name: picture for name, picture in found.items() if picture}


def _history(bundle: Bundle, study: StudyRecord, done: Sequence[Trial]) -> str | None:
    if len(done) < 2:
        return None
    best: list[tuple[float, float]] = []
    for trial in done:
        if trial.feasible and (not best or study.objective.better(trial.objective, best[-1][1])):
            best.append((trial.number, trial.objective))
    if best:
        best.append((done[-1].number, best[-1][1]))
    *trials, chosen = _trials(bundle, [(trial, trial.number) for trial in done])
    series = [*trials, Series("best so far", best, "steps", SINGLES[1]), chosen]
    return Chart("The search", "trial", study.objective.metric, series, y_range=_objective_limits(study, done)).render()


def _slice(bundle: Bundle, study: StudyRecord, done: Sequence[Trial], key: str) -> str | None:
    placed = [(trial, trial.params[key]) for trial in done if key in trial.params]
    if len(placed) < 2:
        return None
    domain = bundle.space.get(key, {})
    digits = digits_of(domain)
    names: list[str] = []
    if not is_numeric(domain, [x for _, x in placed]):
        names = list(dict.fromkeys(value_text(x, digits=digits) for x in [*domain.get("choices", []), *(x for _, x in placed)]))
    return Chart(
        f"{study.objective.metric} against {key}",
        key,
        study.objective.metric,
        _trials(bundle, [(trial, float(names.index(value_text(x, digits=digits)) if names else x)) for trial, x in placed]),
        x_log=bool(domain.get("log")),
        y_range=_objective_limits(study, done),
        categories=names,
    ).render()


def _trials(bundle: Bundle, placed: Sequence[tuple[Trial, float]]) -> list[Series]:
    """Trials with their places on the x axis: those outside the constraints, the others, and the recipe's own among them."""
    infeasible = [(x, trial.objective) for trial, x in placed if not trial.feasible]
    others = [(x, trial.objective) for trial, x in placed if trial.feasible]
    own = [(x, trial.objective) for trial, x in placed if trial.number == bundle.trial]
    return [
        Series("infeasible", infeasible, "diamonds", INFEASIBLE),
        Series("trials", others, "dots", FEASIBLE),
        Series("this recipe", own, "rings", BEST),
    ]


def _objective_limits(study: StudyRecord, done: Sequence[Trial]) -> tuple[float, float]:
    return axis_limits([trial.objective for trial in done], maximize=study.objective.direction == "maximize")


def _curves(bundle: Bundle, rows: Sequence[Row]) -> str | None:
    lines: list[Series] = []
    for metric in ["train/loss", *main_metrics(bundle.metrics)]:
        points = [(row["tokens"], row[metric]) for row in rows if row.get(metric) is not None and "tokens" in row]
        if len(points) > 1:
            lines.append(Series(metric, points, "line", SINGLES[len(lines) % len(SINGLES)]))
    if not lines:
        return None
    later = [y for line in lines for _, y in line.points[len(line.points) // 10 :]]
    return Chart("This run", "tokens", "nats per token", lines, y_range=axis_limits(later, spreads=10)).render()
