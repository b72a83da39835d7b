"""The arms of a study (search.arms): what the best of n trials of each is expected to be.

A maximum over trials grows with their number, and with luck. So arms are compared by the mean over all choices of n of their trials, at the
same n (after Dodge et al., arXiv 1909.03004; here without replacement).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import comb, isclose
from typing import TYPE_CHECKING, Any

from harness.report.comparison import Comparison
from harness.report.figure_style import SINGLES
from harness.report.text import metric_text, value_text, with_unit
from harness.runs.on_report import paired_lead
from harness.runs.paired import Interval
from harness.runs.record import RunRecord

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


@dataclass(frozen=True)
class Arm:
    """The trials of a study that have one of the values that are compared."""

    value: Any
    trials: int
    """That have ended, also those that failed or break a constraint."""
    best: RunRecord | None
    """None where no trial holds the constraints."""
    expected: tuple[float, ...]
    """The objective of the best of 1, 2, … of them, on average. One that is not in the running counts as the worst of all arms."""


def arms(comparison: Comparison) -> list[Arm]:
    """Of the one study that is compared, the best first: by the best of as many trials as every arm has. [] where it has no arms."""
    key = comparison.studies[0].sweep.get("search", {}).get("arms") if len(comparison.studies) == 1 else None
    objective = comparison.objective
    if key is None or objective is None:
        return []
    trials = [run for run in comparison.runs if comparison.is_trial(run) and run.state in ("complete", "pruned", "failed")]
    values = {id(run): value for run in trials if comparison.is_ranked(run) and (value := comparison.value(run)) is not None}
    if not values:
        return []
    worst = max(values.values(), key=lambda value: objective.sign * value)
    found = []
    for choice in comparison.studies[0].sweep["space"][key]["choices"]:
        own = [run for run in trials if run.params.get(key) == choice]
        ranked = [run for run in own if id(run) in values]
        costs = [objective.sign * values.get(id(run), worst) for run in own]
        expected = tuple(objective.sign * expected_least(costs, n) for n in range(1, len(own) + 1))
        found.append(Arm(choice, len(own), ranked[0] if ranked else None, expected))
    alike = min(arm.trials for arm in found)
    return sorted(found, key=lambda arm: objective.sign * arm.expected[alike - 1]) if alike else found


def expected_least(values: Sequence[float], n: int) -> float:
    """The mean of the least of n of the values, over all choices of n of them without replacement.

    1 <= n <= len(values). Of [1, 2, 3, 4] for n = 1 … 4: 2.5, 5/3, 1.25, 1.
    """
    ordered = sorted(values)
    # The value at place i is the least of the n that are chosen if the n - 1 others lie behind it.
    return sum(value * comb(len(ordered) - 1 - place, n - 1) for place, value in enumerate(ordered)) / comb(len(ordered), n)


def arms_note(comparison: Comparison, found: Sequence[Arm]) -> str:
    """How far the first arm leads, and whether seed noise could have made that."""
    alike = min(arm.trials for arm in found)
    if not alike or len(found) < 2:
        return "Not every arm has a trial that has ended."
    first, second = found[:2]
    lead = abs(first.expected[alike - 1] - second.expected[alike - 1])
    level = [value_text(arm.value) for arm in found if isclose(arm.expected[alike - 1], first.expected[alike - 1], abs_tol=1e-12)]
    if len(level) > 1:
        return f"{', '.join(level[:-1])} and {level[-1]} are level at the best of {alike}."
    said = f"{value_text(first.value)} leads {value_text(second.value)} by {metric_text(lead)} at the best of {alike}"
    if known := _lead_of_best(comparison, first, second):
        within = "within" if known.low <= 0 <= known.high else "beyond"
        return (
            f"{said}. Their best trials, {first.best and first.best.number} and {second.best and second.best.number}, differ {within} the "
            f"noise of these prompts: by {metric_text(known.mean)} (from {metric_text(known.low)} to {metric_text(known.high)}, bootstrap "
            "over prompts)."
        )
    if comparison.noise is None:
        return f"{said}; how much of that is noise is not known before the best of them are confirmed."
    verdict = "less than" if lead < comparison.noise.least_difference else "more than"
    return f"{said}, {verdict} noise could make ({metric_text(comparison.noise.least_difference)})."


def _lead_of_best(comparison: Comparison, first: Arm, second: Arm) -> Interval | None:
    """Of the shares of right texts, by prompt, where that is the objective: the best trial of one arm minus that of the other."""
    assert comparison.objective is not None, "its studies have arms"
    if first.best is None or second.best is None:
        return None
    return paired_lead(first.best.directory, second.best.directory, comparison.objective.metric, sign=-1)


def arms_figure(comparison: Comparison, found: Sequence[Arm]) -> Figure:
    """A line an arm: the expected objective of its best of n trials, over n."""
    import plotly.graph_objects as go

    assert comparison.objective is not None, "its studies have arms"
    lines = [
        go.Scatter(
            x=list(range(1, len(arm.expected) + 1)),
            y=list(arm.expected),
            name=escape(value_text(arm.value)),
            mode="lines+markers",
            line={"color": SINGLES[place % len(SINGLES)], "dash": "solid" if place < len(SINGLES) else "dot"},
        )
        for place, arm in enumerate(found)
    ]
    figure = go.Figure(lines)
    figure.update_xaxes(title="trials of an arm")
    figure.update_yaxes(title=escape(f"best {with_unit(comparison.objective.metric)}, expected"))
    return figure
