"""How fresh seeds shift the metrics under constraints.

The trials of a search share a seed, and with it the order of their data. Its effect on a metric is nearly the same for similar
configurations, so fresh seeds push those at the edge of a constraint over it together.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable

from harness.runs.confirmation import Confirmation
from harness.runs.record import RunRecord, StudyRecord
from harness.runs.reproduction import NOT_OF_THE_MODEL


def outcome(run: RunRecord) -> str:
    """The results of a run, without times. They are equal to the last bit where runs differ by less than a step, or by a parameter without
    effect."""
    measured = {key: value for key, value in run.result.metrics.items() if key not in (*NOT_OF_THE_MODEL, "lr")}
    return json.dumps([run.result.objective, measured], sort_keys=True)


def shifts_of_candidates(confirmation: Confirmation, runs: Iterable[RunRecord]) -> dict[str, dict[int, float]]:
    """By constrained metric and candidate: its mean over the fresh seeds minus its value in the search.

    Only candidates that are complete with every seed. runs: those of the study.
    """
    searched = {run.number: run.result.metrics for run in runs}
    candidates = [candidate for candidate in confirmation.candidates if candidate.is_whole]
    return {
        metric: {
            candidate.number: candidate.metrics[metric] - searched[candidate.number][metric]
            for candidate in candidates
            if metric in candidate.metrics and metric in searched.get(candidate.number, {})
        }
        for metric in confirmation.constraints
    }


def shifts(study: StudyRecord) -> dict[str, float]:
    """By constrained metric, the mean of the candidates' shifts, where there are any."""
    found = shifts_of_candidates(study.confirmation, study.runs) if study.confirmation else {}
    return {metric: statistics.fmean(shifts.values()) for metric, shifts in found.items() if shifts}
