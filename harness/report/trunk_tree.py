"""The tree of trunks: which run continued which, and from where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.report.comparison import Comparison
from harness.report.figure_style import BEST, INFEASIBLE, STOPPED, colour_axis, points
from harness.runs.record import RunRecord

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

LIMIT = 60
"""Most rows that are still legible."""

Gapped = list[float | None]


def trunk_tree(comparison: Comparison) -> Figure | None:
    """A line a run, from the tokens at which it left another run's trunk to its end; None where no run shared anything."""
    import plotly.graph_objects as go

    rows = drawn_rows(comparison)
    if not rows:
        return None
    height = {id(run): row for row, run in enumerate(rows)}
    trained, shared, leaves = _Lines(), _Lines(), _Lines()
    for run in rows:
        tokens, row = run.result.tokens, height[id(run)]
        trained.add(tokens.shared, row, tokens.reached, row)
        origin = comparison.origin(run)
        if origin is not None and id(origin) in height:
            leaves.add(tokens.shared, height[id(origin)], tokens.shared, row)
        elif tokens.shared:
            shared.add(0, row, tokens.shared, row)
    figure = go.Figure()
    for lines, name, line in (
        (shared, "shared with a run that is not shown", {"color": STOPPED, "width": 1.5, "dash": "dot"}),
        (leaves, "leaves the trunk", {"color": STOPPED, "width": 1.2}),
        (trained, "trained", {"width": 2.2, "color": "#2b8cc4"}),
    ):
        if lines.x:
            figure.add_trace(go.Scatter(x=lines.x, y=lines.y, name=name, mode="lines", line=line, hoverinfo="skip", connectgaps=False))
    _add_ends(figure, comparison, rows, height)
    figure.update_xaxes(title="tokens", rangemode="tozero")
    ticks = (
        {"tickvals": list(range(len(rows))), "ticktext": [_label(comparison, run) for run in rows]}
        if len(rows) <= 40
        else {"showticklabels": False}
    )
    figure.update_yaxes(range=[len(rows) - 0.4, -0.6], showgrid=False, **ticks)
    return figure


class _Lines:
    """Segments with gaps between them, as one trace."""

    def __init__(self) -> None:
        self.x: Gapped = []
        self.y: Gapped = []

    def add(self, x0: float, y0: float, x1: float, y1: float) -> None:
        self.x += [x0, x1, None]
        self.y += [y0, y1, None]


def _add_ends(figure: Figure, comparison: Comparison, rows: list[RunRecord], height: dict[int, int]) -> None:
    """Each run's end, coloured by its objective."""
    import plotly.graph_objects as go

    known = [run for run in rows if comparison.value(run) is not None and comparison.feasible(run) is not False]
    for runs, marker in (
        ([run for run in rows if comparison.value(run) is None], {"color": STOPPED, "symbol": "circle-open"}),
        ([run for run in rows if comparison.feasible(run) is False], {"color": INFEASIBLE, "symbol": "diamond-open"}),
        (known, {"color": [comparison.value(run) for run in known], "coloraxis": "coloraxis"}),
        ([run for run in rows if run is comparison.best], {"color": BEST, "symbol": "star", "size": 15}),
    ):
        if runs:
            at: dict[str, Any] = {
                "x": [run.result.tokens.reached for run in runs],
                "y": [height[id(run)] for run in runs],
            }
            figure.add_trace(go.Scatter(**at, mode="markers", marker={"size": 9, **marker}, showlegend=False, **points(comparison, runs)))
    if known:
        figure.update_layout(coloraxis=colour_axis(comparison, [value for run in known if (value := comparison.value(run)) is not None]))


def drawn_rows(comparison: Comparison) -> list[RunRecord]:
    """Runs that share tokens and the owners of their trunks, each under its origin: at most LIMIT, the best branches first."""
    kept: dict[int, RunRecord] = {}
    for run in comparison.runs:
        if run.result.tokens.shared and len(kept) < LIMIT:
            path = [run]
            while (origin := comparison.origin(path[-1])) is not None and all(origin is not other for other in path):
                path.append(origin)
            kept.update({id(member): member for member in reversed(path)})
    children: dict[int, list[RunRecord]] = {}
    roots = []
    for run in kept.values():
        origin = comparison.origin(run)
        if origin is not None and id(origin) in kept:
            children.setdefault(id(origin), []).append(run)
        else:
            roots.append(run)
    rows: list[RunRecord] = []
    waiting = sorted(roots, key=comparison.place, reverse=True)
    while waiting:
        run = waiting.pop()
        rows.append(run)
        waiting += sorted(children.pop(id(run), []), key=lambda child: (child.result.tokens.shared, -comparison.place(child)))
    return rows


def _label(comparison: Comparison, run: RunRecord) -> str:
    return str(run.number) if len(comparison.studies) == 1 and comparison.is_trial(run) else run.name
