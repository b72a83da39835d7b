"""What a confirmation found: a study's best trials, run again over fresh seeds, compared.

All begin with the same seeds. Where the study gave seeds by itself (search.confirm), some went on over more of them than others.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from harness.config.steering_controls import redraws_pairs
from harness.runs import additive
from harness.runs.chances import Chance, Spread, chance_of_holding, spread_over_seeds, with_reserve
from harness.runs.confirmation_plan import ConfirmationPlan, confirmation_directory, launch_of, read_plan
from harness.runs.constraints import Bound, holds
from harness.runs.directory import StudyDirectory
from harness.runs.paired import CONFIDENCE, Interval, Noise, bootstrap_interval, mean_interval, probabilities_of_lowest, seed_noise
from harness.runs.result import FINAL_STATES, Result, read_result

ENOUGH_SEEDS = 3
"""A winner has run over so many, unless all candidates have fewer."""


@dataclass(frozen=True)
class Candidate:
    """A trial of the study, and the results of its runs over the seeds."""

    number: int
    results: dict[int, Result]
    """By seed, of all seeds that are planned for it."""
    metric: str
    """The study's objective."""
    constraints: dict[str, dict[str, float]]
    spreads: dict[str, Spread] = field(default_factory=dict)
    """By constrained metric, what seeds do to a candidate; of no metric before one is complete with every seed."""
    of_draws: bool = False
    """Whether each seed is a draw of the same pairs (adapter.pairs), and no new data."""

    @property
    def complete(self) -> dict[int, Result]:
        return {seed: result for seed, result in self.results.items() if result.state == "complete" and self.metric in result.metrics}

    @property
    def values(self) -> dict[int, float]:
        """The objective by seed, of the complete runs."""
        return {seed: result.metrics[self.metric] for seed, result in self.complete.items()}

    @property
    def failed(self) -> dict[int, str | None]:
        """By seed, why its run did not complete."""
        return {seed: result.reason for seed, result in self.results.items() if result.state in ("failed", "pruned")}

    @property
    def is_whole(self) -> bool:
        """Whether it is complete with every seed that is planned for it."""
        return len(self.values) == len(self.results)

    @property
    def behind_the_mean(self) -> str:
        """Of what its interval is: 3 seeds, or 3 draws of the pairs."""
        return f"{len(self.values)} {'draws of the pairs' if self.of_draws else 'seeds'}"

    @cached_property
    def interval(self) -> Interval | None:
        """Mean and interval over the seeds; None before it is complete with two."""
        return mean_interval(list(self.values.values()), of_draws=self.of_draws) if len(self.values) > 1 else None

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Means over the seeds, of what every complete run logged."""
        logged = [result.metrics for result in self.complete.values()]
        return {
            name: statistics.fmean(row[name] for row in logged)
            for name in (logged[0] if logged else ())
            if all(name in row for row in logged)
        }

    @cached_property
    def chances(self) -> dict[str, Chance]:
        """By constrained metric, that a fresh seed meets the bound; of what is known."""
        return {
            metric: chance_of_holding(self.constraints[metric], self.metrics[metric], replace(spread, seeds=len(self.complete)))
            for metric, spread in self.spreads.items()
            if metric in self.metrics
        }

    @property
    def feasible(self) -> bool | None:
        """Whether the means over the seeds meet the constraints, with the chance that is asked for; None where nothing is constrained or
        known."""
        if not self.constraints or not self.complete:
            return None
        return all(self.meets(metric) for metric in self.constraints)

    def meets(self, metric: str) -> bool:
        """Whether the mean of a constrained metric meets its bound, with the chance that is asked for; False where it is not known."""
        bound = self.constraints[metric]
        if metric not in self.metrics:
            return False
        if "chance" in bound and metric in self.chances:
            return self.chances[metric].mean >= bound["chance"]
        return holds(bound, self.metrics[metric])


@dataclass(frozen=True)
class PromptDifference:
    """By how much more of the texts of one candidate are right."""

    interval: Interval
    """A bootstrap over prompts."""
    prompts: int


@dataclass(frozen=True)
class Confirmation:
    """A study's candidates, ranked. Of several objectives the first one counts."""

    directory: StudyDirectory
    plan: ConfirmationPlan
    direction: str
    constraints: dict[str, dict[str, float]] = field(default_factory=dict)
    """The study's."""
    candidates: list[Candidate] = field(default_factory=list)
    """As planned: the best of the search first."""
    of_draws: bool = False
    """As of its candidates."""

    @property
    def seeds(self) -> list[int]:
        return self.plan.seeds

    @property
    def ended(self) -> int:
        """How many of the planned runs have ended."""
        return len(self.plan.runs) - len(self.to_go)

    @cached_property
    def to_go(self) -> list[dict[str, int]]:
        """The planned runs that have not ended."""
        ended = {
            (candidate.number, seed)
            for candidate in self.candidates
            for seed, result in candidate.results.items()
            if result.state in FINAL_STATES
        }
        return [run for run in self.plan.runs if (run["candidate"], run["seed"]) not in ended]

    @property
    def is_complete(self) -> bool:
        return not self.to_go

    @cached_property
    def so_far(self) -> Confirmation:
        """As if only the runs that have ended had been planned."""
        candidates = [
            replace(candidate, results={seed: result for seed, result in candidate.results.items() if result.state in FINAL_STATES})
            for candidate in self.candidates
        ]
        plan = replace(self.plan, runs=[run for run in self.plan.runs if run not in self.to_go], charged=[])
        return replace(
            self, plan=plan, candidates=_with_spreads([candidate for candidate in candidates if candidate.results], self.constraints)
        )

    @property
    def _sign(self) -> int:
        return 1 if self.direction == "minimize" else -1

    @cached_property
    def ranked(self) -> list[Candidate]:
        """The candidates that are complete with every seed and feasible, by their mean, the best first: before the others those that have
        seeds enough for a winner. A single seed tells too little to compare."""
        least = min(2, len(self.seeds))
        fit = [candidate for candidate in self.candidates if candidate.is_whole and candidate.feasible is not False]
        fit = [candidate for candidate in fit if len(candidate.results) >= least]
        costs = [self._sign * statistics.fmean(candidate.values.values()) for candidate in fit]
        if not self._have_same_seeds(fit):
            # A mean over other seeds is better or worse for these.
            costs = additive.adjusted_means([self.costs(candidate) for candidate in fit])
        return [fit[place] for place in sorted(range(len(fit)), key=lambda place: (not self._has_enough(fit[place]), costs[place]))]

    @property
    def seeds_for_a_winner(self) -> int:
        return min(ENOUGH_SEEDS, len(self.seeds))

    def _has_enough(self, candidate: Candidate) -> bool:
        return len(candidate.results) >= self.seeds_for_a_winner

    def _have_same_seeds(self, candidates: Sequence[Candidate]) -> bool:
        return len({tuple(candidate.results) for candidate in candidates}) <= 1

    @property
    def winner(self) -> Candidate | None:
        """The best of the candidates when all runs have ended; None before, or when none is fit."""
        return self.ranked[0] if self.is_complete and self.ranked and self._has_enough(self.ranked[0]) else None

    @cached_property
    def probabilities(self) -> dict[int, float]:
        """By candidate, how likely it is the best of `ranked` (see `harness.runs.paired`); empty where there is nothing to choose from, and
        where seeds are draws of the same pairs: more of them would make it sure of what other pairs may turn."""
        if len(self.ranked) < 2 or self.of_draws:
            return {}
        if self._have_same_seeds(self.ranked):
            found = probabilities_of_lowest([list(self.costs(candidate).values()) for candidate in self.ranked])
        else:
            found = additive.probabilities_of_lowest([self.costs(candidate) for candidate in self.ranked])
        return {candidate.number: probability for candidate, probability in zip(self.ranked, found, strict=True)}

    def costs(self, candidate: Candidate) -> dict[int, float]:
        """Its objective by seed, of the complete runs: lower is better."""
        return {seed: self._sign * value for seed, value in candidate.values.items()}

    def difference(self, candidate: Candidate, other: Candidate) -> Interval | None:
        """Of the objectives, candidate minus other, over the seeds that both are complete with: mean and paired t interval."""
        both = [candidate.values[seed] - other.values[seed] for seed in self.seeds if seed in candidate.values and seed in other.values]
        return mean_interval(both, of_draws=self.of_draws) if len(both) > 1 else None

    def difference_over_prompts(self, candidate: Candidate, other: Candidate) -> PromptDifference | None:
        """The same, where texts are judged, over all prompts of all seeds; None where no text is, or its file is elsewhere."""
        ours, theirs = self._scores_by_prompt.get(candidate.number, {}), self._scores_by_prompt.get(other.number, {})
        both = [statistics.fmean(ours[prompt]) - statistics.fmean(theirs[prompt]) for prompt in ours if prompt in theirs]
        return PromptDifference(bootstrap_interval(both), len(both)) if len(both) > 1 else None

    @cached_property
    def _scores_by_prompt(self) -> dict[int, dict[str, list[float]]]:
        """By candidate and prompt, the shares of right texts of each seed that wrote after it."""
        scores: dict[int, dict[str, list[float]]] = {candidate.number: {} for candidate in self.candidates}
        for number, run in enumerate(self.plan.runs):
            for prompt, score in self.directory.trial(number).generations.scores_by_prompt(self.candidates[0].metric).items():
                scores[run["candidate"]].setdefault(prompt, []).append(score)
        return scores

    @cached_property
    def noise(self) -> Noise | None:
        """What seeds alone change; None before a candidate is complete with every seed."""
        seeds, candidates = _together(self.candidates)
        table = [[self.costs(candidate)[seed] for seed in seeds] for candidate in candidates]
        return seed_noise(table) if table else None

    @property
    def bounds_of_means(self) -> dict[str, Bound]:
        """By constrained metric, the bound that a mean over the seeds has to meet for the chance that is asked for."""
        spreads = next((candidate.spreads for candidate in self.candidates), {})
        return {metric: with_reserve(bound, spreads[metric]) if metric in spreads else bound for metric, bound in self.constraints.items()}

    @property
    def degrees(self) -> int:
        """Of freedom of `noise.sd`."""
        seeds, candidates = _together(self.candidates)
        return max(0, len(seeds) - 1) * len(candidates)

    def candidate(self, number: int | None) -> Candidate | None:
        return next((candidate for candidate in self.candidates if candidate.number == number), None)

    def to_json(self) -> dict[str, Any]:
        """What `harness confirm --json` prints, and status and compare under `confirmation`."""
        winner, runner_up = self.winner, next(iter(self.ranked[1:]), None) if self.winner else None
        noise = self.noise
        return {
            "study": self.plan.study,
            "confirmation": self.directory.name,
            "seeds": self.seeds,
            "runs": {"planned": len(self.plan.runs), "ended": self.ended},
            "confirmed": winner is not None,
            "winner": winner.number if winner else None,
            "probability_best": self.probabilities.get(winner.number) if winner else None,
            "runner_up": runner_up.number if runner_up else None,
            "difference": self._difference_json(runner_up, winner) if winner and runner_up else None,
            "confidence": CONFIDENCE,
            "noise": {"sd": noise.sd, "paired_sd": noise.paired_sd, "least_difference": noise.least_difference} if noise else None,
            "candidates": [self._candidate_json(candidate) for candidate in self.in_order],
        }

    @property
    def in_order(self) -> list[Candidate]:
        """The ranked ones first, then the others as planned."""
        return [*self.ranked, *(candidate for candidate in self.candidates if candidate not in self.ranked)]

    def _difference_json(self, candidate: Candidate, other: Candidate) -> dict[str, Any] | None:
        found = self.difference(candidate, other)
        if found is None:
            return None
        by_prompt = self.difference_over_prompts(candidate, other)
        over_prompts = {"prompts": by_prompt.prompts, "interval": [by_prompt.interval.low, by_prompt.interval.high]} if by_prompt else None
        return {
            "mean": found.mean,
            "sd": found.sd,
            "interval": [found.low, found.high],
            "within_noise": is_within_noise(found),
            **({"over_prompts": over_prompts} if over_prompts else {}),
        }

    def _candidate_json(self, candidate: Candidate) -> dict[str, Any]:
        interval, first = candidate.interval, self.ranked[0] if self.ranked else None
        return {
            "number": candidate.number,
            "values": {str(seed): value for seed, value in candidate.values.items()},
            "failed": {str(seed): reason for seed, reason in candidate.failed.items()},
            "mean": interval.mean if interval else None,
            "sd": interval.sd if interval else None,
            "interval": [interval.low, interval.high] if interval else None,
            "feasible": candidate.feasible,
            "chances": {
                metric: {"chance": chance.mean, "interval": [chance.low, chance.high], "asked": self.constraints[metric].get("chance")}
                for metric, chance in candidate.chances.items()
            },
            "metrics": candidate.metrics,
            "probability_best": self.probabilities.get(candidate.number),
            "difference": self._difference_json(candidate, first) if first and candidate is not first else None,
        }


