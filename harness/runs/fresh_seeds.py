"""What fresh seeds change for all trials of a search alike.

Trials have their seed in common, unless the space says otherwise, and with it the order of their data: what that does to a constraint's
metric it does to near configurations nearly alike. So those that a search likes best, at the edge of a constraint, are pushed over it
together.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable

from harness.runs.confirmation import Confirmation
from harness.runs.record import RunRecord, StudyRecord


def outcome(run: RunRecord) -> str:
    """What a run came to. Decays that differ by less than a step, or a parameter without effect, leave the same to the last bit.

    What was trained tells runs apart that score the same; what the clock says, nothing.
    """
    measured = {key: value for key, value in run.result.metrics.items() if key.startswith(("train/", "val/"))}
    return json.dumps([run.result.objective, measured], sort_keys=True)


def shifts_of_candidates(confirmation: Confirmation, runs: Iterable[RunRecord]) -> dict[str, dict[int, float]]:
    """By metric of a constraint and by candidate, how much more it is in the mean over the fresh seeds than it was in the search.

    Of candidates that are complete with every seed. runs: those of the study.
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
    """By metric of a constraint, the mean of the candidates' shifts; without those of which nothing is known."""
    found = shifts_of_candidates(study.confirmation, study.runs) if study.confirmation else {}
    return {metric: statistics.fmean(shifts.values()) for metric, shifts in found.items() if shifts}
