"""Small static pictures for a recipe's card: SVG that shows wherever Markdown does, without scripts, fonts or a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

from harness.report.axis import linear_ticks, log_ticks
from harness.report.figure_style import FEASIBLE
from harness.report.text import count_text, value_text

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 72, 20, 40, 48


@dataclass(frozen=True)
class Series:
    """Points of one name."""

    name: str
    points: Sequence[tuple[float, float]]
    kind: Literal["line", "steps", "dots", "stars"] = "line"
    color: str = FEASIBLE


@dataclass(frozen=True)
class Chart:
    """Series over two axes."""

    title: str
    x: str
    y: str
    series: Sequence[Series]
    x_log: bool = False
    y_range: tuple[float, float] | None = None
    """What lies outside is drawn at the edge; None: all that there is."""
    categories: Sequence[str] = field(default_factory=tuple)
    """Names of the places 0, 1, … on the x axis, where these are no numbers."""

    def render(self) -> str:
        places = [point for series in self.series for point in series.points if all(map(math.isfinite, point))]
        xs, ys = [x for x, _ in places], [y for _, y in places]
        x_axis = _Axis(-0.5, len(self.categories) - 0.5) if self.categories else _Axis(min(xs), max(xs), log=self.x_log)
        y_axis = _Axis(*(self.y_range or (min(ys), max(ys))))
        parts = [_grid(x_axis, y_axis, self.categories)]
        parts += [_drawn(series, x_axis, y_axis) for series in self.series]
        parts.append(_text(WIDTH / 2, HEIGHT - 10, self.x, anchor="middle"))
        parts.append(_text(LEFT - 8, TOP - 8, self.y, anchor="start", dx=-LEFT + 16))
        return _framed(self.title, HEIGHT, [*parts, _legend([series for series in self.series if series.name])])


def bars(title: str, shares: Sequence[tuple[str, float]]) -> str:
    """Shares of a whole as bars, one below the other."""
    height = TOP + 30 * len(shares) + 16
    left, parts = 210, []
    for index, (name, share) in enumerate(shares):
        y = TOP + 30 * index
        parts.append(_text(left - 8, y + 15, name, anchor="end"))
        parts.append(f'<rect x="{left}" y="{y + 2}" width="{max(1.0, share * (WIDTH - left - 70)):.1f}" height="18" fill="{FEASIBLE}"/>')
        parts.append(_text(left + share * (WIDTH - left - 70) + 6, y + 15, f"{share:.0%}"))
    return _framed(title, height, parts)


class _Axis:
    """Values to shares of a length, with some room at both ends."""

    def __init__(self, low: float, high: float, *, log: bool = False) -> None:
        self.log = log and low > 0
        if low == high:
            reach = abs(low) * 0.05 or 1.0
            low, high = (low / 1.5, high * 1.5) if self.log else (low - reach, high + reach)
        self.low, self.high = low, high
        room = 0.03 * (self._scaled(high) - self._scaled(low))
        self._first, self._last = self._scaled(low) - room, self._scaled(high) + room

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.log else value

    def share(self, value: float) -> float:
        inside = min(max(value, self.low), self.high)
        return (self._scaled(inside) - self._first) / (self._last - self._first)

    def ticks(self) -> list[tuple[float, str]]:
        if self.log:
            return [(tick, value_text(tick, log=True)) for tick in log_ticks(self.low, self.high) if self.low <= tick <= self.high]
        named = count_text if self.high >= 10_000 else "{:.6g}".format
        return [(tick, named(tick)) for tick in linear_ticks(self.low, self.high) if self.low <= tick <= self.high]


def _x(axis: _Axis, value: float) -> float:
    return LEFT + axis.share(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: _Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - TOP - BOTTOM)


def _grid(x_axis: _Axis, y_axis: _Axis, categories: Sequence[str]) -> str:
    ticks = [(float(index), name) for index, name in enumerate(categories)] or x_axis.ticks()
    parts = []
    for value, label in y_axis.ticks():
        y = _y(y_axis, value)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e7eb"/>')
        parts.append(_text(LEFT - 8, y + 4, label, anchor="end"))
    parts += [_text(_x(x_axis, value), HEIGHT - BOTTOM + 18, label, anchor="middle") for value, label in ticks]
    return "".join(parts) + f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}" stroke="#6b7280"/>'


def _drawn(series: Series, x_axis: _Axis, y_axis: _Axis) -> str:
    points = [(_x(x_axis, x), _y(y_axis, y)) for x, y in series.points if math.isfinite(x) and math.isfinite(y)]
    if series.kind == "dots":
        return "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{series.color}" fill-opacity="0.75"/>' for x, y in points)
    if series.kind == "stars":
        style = f'fill="none" stroke="{series.color}" stroke-width="2.5"'
        return "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" {style}/>' for x, y in points)
    if series.kind == "steps":
        points = [point for index, (x, y) in enumerate(points) for point in ([(x, points[index - 1][1])] if index else []) + [(x, y)]]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{series.color}" stroke-width="2"/>'


def _legend(series: Sequence[Series]) -> str:
    parts, x = [], float(WIDTH - RIGHT)
    for one in reversed(series):
        x -= 7.0 * len(one.name)
        parts.append(_text(x, TOP - 8, one.name))
        parts.append(f'<circle cx="{x - 9:.1f}" cy="{TOP - 12}" r="5" fill="{one.color}"/>')
        x -= 28
    return "".join(parts)


def _text(x: float, y: float, text: str, *, anchor: str = "start", dx: float = 0) -> str:
    return f'<text x="{x + dx:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _framed(title: str, height: float, parts: list[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="#374151"><title>{escape(title)}</title>'
        f'<rect width="100%" height="100%" fill="#ffffff"/>'
        f'<text x="{WIDTH / 2}" y="16" text-anchor="middle" font-size="13" font-weight="600">{escape(title)}</text>'
        + "".join(parts)
        + "</svg>\n"
    )
