"""Proposals of a trunk search by a surrogate model over all rungs.

Every trial, of whatever length, informs about runs of full length (see `harness.search.surrogate`): about the objective, and about how
much each constraint is violated, which grows with the length. What may come next is a new trunk at the first rung, a trunk going on to a
longer rung with any decay, or another decay of a trunk at full length. Each has

    the expected improvement at full length, times the chance that the constraints hold there,
    times the share of the uncertainty about that which the run would resolve,
    by the tokens that the run costs, given the trunks that are stored

and the largest goes first. (The augmented expected improvement of Huang et al., 2006, at the price of a branch.) Runs of full length are
what a study is for, and what proves the model wrong: until they have had their share of the tokens, a promising trunk goes on first, and
so at each rung on the way.

A pure function of the trials so far.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.search.cube import Cube
from harness.search.surrogate import MOST, Places, Surrogate, hyperparameters, learned_from
from harness.search.trunk_search import Proposal, Rungs, TrialSummary, TrunkKey

Float64 = NDArray[np.float64]
FULL_SHARE = 0.5
"""Of the tokens, for runs of full length, if the trunks that could go on are promising; the other rungs share the rest alike."""
PROMISING = 0.25
"""A chance that the constraints hold at full length that makes a trunk promising, if it may be as good as the best one is sure to be."""
PROVED = 2
"""A rung that fewer complete trials have reached is not left out: what the model says of it is extrapolated."""
DRAWS = 400
"""Points of the space that are looked at, before those near the best of them."""
REFINEMENTS = (0.15, 0.05)
BEST, NEIGHBOURS = 12, 6
DECAYS = 4
"""Other decays of each trunk that are looked at."""
ALIKE = 0.1
"""Decays of one trunk nearer than this in all of their ranges are not told apart: a short run may make the same steps of them."""
MOST_TRUNKS = 100
"""Trunks whose ways on are looked at: those with the largest expected improvement at full length."""
CONSTRAINT_WORTH = 0.5
"""The weight of a constraint's uncertainty, where the objective's is 1."""
MOST_OFFERED = 50
_erf = np.vectorize(math.erf)


@dataclass(frozen=True)
class Prices:
    """What runs cost, in tokens."""

    lengths: tuple[int, ...]
    """Of each rung's runs."""
    stored: Mapping[int, Sequence[int]]
    """By trial, where states of its trunk are kept."""
    trunk_share: Callable[[dict[str, Any]], float]
    """The share of a run with these values that is its trunk: 0 where it has none."""

    def of(self, params: dict[str, Any], rung: int, trunk: Sequence[TrialSummary] = ()) -> int:
        """Of a run; trunk: the trials that have trained on it."""
        length = self.lengths[rung]
        leaves = self.trunk_share(params) * length
        return length - max((at for trial in trunk for at in self.stored.get(trial.number, ()) if at <= leaves), default=0)


@dataclass(frozen=True)
class _Candidate:
    params: dict[str, Any]
    rung: int
    cost: int
    parent: int | None = None
    goes_on: bool = False
    """Whether its trunk has trained no run of this length yet; else it is another decay."""


def joint_proposals(rungs: Rungs, cube: Cube, seen: Sequence[TrialSummary], seed: int, prices: Prices) -> Iterator[Proposal]:
    """Proposals, the best first; the first one that fits the budget is taken. At least FEWEST trials are complete."""
    generator = random.Random(f"{seed}/{len(seen)}")
    model = _Model(rungs, cube, seen, prices)
    improvement_of = model.improvement
    points = [cube.drawn(generator) for _ in range(DRAWS)]
    known = [trial.params for trial in model.complete]
    for step in REFINEMENTS:
        pool = [*points, *known]
        best = np.argsort(-improvement_of(pool), kind="stable")[:BEST]
        points += [cube.near(pool[index], generator, step) for index in best for _ in range(NEIGHBOURS)]
    new = [_Candidate(point, 0, prices.of(point, 0)) for point in points]
    candidates = [*new, *_continuations(rungs, cube, _trunks_to_go_on(rungs, seen, improvement_of), seen, generator, prices)]
    improvement = improvement_of([candidate.params for candidate in candidates])
    score = improvement * model.resolved(candidates) / np.array([candidate.cost for candidate in candidates])
    order = [int(index) for index in np.argsort(-score, kind="stable")]
    promising = model.promising([candidate.params for candidate in candidates])
    first = _below_its_share(rungs, seen, candidates, np.where(promising, improvement, -1.0), prices)
    offered = [*([] if first is None else [first]), *order[:MOST_OFFERED]]
    # Where no short run can be followed by a long one any more; or the budget never held a long one.
    offered += [index for index in order if candidates[index].rung == rungs.last]
    offered += sorted(order, key=lambda index: candidates[index].cost)[:1]
    for index in offered:
        candidate = candidates[index]
        yield Proposal(rung=candidate.rung, parent=candidate.parent, params=candidate.params)


