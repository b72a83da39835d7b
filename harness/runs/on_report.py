"""A winner on documents that chose nothing (data.report_share): its values there, and its lead over what it has to beat."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.config.merge_baselines import baseline_of
from harness.config.steering_controls import AGREEMENT, OPPOSED, control_of
from harness.config.synth_path import trains_on_made
from harness.runs.directory import RunDirectory
from harness.runs.paired import Interval, ratio_interval
from harness.runs.record import RunRecord, StudyRecord
from harness.runs.report_split import ByDocument, reported

RIVALS = {
    "ingredient": "the best ingredient alone",
    "scale": "the best single scale",
    "mean": "the mean of all models",
    "nothing": "doing nothing",
    "prompt": "the prompt",
    "random": "the best random direction",
    "sft": "fine-tuning on the chosen answers alone",
    "real": "real text alone",
}
"""What a merge has to beat, by the kinds of `baseline_of`, a greedy soup, what steering has to, by those of `control_of`, a loss of
answers, and data that are made."""


@dataclass(frozen=True)
class Rival:
    """A trial that the winner has to beat, chosen as the winner is."""

    kind: str
    """One of RIVALS."""
    label: str
    """Which: an ingredient's name, a scale, a random draw, objective=sft; "" where there is one of its kind."""
    run: RunRecord
    value: float
    """Of the objective, on what is kept for the report."""
    lead: Interval | None
    """By how much the winner is better there: a bootstrap over documents, paired. None where these are not known."""

    @property
    def within_noise(self) -> bool | None:
        """Whether the interval of the lead holds 0; None where it is not known."""
        return None if self.lead is None else self.lead.low <= 0 <= self.lead.high


@dataclass(frozen=True)
class OnReport:
    """The winner of a study on what is kept for the report."""

    metric: str
    """The objective there: val/docs/report/loss."""
    winner: RunRecord
    value: float
    chosen: float
    """The objective that it was chosen by."""
    is_baseline: tuple[str, str] | None
    """Where the winner is itself what the others have to beat: its kind and which."""
    rivals: tuple[Rival, ...]
    anti_steered: float | None = None
    """Share of the documents on which a winner that steers does worse than doing nothing (arXiv 2407.12404)."""

    def to_json(self) -> dict[str, Any]:
        """What best and compare print under `report`."""
        return {
            "metric": self.metric,
            "value": self.value,
            "chosen": self.chosen,
            **({} if self.anti_steered is None else {"anti_steered": self.anti_steered}),
            "rivals": [
                {
                    "kind": rival.kind,
                    "name": rival.label,
                    "run": rival.run.name,
                    "number": rival.run.number,
                    "value": rival.value,
                    "lead": rival.lead.mean if rival.lead else None,
                    "interval": [rival.lead.low, rival.lead.high] if rival.lead else None,
                    "within_noise": rival.within_noise,
                }
                for rival in self.rivals
            ],
        }


def on_report(study: StudyRecord, winner: RunRecord | None = None) -> OnReport | None:
    """A study's best trial, or another one, on what is kept for the report; None where nothing is."""
    winner = winner or study.best
    objective = study.objective
    if winner is None or winner.result.objective is None or (metric := _reported(objective.metric)) not in winner.result.metrics:
        return None
    rivals: dict[str, Rival] = {}
    rival_of, candidates = _contest(study)
    for run in candidates:
        found = rival_of(run.config)
        value = run.result.metrics.get(metric)
        if found is None or found[0] in rivals or value is None:
            continue
        lead = paired_lead(winner.directory, run.directory, metric, sign=objective.sign) if run is not winner else None
        rivals[found[0]] = Rival(*found, run, value, lead)
    others = tuple(rivals[kind] for kind in RIVALS if kind in rivals and rivals[kind].run.number != winner.number)
    chosen, itself = winner.result.objective, rival_of(winner.config)
    # What is no steering moves nothing the wrong way.
    nothing = rivals.get("nothing") if itself is None else None
    moved = [] if nothing is None else _differences(winner.directory, nothing.run.directory, metric, objective.sign)
    anti_steered = statistics.fmean(difference < 0 for stratum in moved for difference, _ in stratum) if moved else None
    return OnReport(metric, winner, winner.result.metrics[metric], chosen, itself, others, anti_steered)


RivalOf = Callable[[Mapping[str, Any]], tuple[str, str] | None]
"""What a configuration is of what others have to beat: kind and which, see RIVALS; None of others."""