def is_within_noise(difference: Interval) -> bool:
    """Whether the interval of a paired difference holds 0."""
    return difference.low <= 0 <= difference.high


def read_confirmation(study: StudyDirectory, sweep: dict[str, Any]) -> Confirmation | None:
    """The confirmation of the study, if there is one. sweep: its sweep.yaml."""
    directory = confirmation_directory(study)
    plan = read_plan(directory)
    if plan is None or plan.launched != launch_of(sweep):
        return None
    return confirmation_of(directory, plan, sweep, lambda number: read_result(directory.trial(number)))


def confirmation_of(
    directory: StudyDirectory, plan: ConfirmationPlan, sweep: dict[str, Any], result: Callable[[int], Result]
) -> Confirmation:
    """What the runs of a plan say. sweep: of the study that it confirms; result: of the plan's n-th run."""
    results: dict[int, dict[int, Result]] = {}
    for number, run in enumerate(plan.runs):
        results.setdefault(run["candidate"], {})[run["seed"]] = result(number)
    objective, constraints = sweep["objective"], sweep.get("constraints") or {}
    of_draws = redraws_pairs(sweep.get("config") or {})
    candidates = [Candidate(number, by_seed, objective["metric"], constraints, of_draws=of_draws) for number, by_seed in results.items()]
    return Confirmation(directory, plan, objective["direction"], constraints, _with_spreads(candidates, constraints), of_draws)


