"""Which rows of a prompt become data, and which pairs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.config.synth_schema import SelectConfig
from harness.synthesis.row import Row
from harness.synthesis.select import RowPair, select
from tests.synthesis.made import made_row


def rows_of(scores: list[float], group: str = "g") -> list[Row]:
    return [made_row(f"answer {draw}", group=group, draw=draw, s=score) for draw, score in enumerate(scores)]


def test_all() -> None:
    rows = rows_of([1, 2])
    assert select(rows, SelectConfig()) == (rows, [])


def test_the_best_of_each_prompt_and_of_equal_ones_the_first_draw() -> None:
    rows = [*rows_of([1, 3, 3, 2], "b"), *rows_of([5, 5], "a")][::-1]
    kept, rejected = select(rows, SelectConfig(name="best_of", by="s"))
    assert [row.id for row in kept] == ["a0", "b1"]
    assert [(one.row.id, one.rule, one.value) for one in rejected] == [
        *(("a1", "select.best_of", 5), ("b3", "select.best_of", 2), ("b2", "select.best_of", 3), ("b0", "select.best_of", 1)),
    ]
    kept, _ = select(rows, SelectConfig(name="best_of", by="s", lowest=True, per_prompt=2))
    assert [row.id for row in kept] == ["a1", "a0", "b3", "b0"]


def ids(pairs: list[Row] | list[RowPair]) -> list[tuple[str, str]]:
    return [(pair.chosen.id, pair.rejected.id) for pair in pairs if isinstance(pair, RowPair)]


def test_pairs_are_the_best_with_the_worst_and_so_on() -> None:
    rows = rows_of([0.1, 0.9, 0.5, 0.7, 0.3])
    pairs, rejected = select(rows, SelectConfig(name="pairs", by="s", per_prompt=9))
    assert ids(pairs) == [("g1", "g0"), ("g3", "g4")]
    assert [(one.row.id, one.rule, one.value) for one in rejected] == [("g2", "select.pairs", 0.5)]
    assert ids(select(rows, SelectConfig(name="pairs", by="s"))[0]) == [("g1", "g0")]
    assert ids(select(rows, SelectConfig(name="pairs", by="s", per_prompt=9, min_gap=0.5))[0]) == [("g1", "g0")]
    assert ids(select(rows, SelectConfig(name="pairs", by="s", per_prompt=9, lowest=True))[0]) == [("g0", "g1"), ("g4", "g3")]


def test_no_pair_of_equal_scores_or_texts() -> None:
    assert select(rows_of([1, 1, 1]), SelectConfig(name="pairs", by="s"))[0] == []
    same = [made_row("the same", draw=0, s=1), made_row("the same", draw=1, s=0)]
    assert select(same, SelectConfig(name="pairs", by="s"))[0] == []
    assert select(rows_of([1]), SelectConfig(name="pairs", by="s"))[0] == []


@given(st.lists(st.lists(st.integers(0, 4), max_size=7), max_size=4), st.integers(1, 4), st.integers(0, 3), st.booleans(), st.randoms())
def test_pairs_keep_what_is_asked_of_them(groups: list[list[int]], most: int, gap: int, lowest: bool, chance: object) -> None:
    rows = [row for index, scores in enumerate(groups) for row in rows_of(list(map(float, scores)), f"p{index}-")]
    config = SelectConfig(name="pairs", by="s", per_prompt=most, min_gap=gap, lowest=lowest)
    pairs, rejected = select(rows, config)
    used = [row.id for pair in pairs if isinstance(pair, RowPair) for row in pair]
    assert len(used) == len(set(used))
    assert sorted([*used, *(one.row.id for one in rejected)]) == sorted(row.id for row in rows)
    by_group: dict[str, int] = {}
    for pair in pairs:
        assert isinstance(pair, RowPair)
        assert pair.chosen.group == pair.rejected.group
        difference = pair.chosen.scores["s"] - pair.rejected.scores["s"]
        assert (-difference if lowest else difference) >= max(gap, 1)
        by_group[pair.chosen.group] = by_group.get(pair.chosen.group, 0) + 1
    assert all(count <= most for count in by_group.values())
    order = [rows.index(pair.chosen) for pair in pairs if isinstance(pair, RowPair)]
    assert order == sorted(order)
    # As many as there can be under these bounds: the widest gap of a group is never left out.
    for index, scores in enumerate(groups):
        wide = bool(scores) and max(scores) - min(scores) >= max(gap, 1)
        assert (f"p{index}-" in by_group) == wide