def _contest(study: StudyRecord) -> tuple[RivalOf, list[RunRecord]]:
    """How what the winner has to beat is known, and the trials among which it may be, the best first."""
    config = study.sweep.get("config", {})
    if config.get("model", {}).get("merge", {}).get("method"):
        return baseline_of, study.ranked
    if config.get("adapter", {}).get("name") == "steering":
        # These need not keep the bounds: a random direction that does as much at a higher price says as much of the winner.
        measured = [run for run in study.runs if run.state == "complete" and run.result.objective is not None]
        return control_of, sorted(measured, key=lambda run: study.objective.sign * (run.result.objective or 0.0))
    if study.objective.metric.startswith("preference/") and any(_objective_of(run.config) == "preference" for run in study.runs):
        return lambda config: ("sft", "objective=sft") if _objective_of(config) == "sft" else None, study.ranked
    if any(trains_on_made(run.config) for run in study.runs):
        return lambda config: None if trains_on_made(config) else ("real", ""), study.ranked
    return lambda config: None, []


def _objective_of(config: Mapping[str, Any]) -> str | None:
    name: str | None = config.get("objective", {}).get("name")
    return name


def _reported(metric: str) -> str:
    return reported(metric) if metric.count("/") > 1 else ""


def paired_lead(ours: RunDirectory, theirs: RunDirectory, metric: str, *, sign: int = 1) -> Interval | None:
    """By how much less one run has of a metric than another: a bootstrap over the documents, questions or prompts that both were measured
    on. sign: -1 for by how much more. None where they are not known."""
    strata = _differences(ours, theirs, metric, sign)
    return ratio_interval(strata) if strata else None


def _differences(ours: RunDirectory, theirs: RunDirectory, metric: str, sign: int) -> list[list[tuple[float, float]]]:
    """By set and document by how much less one run has, and its size; [] where they are not known, or not of the same documents."""
    both = list(zip(documents_behind(ours, metric), documents_behind(theirs, metric), strict=False))
    same = all(one.keys() == two.keys() and len(one) > 1 for one, two in both)
    return [[(sign * (two[key][0] - one[key][0]), one[key][1]) for key in one] for one, two in both] if same else []


def documents_behind(run: RunDirectory, metric: str) -> list[ByDocument]:
    """What each document adds to the last value of a metric; of a mean over sets, those of each set. [] where they are not known."""
    scores = run.generations.scores_by_prompt(metric)
    return [{prompt: (score, 1.0) for prompt, score in scores.items()}] if scores else run.documents.behind(metric)


Text = Callable[[float], str]


def report_lines(found: OnReport, text: Text, *, what: str = "documents that chose nothing") -> list[str]:
    """The verdict: a sentence a line. text: how a value is written; what: what is kept for the report."""
    lines = [f"{found.metric} {text(found.value)} on {what} ({text(found.chosen)} on those that it was chosen by)"]
    metrics = found.winner.result.metrics
    if AGREEMENT in metrics:
        agreement, opposed = f"{metrics[AGREEMENT]:.2f}", f"{metrics[OPPOSED]:.0%}"
        lines.append(f"its pairs agree to {agreement} (mean cosine to their mean), {opposed} of them point against the others")
    if found.anti_steered is not None:
        lines.append(f"steering moves {found.anti_steered:.0%} of these documents the wrong way")
    if found.is_baseline is not None:
        lines.append(_no_better(*found.is_baseline))
    for rival in found.rivals:
        which = ", ".join(filter(None, (RIVALS[rival.kind], rival.label)))
        where = rival.run.name if rival.run.number is None else f"trial {rival.run.number}"
        named = f"{which} ({where}, {text(rival.value)})"
        if rival.lead is None:
            why = "a set has fewer than two documents for the report, or those of the two are not at hand, or not the same"
            lines.append(f"how far it leads {named} is not known: {why}")
            continue
        interval = f"from {text(rival.lead.low)} to {text(rival.lead.high)}, bootstrap over documents"
        if rival.within_noise:
            lines.append(f"within noise: no better than {named}; it leads by {text(rival.lead.mean)} ({interval})")
        elif rival.lead.mean < 0:
            lines.append(f"worse than {named} by {text(-rival.lead.mean)} ({interval}): the choice was luck")
        else:
            lines.append(f"better than {named} by {text(rival.lead.mean)} ({interval})")
    return lines


def _no_better(kind: str, label: str) -> str:
    """The verdict on a winner that is itself what has to be beaten."""
    match kind:
        case "ingredient":
            return f"the winner is {label} alone: no merge is better"
        case "scale":
            return f"the winner is a single scale for all, {label}"
        case "mean":
            return "the winner is the mean of all models: none was left out"
        case "sft":
            return f"the winner is {RIVALS[kind]}: no loss of preferences is better"
        case "real":
            return f"the winner is {RIVALS[kind]}: no recipe is better"
        case "random":
            return f"the winner is a random direction, {label}: no direction that was found is better than chance"
        case _:
            return f"the winner is {RIVALS[kind]}: no steering is better"
