"""Small static pictures for a recipe's README.md: SVG that shows wherever Markdown does, without scripts, fonts or a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from harness.report.axis import linear_ticks, log_ticks
from harness.report.figure_style import FEASIBLE
from harness.report.text import count_text, value_text

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 72, WIDTH - 20, 40, HEIGHT - 48
"""Edges of the drawing area."""


@dataclass(frozen=True)
class Series:
    """Points of one name."""

    name: str
    points: Sequence[tuple[float, float]]
    kind: Literal["line", "steps", "dots", "rings", "diamonds"] = "line"
    color: str = FEASIBLE


@dataclass(frozen=True)
class Chart:
    """Series over two axes."""

    title: str
    x: str
    y: str
    series: Sequence[Series]
    """Those without points are left out."""
    x_log: bool = False
    y_range: tuple[float, float] | None = None
    """What lies outside is drawn at the edge; None: all that there is."""
    categories: Sequence[str] = ()
    """Names of the places 0, 1, … on the x axis, where these are no numbers."""

    def render(self) -> str:
        shown = [series for series in self.series if series.points]
        places = [point for series in shown for point in series.points if all(map(math.isfinite, point))]
        xs, ys = [x for x, _ in places], [y for _, y in places]
        reach = (-0.5, len(self.categories) - 0.5) if self.categories else (min(xs), max(xs))
        x_axis = _Axis(*reach, LEFT, RIGHT, log=self.x_log and not self.categories)
        y_axis = _Axis(*(self.y_range or (min(ys), max(ys))), BOTTOM, TOP)
        parts = [_grid(x_axis, y_axis, self.categories), *(_drawn(series, x_axis, y_axis) for series in shown), _legend(shown)]
        parts += [_text(WIDTH / 2, HEIGHT - 10, self.x, anchor="middle"), _text(8, TOP - 8, self.y)]
        return _framed(self.title, HEIGHT, parts)


def bars(title: str, shares: Sequence[tuple[str, float]]) -> str:
    """Shares of a whole as bars, one below the other."""
    left, parts = 210, []
    for index, (name, share) in enumerate(shares):
        y, length = TOP + 30 * index, share * (WIDTH - 280)
        parts.append(_text(left - 8, y + 15, name, anchor="end"))
        parts.append(f'<rect x="{left}" y="{y + 2}" width="{max(1.0, length):.1f}" height="18" fill="{FEASIBLE}"/>')
        parts.append(_text(left + length + 6, y + 15, f"{share:.0%}"))
    return _framed(title, TOP + 30 * len(shares) + 16, parts)


class _Axis:
    """Values to places in the picture, from `first` to `last`, with some room at both ends."""

    def __init__(self, low: float, high: float, first: float, last: float, *, log: bool = False) -> None:
        self._log = log and low > 0
        if low == high:
            reach = abs(low) * 0.05 or 1.0
            low, high = (low / 1.5, high * 1.5) if self._log else (low - reach, high + reach)
        if self._log:  # so that two values are named, however near each other all lie
            low, *_, high = log_ticks(low, high)
        self._low, self._high, self._first, self._last = low, high, first, last

    def place(self, value: float) -> float:
        inside = min(max(value, self._low), self._high)
        low, high, at = (math.log(number) if self._log else number for number in (self._low, self._high, inside))
        room = 0.03 * (high - low)
        return self._first + (at - low + room) / (high - low + 2 * room) * (self._last - self._first)

    def ticks(self) -> list[tuple[float, str]]:
        if self._log:
            named = [(tick, value_text(tick, log=True)) for tick in log_ticks(self._low, self._high)]
        else:
            name = count_text if self._high >= 10_000 else "{:.6g}".format
            named = [(tick, name(tick)) for tick in linear_ticks(self._low, self._high)]
        return [(tick, text) for tick, text in named if self._low <= tick <= self._high]


def _grid(x_axis: _Axis, y_axis: _Axis, categories: Sequence[str]) -> str:
    parts = [f'<line x1="{LEFT}" x2="{RIGHT}" y1="{BOTTOM}" y2="{BOTTOM}" stroke="#6b7280"/>']
    for value, label in y_axis.ticks():
        y = y_axis.place(value)
        parts.append(f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e7eb"/>')
        parts.append(_text(LEFT - 8, y + 4, label, anchor="end"))
    ticks = [(float(index), name) for index, name in enumerate(categories)] or x_axis.ticks()
    return "".join(parts + [_text(x_axis.place(value), BOTTOM + 18, label, anchor="middle") for value, label in ticks])


def _drawn(series: Series, x_axis: _Axis, y_axis: _Axis) -> str:
    points = [(x_axis.place(x), y_axis.place(y)) for x, y in series.points if math.isfinite(x) and math.isfinite(y)]
    if series.kind == "diamonds":
        return "".join(f'<path d="{_DIAMOND.format(x=x, y=y)}" fill="none" stroke="{series.color}" stroke-width="1.5"/>' for x, y in points)
    if series.kind in ("dots", "rings"):
        dot, ring = f'r="4" fill="{series.color}" fill-opacity="0.75"', f'r="8" fill="none" stroke="{series.color}" stroke-width="2.5"'
        return "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" {dot if series.kind == "dots" else ring}/>' for x, y in points)
    if series.kind == "steps":
        points = [point for index, (x, y) in enumerate(points) for point in ([(x, points[index - 1][1])] if index else []) + [(x, y)]]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{series.color}" stroke-width="2"/>'


_DIAMOND = "M{x:.1f},{y:.1f}m0,-5l5,5l-5,5l-5,-5z"


def _legend(series: Sequence[Series]) -> str:
    parts, x = [], float(RIGHT)
    for one in reversed(series):
        x -= 7.0 * len(one.name)
        parts.append(_text(x, TOP - 8, one.name))
        if one.kind == "diamonds":
            parts.append(f'<path d="{_DIAMOND.format(x=x - 9, y=TOP - 12.0)}" fill="none" stroke="{one.color}" stroke-width="1.5"/>')
        else:
            parts.append(f'<circle cx="{x - 9:.1f}" cy="{TOP - 12}" r="5" fill="{one.color}"/>')
        x -= 28
    return "".join(parts)


def _text(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _framed(title: str, height: float, parts: list[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="#374151"><title>{escape(title)}</title>'
        f'<rect width="100%" height="100%" fill="#ffffff"/>'
        f'<text x="{WIDTH / 2}" y="16" text-anchor="middle" font-size="13" font-weight="600">{escape(title)}</text>'
        + "".join(parts)
        + "</svg>\n"
    )
