"""What a study with search.confirm holds back of its budget, for running its best over fresh seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.config.steering_controls import has_noise
from harness.config.validate import to_plain
from harness.runs.confirmation import ENOUGH_SEEDS
from harness.runs.record import RunRecord
from harness.runs.result import FINAL_STATES
from harness.search.budget import HOUR, MARGIN, Amounts, Budget, covered, still_to_spend
from harness.search.sweep import Sweep

SHARE = 0.3
"""Of each unit of the budget."""
OPENING_SEEDS = 2
"""With which every candidate begins."""
MOST_AT_ONCE = 3
"""Candidates that a confirmation begins with."""
FEWEST_RUNS = 2 * OPENING_SEEDS
"""Of full length: with less there is nothing to compare."""


def confirms_itself(sweep: Sweep) -> bool:
    """Whether a part of the sweep's budget is for the confirmation of what it finds."""
    wanted = sweep.config.search.confirm
    return wanted if wanted is not None else sweep.config.search.name == "trunk" and why_not(sweep) is None


def why_not(sweep: Sweep) -> str | None:
    """Why the study cannot confirm its best by itself, in words; None where it can."""
    search, budget = sweep.config.search, sweep.config.budget
    if not has_noise(to_plain(sweep.base.config)):
        return "the direction of adapter.vector is the same with every seed"
    if sweep.config.objective.also:
        return "takes one objective, with constraints for the others"
    if search.name == "grid":
        return "not with search=grid, which ends with its points, whatever is left of the budget"
    if search.arms is not None:
        return f"not with search.arms={search.arms}, whose values get equally many trials of the whole budget"
    for unit, limit, one in (("trials", budget.trials, 1), ("tokens", budget.tokens, sweep.largest_trial_tokens)):
        least = (FEWEST_RUNS + 1) * one
        if limit is not None and limit < least:
            return f"budget.{unit}={limit} holds no trial beside {FEWEST_RUNS} runs of full length over fresh seeds (>= {least})"
    return None


def trials_of_search(sweep: Sweep) -> int | None:
    """How many trials come before the confirmation, where the study has one: the others are held back. None: no limit."""
    trials = sweep.config.budget.trials
    return trials - int(_whole(sweep).trials) if trials is not None and confirms_itself(sweep) else trials


def candidates_at_once(sweep: Sweep) -> int:
    """With how many candidates a confirmation begins: what is held back has to hold the first seeds of each."""
    return max(1, min([MOST_AT_ONCE, *(int(runs) // OPENING_SEEDS for runs in _runs_held_back(sweep))]))


def holds_two_races(sweep: Sweep) -> bool:
    """Whether half of what is held back is enough to compare candidates."""
    return all(runs >= 2 * FEWEST_RUNS for runs in _runs_held_back(sweep))


def _runs_held_back(sweep: Sweep) -> list[float]:
    """So many runs of full length, by each unit of the budget that counts them."""
    whole, budget, one = _whole(sweep), sweep.config.budget, max(1, sweep.largest_trial_tokens)
    return [*([whole.trials] if budget.trials is not None else []), *([whole.tokens / one] if budget.tokens is not None else [])]


def held_back(sweep: Sweep, confirmed: Sequence[RunRecord]) -> Amounts:
    """What the search may not spend while candidates are still to be confirmed. confirmed: the runs over fresh seeds so far."""
    whole, spent = _whole(sweep), spent_on(confirmed)
    return Amounts(
        trials=max(0, whole.trials - spent.trials),
        tokens=max(0, whole.tokens - spent.tokens),
        gpu_hours=max(0.0, whole.gpu_hours - spent.gpu_hours),
        wall_hours=max(0.0, whole.wall_hours - spent.wall_hours),
    )


def held_back_for_one(sweep: Sweep, budget: Budget) -> Amounts:
    """What a search that goes on after its best is confirmed may not spend: what it takes to confirm one more."""
    tokens = sweep.largest_trial_tokens
    whole, needed = _whole(sweep), budget.trial_seconds.needed(tokens)
    hours = math.inf if needed is None else ENOUGH_SEEDS * MARGIN * needed / HOUR
    return Amounts(
        trials=ENOUGH_SEEDS,
        tokens=ENOUGH_SEEDS * tokens,
        gpu_hours=min(whole.gpu_hours, hours * sweep.devices),
        wall_hours=min(whole.wall_hours, hours),
    )


def _whole(sweep: Sweep) -> Amounts:
    budget, one = sweep.config.budget, sweep.largest_trial_tokens
    trials = max(FEWEST_RUNS, math.ceil(SHARE * (budget.trials or 0)))
    tokens = max(FEWEST_RUNS * one, math.ceil(SHARE * (budget.tokens or 0)))
    if budget.trials is not None and budget.tokens is not None and one:
        # What the other unit does not pay for would be lost: the trials of a trunk search are many, and most of them short.
        trials = min(trials, math.ceil(tokens / one))
        tokens = min(tokens, trials * one)
    return Amounts(
        trials=trials,
        tokens=tokens,
        gpu_hours=SHARE * (budget.gpu_hours or 0.0),
        wall_hours=SHARE * (budget.wall_hours or 0.0),
    )


def spent_on(runs: Sequence[RunRecord]) -> Amounts:
    """What runs have cost, and what is reserved for those that have not ended."""
    trials = [run.trial for run in runs if run.trial]
    spans = [(begin, end) for trial in trials for begin, end in trial.spans]
    return Amounts(
        trials=len(runs),
        tokens=sum(
            run.result.tokens.spent + (0 if run.result.state in FINAL_STATES else still_to_spend(run.result.tokens, run.trial))
            for run in runs
        ),
        gpu_hours=sum(trial.devices * (trial.seconds + (trial.lease or 0.0)) for trial in trials) / HOUR,
        wall_hours=covered(spans) / HOUR,
    )
