"""Which of the rows that answer the same prompt become data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, assert_never

from harness.config.synth_schema import SelectConfig
from harness.synthesis.row import Rejected, Row


class RowPair(NamedTuple):
    """A better answer to a prompt and a worse one."""

    chosen: Row
    rejected: Row


def select(rows: Sequence[Row], config: SelectConfig) -> tuple[list[Row] | list[RowPair], list[Rejected]]:
    """The rows, or pairs of them, that become data, in the order of the rows (pairs: of the chosen ones); and the rows that do not.

    best_of: of each group of draws the `per_prompt` best, of equal ones the lower draw. pairs: the best with the worst, the second with
    the second worst, and so on, as long as their scores lie at least min_gap apart and their texts differ: no answer is in two pairs.
    """
    match config.name:
        case "all":
            return list(rows), []
        case "best_of":
            best = {row.id for group in _groups(rows) for row in _ranked(group, config)[: config.per_prompt]}
            return [row for row in rows if row.id in best], _others(rows, best, config)
        case "pairs":
            place = {row.id: index for index, row in enumerate(rows)}
            pairs = [pair for group in _groups(rows) for pair in _pairs(_ranked(group, config), config)]
            pairs.sort(key=lambda pair: place[pair.chosen.id])
            return pairs, _others(rows, {row.id for pair in pairs for row in pair}, config)
        case _:
            assert_never(config.name)


def _groups(rows: Iterable[Row]) -> list[list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    return list(groups.values())


def _score(config: SelectConfig) -> Callable[[Row], float]:
    """Of a row: higher is better."""
    by, sign = str(config.by), -1.0 if config.lowest else 1.0
    return lambda row: sign * row.scores[by]


def _ranked(group: Sequence[Row], config: SelectConfig) -> list[Row]:
    """The best first."""
    score = _score(config)
    return sorted(group, key=lambda row: (-score(row), row.draw, row.id))


def _pairs(ranked: Sequence[Row], config: SelectConfig) -> list[RowPair]:
    score = _score(config)
    found: list[RowPair] = []
    for better, worse in zip(ranked[: len(ranked) // 2], reversed(ranked), strict=False):
        gap = score(better) - score(worse)
        if len(found) == config.per_prompt or gap <= 0 or gap < config.min_gap:
            break
        if better.value(better.answer) != worse.value(worse.answer):
            found.append(RowPair(better, worse))
    return found


def _others(rows: Sequence[Row], used: set[str], config: SelectConfig) -> list[Rejected]:
    return [Rejected(row, f"select.{config.name}", row.scores[str(config.by)]) for row in rows if row.id not in used]