def _with_spreads(candidates: Sequence[Candidate], constraints: Iterable[str]) -> list[Candidate]:
    spreads = dict(_spreads(candidates, constraints))
    return [replace(candidate, spreads=spreads) for candidate in candidates]


def _spreads(candidates: Sequence[Candidate], constraints: Iterable[str]) -> Iterator[tuple[str, Spread]]:
    """By constrained metric, of the candidates that are complete with every seed."""
    for metric in constraints:
        seeds, together = _together([candidate for candidate in candidates if metric in candidate.metrics])
        if together:
            yield metric, spread_over_seeds([[candidate.results[seed].metrics[metric] for seed in seeds] for candidate in together])


def _together(candidates: Sequence[Candidate]) -> tuple[list[int], list[Candidate]]:
    """Two or more of the first seeds, and the candidates that are complete with these and whole: so that they say the most of what seeds
    do, that is, with the most degrees of freedom."""
    whole = [candidate for candidate in candidates if candidate.is_whole]
    blocks = []
    for count in sorted({len(candidate.results) for candidate in whole if len(candidate.results) > 1}, reverse=True):
        chosen = [candidate for candidate in whole if len(candidate.results) >= count]
        blocks.append((list(chosen[0].results)[:count], chosen))
    # Of as many degrees, those of more candidates: what a seed does to all of them is paired away.
    return max(blocks, key=lambda block: ((len(block[0]) - 1) * len(block[1]), len(block[1])), default=([], []))
