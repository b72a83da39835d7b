"""Trunk search: rungs that are annealed branches of shared trunks.

A trial of rung k is a finished run of the k-th length: it trains along its trunk, and decays there. The best of a rung go on along their
trunks to the length of the next one, as trials of their own with the same values: they pay for the new stretch of trunk and for their
decay. (Asynchronous successive halving, arXiv 1810.05934, over runs that are comparable because each of them is annealed; the sharing is
that of stage trees, VLDB 15(5).) At the last rung, the parameters that only the decay depends on are searched on the trunk of the best,
at the price of a decay each.

Everything here is a pure function of the trials so far: whoever asks gets the same answer.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.search.parameter import Parameter

TrunkKey = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class TrialSummary:
    """What the search knows of a trial."""

    number: int
    rung: int
    parent: int | None
    """The trial whose trunk it continues."""
    params: dict[str, Any]
    """Values of the space's parameters."""
    state: str
    loss: tuple[float, float] = (0.0, 0.0)
    """(Sum of constraint violations, objective), lower is better; of a complete trial."""
    margins: tuple[float, ...] = ()
    """By constraint the violation, <= 0 where it holds; of a complete trial."""


@dataclass(frozen=True)
class Proposal:
    """A trial that may come next."""

    rung: int
    parent: int | None = None
    params: dict[str, Any] | None = None
    """None: values that the sampler chooses."""


@dataclass(frozen=True)
class Rungs:
    """The rungs of a search."""

    lengths: tuple[int, ...]
    """Of each rung's runs, in tokens or steps, as the base's length is given."""
    length_key: str
    reduction_factor: int
    branches: int
    """Trials at the last rung that vary the decay of one trunk."""
    late: tuple[Parameter, ...] = field(default=(), compare=False)
    """The parameters that only the decay depends on."""

    @property
    def last(self) -> int:
        return len(self.lengths) - 1

    def trunk_of(self, params: dict[str, Any]) -> TrunkKey:
        """What names the trunk that a trial with these values trains on: all of them but those that only the decay depends on."""
        late = {parameter.key for parameter in self.late}
        return tuple(sorted((key, repr(value)) for key, value in params.items() if key not in late))


def rung_lengths(full: int, rungs: int, reduction_factor: int) -> tuple[int, ...]:
    """Lengths that grow by the factor from rung to rung, the last one `full`."""
    return tuple(max(1, full // reduction_factor ** (rungs - 1 - rung)) for rung in range(rungs))


def proposals(rungs: Rungs, seen: Sequence[TrialSummary], seed: int) -> Iterator[Proposal]:
    """Proposals, the best first; the first one that fits the budget is taken.

    1. Of each rung, from the last but one down, the best 1/reduction_factor of its complete trials go on.
    2. The decay of the best trunk of the last rung is varied, `branches` times.
    3. A new trunk.
    4. Where none of these fits into the budget any more: the best of any rung that have not gone on.
    """
    yield from _promotions(rungs, seen, within_quota=True)
    yield from _variation(rungs, seen, seed)
    yield Proposal(rung=0)
    yield from best_of_any_rung(rungs, seen)


def best_of_any_rung(rungs: Rungs, seen: Sequence[TrialSummary]) -> Iterator[Proposal]:
    """The complete trials that have not gone on, of the highest rung first, and of each the best."""
    return _promotions(rungs, seen, within_quota=False)


def trials_to_learn_from(rungs: Rungs, seen: Sequence[TrialSummary], enough: int) -> set[int]:
    """The trials that a sampler learns from, and those under way. Objectives of different lengths do not compare: one rung, the highest
    with `enough` complete trials, else the lowest."""
    complete = [trial for trial in seen if trial.state == "complete"]
    rung = max((rung for rung in range(len(rungs.lengths)) if sum(trial.rung == rung for trial in complete) >= enough), default=0)
    return {trial.number for trial in seen if trial.state in ("running", "waiting") or (trial.state == "complete" and trial.rung == rung)}


def _promotions(rungs: Rungs, seen: Sequence[TrialSummary], *, within_quota: bool) -> Iterator[Proposal]:
    gone_on = {trial.parent for trial in seen}
    for rung in range(rungs.last - 1, -1, -1):
        ranked = sorted(
            (trial for trial in seen if trial.rung == rung and trial.state == "complete"), key=lambda trial: (trial.loss, trial.number)
        )
        quota = len(ranked) // rungs.reduction_factor if within_quota else len(ranked)
        for trial in ranked[:quota]:
            if trial.number not in gone_on:
                yield Proposal(rung=rung + 1, parent=trial.number, params=trial.params)


def _variation(rungs: Rungs, seen: Sequence[TrialSummary], seed: int) -> Iterator[Proposal]:
    top = [trial for trial in seen if trial.rung == rungs.last]
    complete = [trial for trial in top if trial.state == "complete"]
    if not complete:
        return
    best = min(complete, key=lambda trial: (trial.loss, trial.number))
    late = [parameter for parameter in rungs.late if parameter.key in best.params]
    tried = [trial for trial in top if rungs.trunk_of(trial.params) == rungs.trunk_of(best.params)]
    if not late or len(tried) > rungs.branches:
        return
    generator = random.Random(f"{seed}/{best.number}/{len(tried)}")
    for _ in range(20):
        params = {**best.params, **{parameter.key: parameter.drawn(generator) for parameter in late}}
        if all(params != trial.params for trial in tried):
            yield Proposal(rung=rungs.last, parent=best.number, params=params)
            return
