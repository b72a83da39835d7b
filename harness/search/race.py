"""Which trial of a study gets the next fresh seed: a race of the best of the search.

Candidates begin with the same few seeds. From then on only those go on that may still be the winner, seed by seed and side by side, so
that what a seed does to all of them cancels (Maron and Moore, The racing algorithm, Artificial Intelligence Review 11, 1997). One that a
constraint or another candidate has put behind comes back when those before it fall. Where the race is decided, trials enter that were
better in the search than its winner was there.

Under constraints a winner comes first, and then what may be better: until there is one, seeds go to the trial that promises most for the
runs that it still needs (`harness.search.prospects`).

Where a seed is a draw of the same contrast pairs (of steering), the race is about the mean over draws of these very pairs, by which
candidates are ranked: more draws make it surer. That says nothing of other pairs, so a confirmation claims no probability and no narrower
interval from it (`harness.runs.confirmation`).

All here is a function of the study's record: whoever asks gets the same answer.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from harness.runs import additive
from harness.runs.chances import probability_of_meeting
from harness.runs.confirmation import ENOUGH_SEEDS, Candidate, Confirmation
from harness.runs.record import RunRecord, StudyRecord
from harness.search.confirm import different_configurations
from harness.search.cube import Cube
from harness.search.prospects import prospects
from harness.search.reserve import OPENING_SEEDS
from harness.search.sweep import Sweep

OUT = 0.05
"""A candidate that is less likely than this to be the winner, or to meet a constraint, gets no further seed."""
NEAR = 0.05
"""Of the space's unit cube: candidates nearer to each other than this do not enter side by side."""
MOST_SEEDS = 6
"""What so many do not tell apart is as good."""


def next_run(study: StudyRecord, sweep: Sweep, at_once: int, left: int) -> tuple[int, int] | None:
    """The candidate that gets a further seed, and the place of that seed in the order of seeds. None: runs under way decide, no further
    seed would change who is the winner, or there is nobody to confirm.

    at_once: so many candidates begin together; left: for so many runs there is room.
    """
    found = study.confirmation
    if study.constraints and not _has_winner(found):
        return _towards_a_winner(study, sweep, at_once, left)
    if found is None or not any(len(candidate.values) >= OPENING_SEEDS for candidate in found.candidates):
        return _open(study, sweep, found, at_once)
    known = found.so_far
    standings = standings_of(known)
    racing = [candidate for candidate in found.candidates if standings.get(candidate.number, 0.0) >= OUT]
    is_open = _is_open(known, racing, standings)
    begun = [candidate for candidate in found.candidates if not candidate.failed and len(candidate.values) < OPENING_SEEDS]
    if left >= ENOUGH_SEEDS and len(begun) < at_once and not is_open:
        beside = [candidate.number for candidate in (*racing, *begun)]
        entering = _first_that_differs(_challengers(replace(study, confirmation=known), sweep, at_once), study, sweep, beside)
        if entering is not None:
            return entering, 0
    hopeful = [candidate for candidate in begun if len(candidate.results) < OPENING_SEEDS and candidate.feasible is not False]
    if hopeful:
        return _fewest_seeds(hopeful)
    if not is_open:
        return None
    free = [candidate for candidate in racing if len(candidate.results) < MOST_SEEDS and _has_ended(candidate)]
    if not free:
        return None
    chosen = min(free, key=lambda candidate: (len(candidate.results), -standings[candidate.number]))
    return chosen.number, len(chosen.results)


def _has_winner(found: Confirmation | None) -> bool:
    """By the runs that have ended."""
    return found is not None and any(len(candidate.values) >= ENOUGH_SEEDS for candidate in found.so_far.ranked)


def _towards_a_winner(study: StudyRecord, sweep: Sweep, at_once: int, left: int) -> tuple[int, int] | None:
    """The run that promises most of those of trials that can still be confirmed; those that were found unfit come last."""
    found = study.confirmation
    known = replace(study, confirmation=found.so_far if found else None)
    hopes = [hope for hope in prospects(known) if hope.chance >= OUT]
    begun = {candidate.number: candidate for candidate in found.candidates} if found else {}
    under_way = [number for number, candidate in begun.items() if not _has_ended(candidate)]
    worst = max((hope.cost for hope in hopes), default=0.0)
    offers = []
    for hope in hopes:
        candidate = begun.get(hope.number)
        needs = _seeds_to_a_verdict(candidate)
        if 0 < needs <= left and (candidate is not None or len(under_way) < at_once):
            is_judged = candidate is not None and len(candidate.results) >= ENOUGH_SEEDS
            offers.append((not is_judged, hope.chance * (worst - hope.cost) / needs, hope.chance, -hope.number))
    ordered = [-offer[-1] for offer in sorted(offers, reverse=True)]
    runs = {run.number: run for run in study.runs}
    for number in ordered:
        if number in begun:
            return number, len(begun[number].results)
        if _first_that_differs([runs[number]], study, sweep, under_way) is not None:
            return number, 0
    return None


