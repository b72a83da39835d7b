"""What fresh seeds change for all trials of a search alike.

Trials have their seed in common, unless the space says otherwise, and with it the order of their data: what that does to a constraint's
metric it does to near configurations nearly alike. So those that a search likes best, at the edge of a constraint, are pushed over it
together; and what a confirmation measured tells which other trials keep enough distance.
"""

from __future__ import annotations

import json
import statistics

from harness.runs.confirmation import lies_within
from harness.runs.record import RunRecord, StudyRecord

LENGTHS = ("trainer.max_tokens", "trainer.max_steps")


def has_full_length(study: StudyRecord, run: RunRecord) -> bool:
    """Whether the trial is as long as the study's base says: it is no shorter run of a trunk search."""
    whole = study.sweep.get("config", {}).get("trainer", {})
    space = study.sweep.get("space", {})
    return all(run.params[key] == whole.get(key.removeprefix("trainer.")) for key in LENGTHS if key in run.params and key not in space)


def outcome(run: RunRecord) -> str:
    """What a run came to. Decays that differ by less than a step, or a parameter without effect, leave the same to the last bit.

    What was trained tells runs apart that score the same; what the clock says, nothing.
    """
    measured = {key: value for key, value in run.result.metrics.items() if key.startswith(("train/", "val/"))}
    return json.dumps([run.result.objective, measured], sort_keys=True)


def shifts(study: StudyRecord) -> dict[str, float]:
    """By metric of a constraint, how much more it is over the fresh seeds than it was in the search: the mean over the candidates that are
    complete with every seed."""
    searched = {run.number: run.result.metrics for run in study.runs}
    found: dict[str, float] = {}
    for metric in study.constraints:
        differences = [
            candidate.metrics[metric] - searched[candidate.number][metric]
            for candidate in (study.confirmation.candidates if study.confirmation else [])
            if candidate.is_whole and metric in candidate.metrics and metric in searched.get(candidate.number, {})
        ]
        if differences:
            found[metric] = statistics.fmean(differences)
    return found


def to_try_next(study: StudyRecord, count: int) -> list[int]:
    """Trials of full length that are no candidates yet and hold the constraints with what fresh seeds add to them: the best of the search
    first, at most `count`; none where nothing is constrained, or the shift of a constraint is not known."""
    known = shifts(study)
    if study.confirmation is None or not known or known.keys() != study.constraints.keys():
        return []
    candidates = set(study.confirmation.plan.candidates)
    passed_over = {outcome(run) for run in study.runs if run.number in candidates}
    sign = 1 if study.objective.direction == "minimize" else -1
    complete = [(sign * run.result.objective, run) for run in study.runs if run.state == "complete" and run.result.objective is not None]
    found: list[int] = []
    for _, run in sorted(complete, key=lambda ranked: ranked[0]):
        holds = all(
            metric in run.result.metrics and lies_within(bound, run.result.metrics[metric] + known[metric])
            for metric, bound in study.constraints.items()
        )
        if holds and run.number is not None and has_full_length(study, run) and outcome(run) not in passed_over:
            passed_over.add(outcome(run))
            found.append(run.number)
    return found[:count]
