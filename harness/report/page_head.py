"""The top of a page: the question, what it cost, and the answer."""

from __future__ import annotations

import shlex
from collections import Counter
from html import escape
from typing import Any

from harness.report.comparison import SHOWN_STATES, Comparison
from harness.report.confirmation_table import how_to_confirm, verdict
from harness.report.history import hour_unit
from harness.report.text import bound_text, count_text, duration_text, metric_text
from harness.report.why_best import edges, reasons
from harness.runs.on_report import on_report, report_lines
from harness.runs.record import RunRecord


def title(comparison: Comparison) -> str:
    if comparison.studies:
        return ", ".join(study.name for study in comparison.studies)
    if len(comparison.runs) == 1:
        return comparison.runs[0].name
    return f"{len(comparison.runs)} runs"


def heading(comparison: Comparison) -> str:
    """The study's name, and the question that it asks."""
    kind = {0: "Comparison" if len(comparison.runs) > 1 else "Run", 1: "Study"}.get(len(comparison.studies), "Studies")
    return f'<p class="kind">{kind}</p><h1>{escape(title(comparison))}</h1>{_question(comparison)}'


def tiles(comparison: Comparison) -> str:
    """What the question took."""
    return f'<dl class="tiles">{_tiled(_costs(comparison))}</dl>'


def _tiled(figures: list[tuple[str, str, str]]) -> str:
    return "".join(
        f'<div class="tile"><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(more)}</small></dd></div>'
        for name, value, more in figures
    )


def _question(comparison: Comparison) -> str:
    objective = comparison.objective
    if objective is None:
        return ""
    text = " and ".join(f"{escape(each.direction)} <code>{escape(each.metric)}</code>" for each in comparison.objectives)
    bounds = [f"<code>{escape(metric)}</code> {bound_text(bound)}" for metric, bound in comparison.constraints.items()]
    return f'<p class="question">{text}{" subject to " + " and ".join(bounds) if bounds else ""}</p>'


def _costs(comparison: Comparison) -> list[tuple[str, str, str]]:
    """Name, value, and what else there is to know."""
    states = Counter(comparison.shown_state(run) for run in comparison.runs)
    tokens = [run.result.tokens for run in comparison.runs]
    trained, shared = sum(t.trained for t in tokens), sum(t.shared for t in tokens)
    seconds = sum(run.result.seconds for run in comparison.runs)
    counts = [f"{states[state]} {state}" for state in SHOWN_STATES if states[state]]
    tiles = [("Trials" if all(map(comparison.is_trial, comparison.runs)) else "Runs", str(len(comparison.runs)), " · ".join(counts))]
    if comparison.pareto:
        tiles.append(
            (
                "Pareto front",
                f"{len(comparison.pareto)} run{'s' if len(comparison.pareto) > 1 else ''}",
                f"of {' and '.join(comparison.trade_offs)}",
            )
        )
    if comparison.noise:
        noise = comparison.noise
        tiles.append(
            ("Seed noise", f"± {metric_text(noise.sd)}", f"sd; differences below {metric_text(noise.least_difference)} say nothing")
        )
    whole = f"{(trained + shared) / max(1, trained):.2f} × as many without trunks: {count_text(shared)} shared"
    read = sum(t.read for t in tokens)
    if trained or not read:
        tiles.append(("Tokens trained", count_text(trained), whole if shared else ""))
    if read:
        tiles.append(("Tokens read", count_text(read), "by runs that train nothing"))
    if (teachers := comparison.teachers).pools:
        saved = f"{count_text(teachers.spent + teachers.saved)} without sharing" if teachers.saved else ""
        tiles.append(("Teachers' tokens", count_text(teachers.spent), saved))
    hours = sum(run.device_hours for run in comparison.runs)
    tiles.append(("Run time", duration_text(seconds), f"summed over runs; {hours:.3g} {hour_unit(comparison)}"))
    budgets = [study.sweep.get("budget") or {} for study in comparison.studies]
    if len(budgets) == 1 and budgets[0]:
        limit, *more = [_budget(unit, limit) for unit, limit in budgets[0].items()]
        tiles.append(("Budget", limit, " · ".join(more)))
    return tiles


def _budget(unit: str, limit: Any) -> str:
    return f"{count_text(float(limit))} {unit.replace('_', ' ')}"


def best_card(comparison: Comparison) -> str:
    """The best trial's parameters, or why there is none."""
    best = comparison.best
    if best is None:
        if not comparison.studies:
            return ""
        complete = any(run.state == "complete" for run in comparison.runs)
        why = ["No complete trial meets the constraints." if complete else "No trial is complete yet."]
        why += [
            f"Nearest: {run.name}, {', '.join(study.breaks(run))}." for study in comparison.studies if (run := study.nearest) is not None
        ]
        words = "".join(f"<p>{escape(line)}</p>" for line in why)
        return f'<section class="card best"><h2>Best trial</h2>{words}</section>'
    params, at_edge = comparison.params(best), edges(comparison)
    entries = [(key, comparison.value_text(key, params[key]), at_edge.get(key, "")) for key in params]
    means = comparison.winner.metrics if comparison.winner else {}
    metrics = [
        (metric, metric_text(means.get(metric, comparison.metric(best, metric))), bound_text(comparison.constraints.get(metric, {})))
        for metric in comparison.metrics
        if not comparison.is_objective(metric)
    ]
    what = "Confirmed winner" if comparison.winner else "Best trial" if comparison.is_trial(best) else "Best run"
    figures = [(reason.name, reason.figure, reason.words) for reason in reasons(comparison)]
    return (
        f'<section class="card best"><h2>{what}: {escape(best.name)}</h2>{_verdict(comparison)}'
        f'<dl class="tiles">{_tiled(figures)}</dl>'
        f'<div class="pairs"><dl>{_pairs(entries)}</dl><dl class="numbers">{_pairs(metrics)}</dl></div>'
        f"<p>{_how_to_run_again(best)}</p></section>"
    )


def _verdict(comparison: Comparison) -> str:
    """How far the winner can be trusted, in a sentence or two."""
    if comparison.confirmed is not None:
        words = verdict(comparison.confirmed)[:1] if comparison.winner else verdict(comparison.confirmed)
    elif len(comparison.studies) == 1 and comparison.studies[0].confirms is None:
        words = [f"not confirmed: one seed; {how_to_confirm(comparison.studies[0])}"]
    else:
        words = []
    if len(comparison.studies) == 1 and (found := on_report(comparison.studies[0])):
        words += report_lines(found, metric_text)
    return "".join(f'<p class="verdict">{_with_code(as_sentence(line))}.</p>' for line in words)


def as_sentence(words: str) -> str:
    """With a capital, unless it begins with a name such as val/loss."""
    return words[:1].upper() + words[1:] if words.split(" ")[0].strip(",:;").isalpha() else words


def _with_code(words: str) -> str:
    """What stands between backticks is a command."""
    parts = escape(words).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))


def _how_to_run_again(best: RunRecord) -> str:
    if best.location.startswith("http"):
        return f'In W&B: <a href="{escape(best.location)}"><code>{escape(best.location)}</code></a>'
    return f"Run it again: <code>{escape(run_again(best))}</code>"


def run_again(run: RunRecord) -> str:
    """The command that trains a run's configuration again."""
    return f"harness train --config {shlex.quote(str(run.directory.config))}"


def _pairs(entries: list[tuple[str, str, str]]) -> str:
    """Name, value, and what is to be said of it."""
    return "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}{f'<small>{escape(more)}</small>' if more else ''}</dd></div>"
        for name, value, more in entries
    )