def trunks_of(rungs: Rungs, seen: Sequence[TrialSummary]) -> list[list[TrialSummary]]:
    """The trials by the trunk that they have trained on: those that differ in nothing but their decay."""
    found: dict[TrunkKey, list[TrialSummary]] = {}
    for trial in seen:
        found.setdefault(rungs.trunk_of(trial.params), []).append(trial)
    return list(found.values())


@dataclass(frozen=True)
class _Trunk:
    """A trunk that can go on."""

    trials: Sequence[TrialSummary]
    parent: TrialSummary
    """The best of the complete trials that went furthest."""


def _trunks_to_go_on(
    rungs: Rungs, seen: Sequence[TrialSummary], improvement_of: Callable[[Sequence[dict[str, Any]]], Float64]
) -> list[_Trunk]:
    late = {parameter.key for parameter in rungs.late}
    found = []
    for trunk in trunks_of(rungs, seen):
        complete = [trial for trial in trunk if trial.state == "complete"]
        if not complete:
            continue
        top = max(trial.rung for trial in complete)
        if top < rungs.last and any(trial.state in ("running", "waiting") for trial in trunk):
            continue  # it is going on already
        parent = min((trial for trial in complete if trial.rung == top), key=lambda trial: (trial.loss, trial.number))
        if top < rungs.last or late & parent.params.keys():
            found.append(_Trunk(trunk, parent))
    if len(found) <= MOST_TRUNKS:
        return found
    best = np.argsort(-improvement_of([trunk.parent.params for trunk in found]), kind="stable")[:MOST_TRUNKS]
    return [found[index] for index in sorted(best)]


def _continuations(
    rungs: Rungs, cube: Cube, trunks: Sequence[_Trunk], seen: Sequence[TrialSummary], generator: random.Random, prices: Prices
) -> Iterator[_Candidate]:
    reached = [sum(trial.rung == rung and trial.state == "complete" for trial in seen) for rung in range(len(rungs.lengths))]
    late = [parameter.key for parameter in rungs.late]
    for trunk in trunks:
        parent = trunk.parent
        tried = [cube.encoded([trial.params for trial in trunk.trials if trial.rung == rung]) for rung in range(len(rungs.lengths))]
        varied = [cube.drawn(generator, parent.params, late) for _ in range(DECAYS)] if any(key in parent.params for key in late) else []
        points = [parent.params, *varied]
        for params, place in zip(points, cube.encoded(points), strict=True):
            for rung in range(min(parent.rung + 1, rungs.last), rungs.last + 1):
                is_known = bool((np.abs(tried[rung] - place).max(axis=1) < ALIKE).any())
                if not is_known and (rung <= parent.rung + 1 or reached[rung] >= PROVED):
                    yield _Candidate(params, rung, prices.of(params, rung, trunk.trials), parent.number, goes_on=rung > parent.rung)


def _below_its_share(
    rungs: Rungs, seen: Sequence[TrialSummary], candidates: Sequence[_Candidate], improvement: Float64, prices: Prices
) -> int | None:
    """The trunk that goes on first because a rung is below its share of the tokens; None where all have theirs, or none is promising.
    Further decays tell little that is new."""
    spent = [0] * len(rungs.lengths)
    for trunk in trunks_of(rungs, seen):
        for index, trial in enumerate(sorted(trunk, key=lambda trial: trial.number)):
            spent[trial.rung] += prices.of(trial.params, trial.rung, trunk[:index])
    total = sum(spent)
    for rung in range(rungs.last, 0, -1):
        share = FULL_SHARE if rung == rungs.last else (1 - FULL_SHARE) / rungs.last
        below = [
            index
            for index, candidate in enumerate(candidates)
            if candidate.rung == rung
            and candidate.goes_on
            and improvement[index] >= 0
            and spent[rung] + candidate.cost <= share * (total + candidate.cost)
        ]
        if below:
            return max(below, key=lambda index: float(improvement[index]) / candidates[index].cost)
    return None


