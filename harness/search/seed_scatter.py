"""How far seeds scatter a constrained metric of one configuration.

Fresh seeds tell it. Until they do it is taken for a share of what runs of full length differ by, and for no less than a smooth function of
the trials' parameters and lengths leaves unexplained: the noise of the model that trunk search proposes by (`harness.search.surrogate`),
fitted to the trials of any search. The share alone would be nothing for a search that has come to one place, where noise is all there is.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.runs.chances import Spread
from harness.runs.confirmation import Confirmation
from harness.runs.record import RunRecord
from harness.search.cube import cube_without_seed
from harness.search.space import Space
from harness.search.surrogate import FEWEST, MOST, Places, hyperparameters, learned_from

ASSUMED = 0.1
"""How far seeds scatter one configuration, as a share of what configurations differ by."""
OF_NORMAL = 1.4826
"""Times the median absolute deviation is the standard deviation of a normal sample."""
UNSEEN = 2.0
"""Times the variance of the noise is that of seeds: what a seed does to all of its runs alike a search with one seed cannot see. On text it
was about as much again (docs/benchmarks.md)."""
FAR = 5.0
"""Robust standard deviations from the median: a run that ended there diverged, and says nothing of how seeds scatter the others."""
ENOUGH_DEGREES = 2
"""Of freedom: from then on only what fresh seeds say counts."""


def scatters_of(
    constraints: Iterable[str], confirmation: Confirmation | None, space: Space, runs: Sequence[RunRecord], full: Sequence[RunRecord]
) -> dict[str, float]:
    """By constrained metric a standard deviation. runs: the trials of the search, in the order of their numbers; full: those that are
    complete at full length."""
    found = {}
    for metric in constraints:
        spread, degrees = _spread(confirmation, metric), degrees_of(confirmation, metric)
        assumed = max(0, ENOUGH_DEGREES - degrees)
        squares = assumed * max(_share(metric, full), UNSEEN * _noise(metric, space, runs)) if assumed else 0.0
        found[metric] = math.sqrt((squares + (degrees * spread.sd**2 if spread else 0.0)) / (assumed + degrees))
    return found


def degrees_of(confirmation: Confirmation | None, metric: str) -> int:
    """Of freedom of what fresh seeds say of a metric's scatter; 0 where they say nothing."""
    spread = _spread(confirmation, metric)
    return spread.degrees if spread else 0


def _spread(confirmation: Confirmation | None, metric: str) -> Spread | None:
    return next((candidate.spreads.get(metric) for candidate in confirmation.candidates), None) if confirmation else None


def _share(metric: str, full: Sequence[RunRecord]) -> float:
    """The variance that is assumed from what these runs differ by."""
    values = [run.result.metrics[metric] for run in _near(metric, [run for run in full if metric in run.result.metrics])]
    centre = statistics.median(values) if values else 0.0
    return float((ASSUMED * OF_NORMAL * statistics.median(abs(value - centre) for value in values)) ** 2) if values else 0.0


def _noise(metric: str, space: Space, runs: Sequence[RunRecord]) -> float:
    """The variance of a metric that its place in the space does not explain; 0 while too few trials are complete. Runs that diverged do
    not count: the variance, and with it the noise, would be theirs."""
    complete = [run for run in runs if run.state == "complete" and run.trial is not None and metric in run.result.metrics]
    # Fitted anew only when there is a fifth more.
    complete = _near(metric, complete[: learned_from(len(complete))][-MOST:]) if len(complete) >= FEWEST else []
    values = np.array([run.result.metrics[metric] for run in complete])
    if not len(values) or not values.std():
        return 0.0
    rungs = np.array([_rung(run) for run in complete])
    cube = cube_without_seed(space)
    if not len(cube.groups):
        return _variance_within(values, rungs)
    parents = {run.number: run.trial.parent for run in runs if run.trial}
    trunks = np.array([_root(run.number, parents) for run in complete], dtype=np.int64)
    places = Places(cube.encoded([run.params for run in complete]), (rungs.max() - rungs) / max(1, rungs.max()), trunks)
    return hyperparameters(places, values, cube.groups).noise * float(values.var())


def _near(metric: str, runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Those of the runs with this metric that are not far from the others of their rung, or from all where it has too few."""
    values: dict[int, list[float]] = {}
    for run in runs:
        values.setdefault(_rung(run), []).append(run.result.metrics[metric])
    edges = {rung: _edges(of_rung) for rung, of_rung in values.items() if len(of_rung) > FEWEST}
    low, high = _edges([value for of_rung in values.values() for value in of_rung])
    found = []
    for run in runs:
        lowest, highest = edges.get(_rung(run), (low, high))
        if lowest <= run.result.metrics[metric] <= highest:
            found.append(run)
    return found


def _edges(values: list[float]) -> tuple[float, float]:
    """Between which values are not far from their median. Of very few nobody can say which one diverged."""
    if len(values) <= FEWEST:
        return -math.inf, math.inf
    centre = statistics.median(values)
    apart = [abs(value - centre) for value in values]
    # More than half of them may be the same.
    scale = statistics.median(apart) or statistics.median([by for by in apart if by] or [0.0])
    return centre - FAR * OF_NORMAL * scale, centre + FAR * OF_NORMAL * scale


def _rung(run: RunRecord) -> int:
    return (run.trial and run.trial.rung) or 0


def _variance_within(values: NDArray[np.float64], rungs: NDArray[np.int64]) -> float:
    """The sample variance of runs that differ by nothing but seeds, and lengths."""
    lengths = set(rungs.tolist())
    squares = sum(float(((values[rungs == rung] - values[rungs == rung].mean()) ** 2).sum()) for rung in lengths)
    return squares / (len(values) - len(lengths)) if len(values) > len(lengths) else 0.0


def _root(number: int | None, parents: dict[int | None, int | None]) -> int:
    """The trial that began the trunk."""
    assert number is not None, "a trial of a study"
    parent = parents.get(number)
    return number if parent is None else _root(parent, parents)
