"""Why the best run is the best: what it gained, how far it is ahead, and whether the space was wide enough."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any, Literal

from harness.report.comparison import Comparison
from harness.report.text import digits_of, metric_text, value_text
from harness.runs.paired import Interval
from harness.runs.record import RunRecord

EDGE_SHARE = 0.05
"""A value in so large a share of its range, at either end, lies at the edge."""
FEWEST_CHOICES = 3
"""Of two each is an edge, which says nothing."""
WHERE = {"lower": "at the lower edge", "upper": "at the upper edge", "first": "the first", "last": "the last"}


@dataclass(frozen=True)
class Reason:
    """A figure with what it means."""

    name: str
    figure: str
    words: str


def reasons(comparison: Comparison) -> list[Reason]:
    """The best run's objective, its gains over the start and over the median trial, and its margin to the runner-up; as far as known."""
    best, objective = comparison.best, comparison.objective
    value = best_value(comparison)
    if best is None or objective is None or value is None:
        return []
    found = [_objective(comparison, best, value)]
    start = next((row[objective.metric] for row in best.rows if row.get("step") == 0 and row.get(objective.metric) is not None), None)
    if start is not None:
        share = f", {abs(start - value) / abs(start):.0%} of it" if start else ""
        found.append(_gain(comparison, "Gain over the start", start, value, f"{metric_text(start)} at step 0{share}"))
    others = [known for run in _peers(comparison) if (known := comparison.value(run)) is not None]
    if len(others) > 2:
        median = statistics.median(others)
        found.append(_gain(comparison, "Gain over the median", median, value, f"{metric_text(median)} of {len(others)} complete runs"))
    return [*found, *_margin(comparison, best)]


def best_value(comparison: Comparison) -> float | None:
    """The best run's objective; of a confirmed winner, the mean over seeds."""
    over_seeds = comparison.winner.interval if comparison.winner else None
    if over_seeds is not None:
        return over_seeds.mean
    return comparison.value(comparison.best) if comparison.best else None


def _objective(comparison: Comparison, best: RunRecord, value: float) -> Reason:
    assert comparison.objective is not None, "there is a best"
    over_seeds = comparison.winner.interval if comparison.winner else None
    if over_seeds is not None and comparison.winner is not None:
        seeds = f"± {over_seeds.half_width:.2g}, over {comparison.winner.behind_the_mean}"
        words = f"{seeds}; {metric_text(comparison.value(best))} in the search"
        return Reason(f"{comparison.objective.metric}, confirmed", metric_text(value), words)
    return Reason(comparison.objective.metric, metric_text(value), "one seed, not confirmed" if comparison.studies else "")


def _gain(comparison: Comparison, name: str, before: float, value: float, words: str) -> Reason:
    assert comparison.objective is not None, "there is a best"
    gain = comparison.objective.sign * (before - value)
    return Reason(name, metric_text(gain) if gain >= 0 else f"−{metric_text(-gain)}", words)


def _peers(comparison: Comparison) -> list[RunRecord]:
    """The runs of full length that compete with the best, by rank: those that break a constraint may be better, and do not."""
    return [run for run in comparison.runs if comparison.is_ranked(run) and comparison.has_full_length(run)]


def runner_up(comparison: Comparison) -> RunRecord | None:
    """The next best candidate of the confirmation that has a winner; else the next best run that is ranked and was no candidate."""
    confirmed = comparison.confirmed
    if confirmed is not None and comparison.winner is not None and confirmed.confirmation is not None:
        second = next(iter(confirmed.confirmation.ranked[1:]), None)
        if second is not None:
            return next((run for run in comparison.runs if comparison.is_trial(run) and run.number == second.number), None)
    others = [run for run in _peers(comparison) if run is not comparison.best]
    if comparison.winner is not None:
        others = [run for run in others if comparison.candidate(run) is None]  # a candidate that broke a constraint over seeds is out
    return next(iter(others), None)


def _margin(comparison: Comparison, best: RunRecord) -> list[Reason]:
    second = runner_up(comparison)
    if second is None or comparison.objective is None:
        return []
    name, sign = "Ahead of the runner-up", comparison.objective.sign
    paired = _paired(comparison, second)
    if paired is not None:
        low, high = sorted((sign * paired.low, sign * paired.high))
        beyond = "within seed noise" if low <= 0 <= high else "beyond seed noise"
        return [Reason(name, metric_text(sign * paired.mean), f"{second.name}, {beyond}: from {metric_text(low)} to {metric_text(high)}")]
    value, other = comparison.value(best), comparison.value(second)
    if value is None or other is None:
        return []
    margin = sign * (other - value)
    where = " in the search" if comparison.winner else ""
    return [Reason(name, metric_text(margin), f"{second.name}{where}; {_against_noise(comparison, margin)}")]


def _paired(comparison: Comparison, second: RunRecord) -> Interval | None:
    """The runner-up's objective less the winner's, paired by seed; None where the winner is not confirmed."""
    rival = comparison.candidate(second)
    found = comparison.confirmed.confirmation if comparison.confirmed else None
    return found.difference(rival, comparison.winner) if found and rival and comparison.winner else None


def _against_noise(comparison: Comparison, margin: float) -> str:
    if comparison.noise is None:
        return "seed noise is not known"
    least = comparison.noise.least_difference
    if margin < least:
        return f"within seed noise: less than {metric_text(least)}"
    return f"{margin / least:.1f} times what seeds alone may do" if least else "seeds change nothing"


def edges(comparison: Comparison) -> dict[str, str]:
    """The parameters whose best value lies at an end of its range, in words: {"optim.lr": "at the upper edge of 1e-04 … 3e-02"}."""
    if comparison.best is None:
        return {}
    params = comparison.params(comparison.best)
    found = {key: edge(comparison.space[key], value) for key, value in params.items() if key in comparison.space}
    return {key: f"{WHERE[end]} of {_range_text(comparison.space[key])}" for key, end in found.items() if end}


def edge(domain: dict[str, Any], value: Any) -> Literal["lower", "upper", "first", "last"] | None:
    """At which end of its range a value lies, or of several choices that are numbers or in an order; None where at neither."""
    choices = domain.get("choices", [])
    are_numbers = all(map(_is_number, [*choices, value]))
    if choices and len(choices) < FEWEST_CHOICES:
        return None
    if domain.get("ordered") and not (are_numbers and choices == sorted(choices)):
        return "first" if value == choices[0] else "last" if value == choices[-1] else None
    if not are_numbers:
        return None
    if choices:
        return "lower" if value <= min(choices) else "upper" if value >= max(choices) else None
    if domain["low"] == domain["high"]:
        return None
    low, high, at = (math.log(number) if domain.get("log") else number for number in (domain["low"], domain["high"], value))
    if at <= low + EDGE_SHARE * (high - low):
        return "lower"
    return "upper" if at >= high - EDGE_SHARE * (high - low) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _range_text(domain: dict[str, Any]) -> str:
    digits, log = digits_of(domain), bool(domain.get("log"))
    if "choices" in domain:
        choices = domain["choices"] if domain.get("ordered") else sorted(domain["choices"])
        return ", ".join(value_text(choice, digits=digits) for choice in choices)
    return " … ".join(value_text(domain[end], log=log, digits=digits) for end in ("low", "high"))
