"""The page's table of all runs; its script sorts by data-v and filters by text."""

from __future__ import annotations

import json
import shlex
from html import escape
from typing import Any

from harness.report.comparison import Comparison
from harness.report.page_head import run_again
from harness.report.text import ABSENT, bound_text, count_text, duration_text, metric_text, short_names
from harness.runs.record import RunRecord


def runs_table(comparison: Comparison) -> str:
    """A row a run, in rank order. `data-kind` is the kind of a column, for tooltips; the page leaves out those with the highest `data-keep`
    first where there is no room."""
    names = short_names(comparison.columns)
    headings = [("#", "rank", "rank"), ("run", "run", "run"), ("state", "state", "state")]
    headings += [(names[key], key, "param") for key in comparison.columns]
    bounds = {metric: bound_text(comparison.constraints.get(metric, {})) for metric in comparison.metrics}
    headings += [(f"{metric} {bound}".strip(), metric, "metric") for metric, bound in bounds.items()]
    costs = ("tokens", *_SHARING[: 2 * bool(comparison.saved)], *_TEACHERS[: bool(comparison.teachers.pools)], "time", "attempts")
    headings += [(name, name, "cost") for name in costs]
    keep = {key: place for place, key in enumerate(_by_weight(comparison), start=1)}
    head = "".join(
        f'<th scope="col" data-kind="{kind}" data-key="{escape(key)}" data-keep="{keep.get(key, "")}">'
        f'<button title="{escape(key)}">{escape(name).replace("/", "/<wbr>")}</button></th>'
        for name, key, kind in headings
    )
    rows = "\n".join(_row(comparison, run, rank) for rank, run in enumerate(comparison.runs, start=1))
    return f'<table id="runs"><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table>'


def _by_weight(comparison: Comparison) -> list[str]:
    """The columns that may be left out, what matters most first."""
    weighed = [metric for metric in comparison.trade_offs if not comparison.is_objective(metric)]
    others = [metric for metric in comparison.metrics if metric not in weighed and not comparison.is_objective(metric)]
    params = comparison.by_importance
    return list(dict.fromkeys([*params[:1], *weighed, *params[1:], "state", *others, "tokens", *_TEACHERS, "time", "attempts", *_SHARING]))


_SHARING = ("shared", "from")
_TEACHERS = ("teachers",)


def _row(comparison: Comparison, run: RunRecord, rank: int) -> str:
    params = comparison.params(run)
    tokens = run.result.tokens.reached
    started = run.result.attempts > 0
    state = comparison.shown_state(run)
    place = f"{rank if comparison.is_ranked(run) else ''}{' ★' if run is comparison.best else ' ◆' if comparison.is_pareto(run) else ''}"
    cells = [
        _cell(place, rank, title="on the Pareto front" if comparison.is_pareto(run) else ""),
        _opening(run),
        _cell(state, state, title=run.result.reason or "", kind=state),
        *(_parameter(comparison, params, key) for key in comparison.columns),
        *(_metric(comparison, run, metric) for metric in comparison.metrics),
        _cell(count_text(tokens) if started else ABSENT, tokens if started else None),
        *(_sharing(comparison, run) if comparison.saved else ()),
        *([_teachers(run)] if comparison.teachers.pools else []),
        _cell(duration_text(run.result.seconds) if started else ABSENT, run.result.seconds if started else None),
        _cell(str(run.result.attempts), run.result.attempts),
    ]
    best = ' class="best"' if run is comparison.best else ""
    marks = "pareto" if comparison.is_pareto(run) else ""
    more = escape(json.dumps(_more(run)))
    return f'<tr data-run="{escape(run.name)}" data-state="{state}" data-marks="{marks}" data-more="{more}"{best}>{"".join(cells)}</tr>'


def _opening(run: RunRecord) -> str:
    """The run's name, which opens its row."""
    name, place = escape(run.name), escape(run.location)
    return f'<td data-v="{name}" class="name" title="{place}"><button type="button" aria-expanded="false">{name}</button></td>'


def _more(run: RunRecord) -> dict[str, Any]:
    """What an open row has besides its cells: commands to copy, why it ended, its page in W&B."""
    more: dict[str, Any] = {}
    if not run.location.startswith("http"):
        more["commands"] = [("run it again", run_again(run))]
        if run.state == "complete":
            more["commands"].append(("export as a recipe", f"harness best {shlex.quote(run.name)} --export NAME"))
    if run.result.reason:
        more["reason"] = run.result.reason
    if run.page:
        more["link"] = run.page
    return more


def _parameter(comparison: Comparison, params: dict[str, Any], key: str) -> str:
    if key not in params:
        return _cell(ABSENT, None)
    text = comparison.value_text(key, params[key])
    return _cell(text, text if params[key] is None else params[key])


def _sharing(comparison: Comparison, run: RunRecord) -> tuple[str, str]:
    shared, origin = run.result.tokens.shared, comparison.origin(run)
    name = origin.name if origin else run.result.shared_from or ""
    return _cell(count_text(shared) if shared else ABSENT, shared or None), _cell(name, name or None)


def _teachers(run: RunRecord) -> str:
    used = run.result.teachers.all
    return _cell(count_text(used) if used else ABSENT, used or None)


def _metric(comparison: Comparison, run: RunRecord, metric: str) -> str:
    value = comparison.metric(run, metric)
    if comparison.is_objective(metric) and comparison.value(run) is not None:
        value = comparison.value(run)
    violated = comparison.violates(run, metric)
    if comparison.is_objective(metric) and comparison.within_noise(run):
        return _cell(f"{metric_text(value)} ~", value, title="within seed noise of the best")
    return _cell(metric_text(value), value, title="outside its bound" if violated else "", kind="violated" if violated else "")


def _cell(text: str, value: Any, *, title: str = "", kind: str = "") -> str:
    """value: what the column is sorted by; None goes last."""
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    kinds = " ".join(filter(None, (kind, "number" if numeric or text == ABSENT else "")))
    marks = "".join(f' {name}="{escape(mark)}"' for name, mark in (("class", kinds), ("title", title)) if mark)
    return f'<td data-v="{escape("" if value is None else str(value))}"{marks}>{escape(text)}</td>'
