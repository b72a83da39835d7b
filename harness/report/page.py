"""A comparison as one HTML file that needs nothing else: no network, no server, no other file."""

from __future__ import annotations

import json
from datetime import datetime
from html import escape
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from string import Template
from typing import Any

from harness import __version__
from harness.report.comparison import Comparison
from harness.report.confirmation import confirmation_section
from harness.report.listing import listing
from harness.report.panels import Panel, panels
from harness.report.summary import best_card, heading, title
from harness.runs.files import write_text


def write_page(comparison: Comparison, path: Path) -> None:
    """Write the page; it takes the place of `path` in one step."""
    write_text(path, page(comparison))


def page(comparison: Comparison) -> str:
    from plotly.offline import get_plotlyjs

    shown = panels(comparison)
    assets = files("harness.report")
    return Template(assets.joinpath("page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title(comparison)),
        heading=heading(comparison),
        best=best_card(comparison),
        sections=(confirmation_section(comparison.confirmed) if comparison.confirmed else "") + _sections(shown),
        listing=listing(comparison),
        version=escape(__version__),
        written=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        figures=_json([_drawing(panel) for panel in shown]),
        plotly=get_plotlyjs() if shown else "",
        script=assets.joinpath("page.js").read_text(encoding="utf-8"),
    )


def _sections(shown: list[Panel]) -> str:
    parts = []
    for section, members in groupby(enumerate(shown), key=lambda item: item[1].section):
        cards = "\n".join(_card(index, panel) for index, panel in members)
        parts.append(f'<section id="{escape(section.lower())}"><h2>{escape(section)}</h2>\n<div class="grid">\n{cards}\n</div></section>')
    return "\n".join(parts)


def _card(index: int, panel: Panel) -> str:
    note = f"<p>{escape(panel.note)}</p>" if panel.note else ""
    caption = f"<figcaption><h3>{escape(panel.title)}</h3>{note}</figcaption>"
    return f'<figure class="card {panel.width}">{caption}<div class="plot" id="plot-{index}"></div></figure>'


def _drawing(panel: Panel) -> dict[str, Any]:
    drawing = json.loads(panel.figure.to_json())
    # The page brings its own, for light and dark.
    drawing["layout"].pop("template", None)
    return {"data": drawing["data"], "layout": drawing["layout"]}


def _json(document: Any) -> str:
    """JSON that can stand inside a script element, whatever users wrote into it."""
    return json.dumps(document, separators=(",", ":")).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
