"""Which trials a confirmation should run over fresh seeds next.

Fresh seeds shift a constrained metric nearly alike for similar configurations (harness/runs/fresh_seeds.py). The shifts of the candidates
are taken as samples of a smooth function over the space, which is zero far from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.runs.constraints import holds
from harness.runs.fresh_seeds import outcome, shifts_of_candidates
from harness.runs.record import RunRecord, StudyRecord
from harness.search.cube import cube_without_seed
from harness.search.space import Space, parse_space

Point = dict[str, Any]
REACH = 0.4
"""Over how much of the space's unit cube shifts are alike: the length of a squared exponential kernel. (Measured: docs/benchmarks.md.)"""
OWN = 0.1
"""Variance of a shift that is a configuration's own, as a share of the variance that it has in common with others."""


def to_try_next(study: StudyRecord, count: int) -> list[int]:
    """Trials that may be better than what is confirmed: of full length, no candidates yet, expected to hold the constraints over fresh
    seeds, and better in the search than the confirmed winner was there, if there is one.

    The best of the search first, at most `count`. None where nothing is constrained: then the best of the search are all there is to go by.
    """
    known = shifts_of_candidates(study.confirmation, study.runs) if study.confirmation else {}
    if study.confirmation is None or not known or not all(known.values()):
        return []
    sign = study.objective.sign
    complete = [run for run in study.runs if run.state == "complete" and run.result.objective is not None]
    searched = {run.number: sign * (run.result.objective or 0.0) for run in complete}
    to_beat = searched[study.confirmed.number] if study.confirmed else math.inf
    runs = [
        run
        for run in sorted(complete, key=lambda run: searched[run.number])
        if searched[run.number] < to_beat and study.has_full_length(run) and study.constraints.keys() <= run.result.metrics.keys()
    ]
    candidates = set(study.confirmation.plan.candidates)
    bounds = study.confirmation.bounds_of_means
    found, seen = [], {outcome(run) for run in complete if run.number in candidates}
    expected = metrics_over_fresh_seeds(parse_space(study.sweep["space"]), known, study.runs, runs)
    for run, metrics in zip(runs, expected, strict=True):
        is_feasible = all(holds(bound, metrics[metric]) for metric, bound in bounds.items())
        if is_feasible and run.number is not None and outcome(run) not in seen:
            seen.add(outcome(run))
            found.append(run.number)
    return found[:count]


def next_round(study: StudyRecord, *, each: int, most: int) -> list[int]:
    """The trials that a confirmation goes on with when its runs have ended: at most `each`, and `most` candidates in all."""
    confirmation = study.confirmation
    if confirmation is None or not confirmation.is_complete:
        return []
    return to_try_next(study, min(each, max(0, most - len(confirmation.plan.candidates))))


def metrics_over_fresh_seeds(
    space: Space, known: Mapping[str, Mapping[int, float]], searched: Sequence[RunRecord], runs: Sequence[RunRecord]
) -> list[dict[str, float]]:
    """The metrics of `runs`, with the shifts that fresh seeds are expected to add. known: shifts by metric and candidate, a trial of the
    study; searched: all of its trials."""
    params = {run.number: run.params for run in searched}
    expected = {
        metric: expected_shifts(space, [(params[number], shift) for number, shift in shifts.items()], [run.params for run in runs])
        for metric, shifts in known.items()
        if shifts
    }
    return [
        {metric: value + expected[metric][place] if metric in expected else value for metric, value in run.result.metrics.items()}
        for place, run in enumerate(runs)
    ]


def expected_shifts(space: Space, known: Sequence[tuple[Point, float]], points: Sequence[Point]) -> NDArray[np.float64]:
    """What fresh seeds are expected to add to a metric at these points: [points]. known: at which points they added how much; at least one.

    The mean of a Gaussian process around zero, given the known ones (Rasmussen and Williams, Gaussian Processes for Machine Learning, 2.2).
    """
    weights, _ = _known_from(space, [point for point, _ in known], points)
    expected: NDArray[np.float64] = weights @ np.array([shift for _, shift in known])
    return expected


def unknown_of_shifts(space: Space, known: Sequence[Point], points: Sequence[Point]) -> NDArray[np.float64]:
    """The variance of a shift at these points, given those whose shifts are known: [points]; 1 + OWN where none is near."""
    return _known_from(space, known, points)[1]


def _known_from(space: Space, known: Sequence[Point], points: Sequence[Point]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The weights of the known shifts in those of the points: [points, known]; and the variance that is left: [points]."""
    cube = cube_without_seed(space)
    at, wanted = cube.encoded(known), cube.encoded(points)
    across = _alike(wanted, at)
    weights = np.asarray(np.linalg.solve(_alike(at, at) + OWN * np.eye(len(at)), across.T).T, dtype=np.float64)
    return weights, np.asarray(1 + OWN - (weights * across).sum(axis=1))


def _alike(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correlations: [points, others]."""
    squares = np.square(one[:, None, :] - other[None, :, :]).sum(axis=-1)
    correlations: NDArray[np.float64] = np.exp(-squares / (2 * REACH**2))
    return correlations