def _seeds_to_a_verdict(candidate: Candidate | None) -> int:
    """How many more it needs until it may be found to be fit; 0 where those under way say, or it has had enough."""
    if candidate is None:
        return ENOUGH_SEEDS
    if len(candidate.results) < ENOUGH_SEEDS:
        return ENOUGH_SEEDS - len(candidate.results)
    return 1 if _has_ended(candidate) and len(candidate.results) < MOST_SEEDS else 0


def standings_of(found: Confirmation) -> dict[int, float]:
    """By candidate, how likely it is the winner, of those that are complete with the first seeds at least: that its mean is the best, times
    that it meets the constraints. They add up to 1, unless no candidate may still meet the constraints; then there are none."""
    holds = {
        candidate.number: _meets(candidate, found)
        for candidate in found.candidates
        if candidate.is_whole and len(candidate.results) >= OPENING_SEEDS
    }
    alive = [candidate for candidate in found.candidates if holds.get(candidate.number, 0.0) >= OUT]
    if not alive:
        return {}
    best = additive.probabilities_of_lowest([found.costs(candidate) for candidate in alive])
    shares = {candidate.number: share * holds[candidate.number] for candidate, share in zip(alive, best, strict=True)}
    return {number: share / sum(shares.values()) for number, share in shares.items()}


def _meets(candidate: Candidate, found: Confirmation) -> float:
    """How sure it is that it meets all constraints."""
    return math.prod(
        probability_of_meeting(bound, candidate.metrics[metric], replace(candidate.spreads[metric], seeds=len(candidate.values)))
        if metric in candidate.spreads and metric in candidate.metrics
        else 0.0
        for metric, bound in found.constraints.items()
    )


def _open(study: StudyRecord, sweep: Sweep, found: Confirmation | None, at_once: int) -> tuple[int, int] | None:
    """The first seeds of the first candidates, by seed."""
    candidates = [candidate for candidate in found.candidates if not candidate.failed] if found else []
    given = [candidate for candidate in candidates if len(candidate.results) < OPENING_SEEDS]
    if len(candidates) < at_once:
        known = found.plan.candidates if found else []
        new = [run for run in different_configurations(study, sweep) if run.number not in known]
        entering = _first_that_differs(new, study, sweep, known)
        if entering is not None:
            return entering, 0
    if given:
        return _fewest_seeds(given)
    return None


def _fewest_seeds(candidates: list[Candidate]) -> tuple[int, int]:
    chosen = min(candidates, key=lambda candidate: len(candidate.results))
    return chosen.number, len(chosen.results)


def _is_open(known: Confirmation, racing: list[Candidate], standings: dict[int, float]) -> bool:
    """Whether further seeds may change who is the winner, or whether there is one. known: what the runs that have ended say."""
    if all(len(candidate.results) >= MOST_SEEDS for candidate in racing):
        return False
    leader = max(racing, key=lambda candidate: standings[candidate.number])
    return len(racing) > 1 or not _is_fit(known, leader) or len(leader.values) < ENOUGH_SEEDS


def _is_fit(known: Confirmation, candidate: Candidate) -> bool:
    """Whether it meets the constraints by what is known."""
    found = known.candidate(candidate.number)
    return found is not None and found.feasible is not False


def _has_ended(candidate: Candidate) -> bool:
    return len(candidate.values) + len(candidate.failed) == len(candidate.results)


def _first_that_differs(runs: list[RunRecord], study: StudyRecord, sweep: Sweep, beside: list[int]) -> int | None:
    """The first of the trials that is no near duplicate of one of those `beside`: seeds would tell nothing of the two apart."""
    cube = Cube(sweep.space)
    taken = cube.encoded([run.params for run in study.runs if run.number in beside])
    for run in runs:
        apart = np.linalg.norm(taken - cube.encoded([run.params]), axis=1)
        if not len(apart) or apart.min() >= NEAR:
            return run.number
    return None


def _challengers(study: StudyRecord, sweep: Sweep, at_once: int) -> list[RunRecord]:
    """Trials that were better in the search than the winner of the race was there, the most promising first. Under constraints, where
    candidates do not begin together, so many others come before as would have."""
    runs = {run.number: run for run in study.runs}
    assert study.confirmation is not None, "the race has begun"
    winner = study.confirmed
    to_beat = runs[winner.number].result.objective if winner else None
    begun = study.confirmation.plan.candidates
    if study.constraints:
        hopes = [hope for hope in prospects(study) if hope.number not in begun and hope.chance >= OUT]
        worst = max((hope.cost for hope in hopes), default=0.0)
        if to_beat is not None and len(begun) >= at_once:
            worst = study.objective.sign * to_beat
            hopes = [hope for hope in hopes if hope.cost < worst]
        return [runs[hope.number] for hope in sorted(hopes, key=lambda hope: (hope.chance * (hope.cost - worst), hope.number))]
    found = [run for run in different_configurations(study, sweep) if run.number not in begun]
    if to_beat is not None:
        found = [run for run in found if run.result.objective is not None and study.objective.better(run.result.objective, to_beat)]
    return found
