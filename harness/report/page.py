"""A comparison as one self-contained HTML file."""

from __future__ import annotations

import json
from datetime import datetime
from html import escape
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from harness import __version__
from harness.report.comparison import SHOWN_STATES, Comparison
from harness.report.confirmation_table import confirmation_section
from harness.report.differences import differences_section
from harness.report.page_head import best_card, heading, tiles, title
from harness.report.panels import Panel, panels
from harness.report.runs_table import runs_table
from harness.report.samples import samples_section
from harness.report.text import short_names, value_text
from harness.runs.files import write_output

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the page; it takes the place of a file in one step."""
    write_output(path, page(comparison))


def page(comparison: Comparison) -> str:
    from plotly.offline import get_plotlyjs

    shown = panels(comparison)
    confirmation = confirmation_section(comparison.confirmed) if comparison.confirmed else ""
    differences, samples, sections = differences_section(comparison), samples_section(comparison), _sections(shown)
    titles = [
        *(["Differences"] if differences else []),
        *(["Confirmation"] if confirmation else []),
        *dict.fromkeys(panel.section for panel in shown),
        *(["Samples"] if samples else []),
    ]
    return Template(_asset("page.html")).substitute(
        title=escape(title(comparison)),
        style=_asset("page.css"),
        heading=heading(comparison),
        best=best_card(comparison),
        tiles=tiles(comparison),
        tools=_tools(comparison, titles),
        sections=differences + confirmation + sections + samples,
        runs_table=runs_table(comparison),
        example=escape(_filter_example(comparison)),
        version=escape(__version__),
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        figures=_json([[_drawing(name, figure) for name, figure in panel.views.items()] for panel in shown if panel.views]),
        plotly=get_plotlyjs() if any(panel.views for panel in shown) else "",
        script="\n".join(_asset(name) for name in SCRIPTS),
    )


SCRIPTS = ("theme.js", "plots.js", "linking.js", "highlight.js", "runs_table.js", "filter.js", "page.js")
"""In the order of their dependencies."""


def _asset(name: str) -> str:
    return files("harness.report").joinpath("browser", name).read_text(encoding="utf-8")


def _tools(comparison: Comparison, sections: list[str]) -> str:
    """The sticky bar: links to sections, filters of runs."""
    links = "".join(f'<a href="#{escape(section.lower())}">{escape(section)}</a>' for section in sections)
    states = [comparison.shown_state(run) for run in comparison.runs]
    counts = {state: states.count(state) for state in SHOWN_STATES}
    kinds = [("state", state, state, count) for state, count in counts.items() if count] if len(set(states)) > 1 else []
    if comparison.pareto:
        kinds.append(("marks", "pareto", "Pareto front", len(comparison.pareto)))
    chips = "".join(
        f'<button type="button" class="chip" aria-pressed="false" data-attribute="{attribute}" data-value="{value}">'
        f"{name} <b>{count}</b></button>"
        for attribute, value, name, count in kinds
    )
    links += '<a href="#runs-section">Runs</a>'
    return f'<div id="links">{links}</div><div id="chips">{chips}</div>'


def _filter_example(comparison: Comparison) -> str:
    """Conditions that hold of some runs of this page."""
    words = []
    names = short_names(comparison.columns)
    for key in comparison.by_importance[:1]:
        known = sorted(value for run in comparison.runs if isinstance(value := comparison.params(run).get(key), int | float))
        words += [f"{names[key]} > {value_text(known[len(known) // 2], log=comparison.is_log(key))}"] if known else []
    values = sorted(value for run in comparison.runs if (value := comparison.value(run)) is not None)
    if comparison.objective and values:
        words.append(f"{comparison.objective.metric.rpartition('/')[2]} < {value_text(values[len(values) // 2])}")
    return f"Filter: {'  '.join(words)}" if words else "Filter"


def _sections(shown: list[Panel]) -> str:
    parts = []
    indices = iter(range(len(shown)))
    for section, members in groupby(shown, key=lambda panel: panel.section):
        cards = "\n".join(_card(panel, next(indices) if panel.views else None) for panel in members)
        parts.append(f'<section id="{escape(section.lower())}"><h2>{escape(section)}</h2>\n<div class="grid">\n{cards}\n</div></section>')
    return "\n".join(parts)


def _card(panel: Panel, index: int | None) -> str:
    """index: of the figure; None if there is nothing to draw yet."""
    note = f"<p>{escape(panel.note)}</p>" if panel.note else ""
    if index is None:
        return f'<figure class="card empty {panel.width}"><figcaption><h3>{escape(panel.title)}</h3>{note}</figcaption></figure>'
    views = "".join(
        f'<button type="button" aria-pressed="{str(place == 0).lower()}" data-plot="{index}" data-view="{place}">{escape(name)}</button>'
        for place, name in enumerate(panel.views)
    )
    choice = f'<div class="views" role="group" aria-label="horizontal axis">{views}</div>' if len(panel.views) > 1 else ""
    caption = f"<figcaption>{choice}<h3>{escape(panel.title)}</h3>{note}</figcaption>"
    return f'<figure class="card {panel.width}">{caption}<div class="plot" id="plot-{index}"{_height(panel)}></div></figure>'


def _height(panel: Panel) -> str:
    """A tree is as high as it has rows."""
    if "tree" not in panel.width:
        return ""
    low, high = next(iter(panel.views.values())).layout.yaxis.range
    return f' style="height: {round(min(900, max(220, 110 + 22 * abs(high - low))))}px"'


def _drawing(name: str, figure: Figure) -> dict[str, Any]:
    drawing = json.loads(figure.to_json())
    # The page brings its own, for light and dark.
    drawing["layout"].pop("template", None)
    return {"name": name, "data": drawing["data"], "layout": drawing["layout"]}


def _json(document: Any) -> str:
    """JSON that is safe inside a script element."""
    return json.dumps(document, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