class _Model:
    """Objective and constraints at full length, given all trials."""

    def __init__(self, rungs: Rungs, cube: Cube, seen: Sequence[TrialSummary], prices: Prices) -> None:
        self._rungs, self._cube = rungs, cube
        self._trunks: dict[TrunkKey, int] = {}
        whole, shortest = prices.lengths[-1], prices.lengths[0]
        spread = math.log(whole / shortest) or 1.0
        self._heights = np.array([math.log(whole / length) / spread for length in prices.lengths])
        complete = [trial for trial in seen if trial.state == "complete"]
        self.complete = _most_telling(complete)
        values = _values(self.complete)
        count = learned_from(len(complete))
        if len(complete) <= MOST:
            known, of_known = complete[:count], [column[:count] for column in values]
        else:
            known = _most_telling(complete[:count])
            of_known = _values(known)
        fitted_at = self._places([(trial.params, trial.rung) for trial in known])
        places = self._places([(trial.params, trial.rung) for trial in self.complete])
        pending = self._places([(trial.params, trial.rung) for trial in seen if trial.state in ("running", "waiting")])
        models = [
            Surrogate(places, column, cube.groups, hyperparameters(fitted_at, fitted, cube.groups)).expecting(pending)
            for column, fitted in zip(values, of_known, strict=True)
        ]
        self._objective, self._constraints = models[0], models[1:]
        losses, complete = values[0], self.complete
        feasible = [index for index, trial in enumerate(complete) if trial.rung == rungs.last and trial.loss[0] <= 0]
        if feasible:
            self._best = float(losses[feasible].min())
        else:
            mean, _, holds = self._predicted([trial.params for trial in complete])
            self._best = float(mean[holds > 0.5].min()) if (holds > 0.5).any() else float(mean.max())

    def _places(self, runs: Sequence[tuple[dict[str, Any], int]]) -> Places:
        points = [params for params, _ in runs]
        heights = self._heights[[rung for _, rung in runs]] if runs else np.zeros(0)
        trunks = [self._trunks.setdefault(self._rungs.trunk_of(params), len(self._trunks)) for params in points]
        return Places(self._cube.encoded(points), heights, np.array(trunks, dtype=np.int64))

    def _predicted(self, points: Sequence[dict[str, Any]]) -> tuple[Float64, Float64, Float64]:
        """Of each point at full length: mean and deviation of the objective, and the chance that the constraints hold."""
        places = self._places([(params, self._rungs.last) for params in points])
        mean, deviation = self._objective.predict(places)
        holds = np.ones(len(points))
        for constraint in self._constraints:
            margin, uncertainty = constraint.predict(places)
            holds *= _normal_cdf(-margin / uncertainty)
        return mean, deviation, holds

    def improvement(self, points: Sequence[dict[str, Any]]) -> Float64:
        """Expected, at full length, over the best so far; by chance of holding: [points]."""
        mean, deviation, holds = self._predicted(points)
        z = (self._best - mean) / deviation
        density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        return np.asarray(deviation * (z * _normal_cdf(z) + density) * holds)

    def promising(self, points: Sequence[dict[str, Any]]) -> NDArray[np.bool_]:
        """Which of the points may well hold the constraints, and be as good as the best of the trials so far, within a standard
        deviation of both: [points]. (Unknown points promise more improvement than those that are known to be good: by that alone, none
        would go on.)"""
        mean, deviation, holds = self._predicted([trial.params for trial in self.complete])
        sure = (mean + deviation)[holds > 0.5]
        bar = float(sure.min()) if len(sure) else self._best
        mean, deviation, holds = self._predicted(points)
        return np.asarray((holds >= PROMISING) & (mean - deviation <= bar))

    def resolved(self, candidates: Sequence[_Candidate]) -> Float64:
        """The share of the uncertainty at full length that each run would resolve."""
        places = self._places([(candidate.params, candidate.rung) for candidate in candidates])
        shares = [self._objective.resolved(places), *(CONSTRAINT_WORTH * model.resolved(places) for model in self._constraints)]
        return np.asarray(np.max(shares, axis=0))


def _most_telling(complete: list[TrialSummary]) -> list[TrialSummary]:
    """Those that the model learns from: the best of the longest, in the order of their numbers."""
    if len(complete) <= MOST:
        return complete
    return sorted(sorted(complete, key=lambda trial: (-trial.rung, trial.loss))[:MOST], key=lambda trial: trial.number)


def _values(complete: Sequence[TrialSummary]) -> list[Float64]:
    """What is modelled: the objective, and each constraint's violation; [trials] each."""
    losses = _compressed(np.array([trial.loss[1] for trial in complete]), np.array([trial.rung for trial in complete]))
    return [losses, *np.array([trial.margins for trial in complete]).reshape(len(complete), -1).T]


def _compressed(losses: Float64, rung: NDArray[np.int64]) -> Float64:
    """Losses in which the bad ones of each rung are brought near: a run that diverged should not shape what is modelled around the best."""
    lowest = {index: losses[rung == index].min() for index in set(rung.tolist())}
    above = losses - np.array([lowest[index] for index in rung.tolist()])
    scale = float(np.median(above[above > 0])) if (above > 0).any() else 1.0
    return np.asarray(losses - above + scale * np.log1p(above / scale))


def _normal_cdf(z: Float64) -> Float64:
    return np.asarray(0.5 * (1 + _erf(z / math.sqrt(2))))
