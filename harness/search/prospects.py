"""Which trials would be found to meet the constraints over fresh seeds, and what that is worth.

Before a study has a confirmed winner, what counts is that it gets one: a trial at the edge of a bound may be the best of the search, and
will hardly be confirmed. So trials are weighed as in constrained Bayesian optimisation (Gardner et al., Bayesian Optimization with
Inequality Constraints, ICML 2014): the improvement, times the chance that the constraints hold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from harness.runs.chances import Spread, with_reserve
from harness.runs.confirmation import ENOUGH_SEEDS, Candidate, Confirmation
from harness.runs.constraints import Bound, margins_of
from harness.runs.fresh_seeds import outcome, shifts_of_candidates
from harness.runs.record import StudyRecord
from harness.runs.student_t import NORMAL
from harness.search.next_candidates import metrics_over_fresh_seeds, unknown_of_shifts
from harness.search.seed_scatter import degrees_of, scatters_of
from harness.search.space import parse_space


@dataclass(frozen=True)
class Prospect:
    """A trial of full length, a candidate or not."""

    number: int
    cost: float
    """Its objective in the search, lower is better."""
    chance: float
    """That it will be found to meet the constraints, with ENOUGH_SEEDS or, if it has so many, one more."""


def prospects(study: StudyRecord) -> list[Prospect]:
    """All trials of full length that have what is constrained, each configuration once. study: with what is known of its confirmation."""
    confirmation = study.confirmation
    candidates = {candidate.number: candidate for candidate in confirmation.candidates} if confirmation else {}
    complete = [run for run in study.runs if run.state == "complete" and run.result.objective is not None and study.has_full_length(run)]
    complete = [run for run in complete if study.constraints.keys() <= run.result.metrics.keys()]
    # A candidate comes before what came to the same.
    different = {outcome(run): run for run in sorted(complete, key=lambda run: run.number not in candidates, reverse=True)}
    runs = sorted(different.values(), key=lambda run: run.number or 0)
    known = shifts_of_candidates(confirmation, study.runs) if confirmation else {}
    space, params = parse_space(study.sweep["space"]), {run.number: run.params for run in study.runs}
    expected = metrics_over_fresh_seeds(space, known, study.runs, runs)
    shifted = {number for shifts in known.values() for number in shifts}
    unknown = unknown_of_shifts(space, [params[number] for number in sorted(shifted)], [run.params for run in runs])
    scatters = scatters_of(study.constraints, confirmation, space, study.runs, runs)
    aims: dict[int, dict[str, Bound]] = {}
    found = []
    for run, metrics, open_ in zip(runs, expected, unknown.tolist(), strict=True):
        assert run.number is not None, "a trial of a study"
        assert run.result.objective is not None, "it is complete"
        candidate = candidates.get(run.number)
        begun = candidate if candidate is not None and candidate.values else None
        seeds = _seeds_to_be_judged_by(begun)
        if seeds not in aims:
            aims[seeds] = bounds_to_aim_at(study.constraints, confirmation, scatters, seeds=seeds)
        # Of the mean over these seeds: what is known of it so far, or what the search's one seed says.
        share = 1 / len(begun.values) - 1 / seeds if begun else open_ + 1 / seeds
        means = begun.metrics if begun else metrics
        chances = [_chance(bound, means.get(metric), scatters[metric] * math.sqrt(share)) for metric, bound in aims[seeds].items()]
        failed = candidate is not None and bool(candidate.failed)
        found.append(Prospect(run.number, study.objective.sign * run.result.objective, 0.0 if failed else math.prod(chances)))
    return found


def bounds_to_aim_at(
    constraints: Mapping[str, Bound], confirmation: Confirmation | None, scatters: Mapping[str, float], *, seeds: int = ENOUGH_SEEDS
) -> dict[str, Bound]:
    """The bounds that means over `seeds` fresh seeds have to meet for the chances that are asked for, by what is known or assumed."""
    return {
        metric: with_reserve(bound, Spread(scatters[metric], seeds, max(seeds - 1, degrees_of(confirmation, metric))))
        for metric, bound in constraints.items()
    }


def _seeds_to_be_judged_by(candidate: Candidate | None) -> int:
    return max(ENOUGH_SEEDS, len(candidate.values) + 1) if candidate else ENOUGH_SEEDS


def _chance(bound: Bound, mean: float | None, deviation: float) -> float:
    """That a value of this mean and standard deviation meets a bound."""
    if mean is None:
        return 0.0
    broken = [1 - (NORMAL.cdf(-by / deviation) if deviation > 0 else float(by <= 0)) for by in margins_of(bound, mean).values()]
    return max(0.0, 1 - sum(broken))
