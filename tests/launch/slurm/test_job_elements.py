"""Names of jobs and of elements of arrays, in all forms that Slurm prints."""

from __future__ import annotations

import pytest

from harness.launch.slurm.job_elements import JobElement, array_text, parse_elements


@pytest.mark.parametrize(
    ("text", "tasks"),
    [
        ("123", [None]),
        ("123_4", [4]),
        ("123_[4-6]", [4, 5, 6]),
        ("123_[4-6%2]", [4, 5, 6]),
        ("123_[1,3,8-9%1]", [1, 3, 8, 9]),
        ("123_[0-8:4,20]", [0, 4, 8, 20]),
        (" 123_[7] ", [7]),
    ],
)
def test_elements(text: str, tasks: list[int | None]) -> None:
    assert parse_elements(text) == [JobElement(123, task) for task in tasks]


@pytest.mark.parametrize("text", ["", "123_", "123_[1,2,...]", "123_[]", "node1", "123.batch"])
def test_what_is_no_element(text: str) -> None:
    with pytest.raises(ValueError, match=r"no job|no range"):
        parse_elements(text)


@pytest.mark.parametrize(("tasks", "text"), [([0, 1, 2, 3, 7], "0-3,7"), ([5], "5"), ([], ""), ([4, 2, 0], "0,2,4"), ([8, 9, 1], "1,8-9")])
def test_lists_of_indices(tasks: list[int], text: str) -> None:
    assert array_text(tasks) == text
    if text:
        assert [element.task for element in parse_elements(f"1_[{text}]")] == sorted(tasks)


def test_names_and_order() -> None:
    assert str(JobElement(12)) == "12"
    assert str(JobElement(12, 3)) == "12_3"
    assert sorted([JobElement(12, 10), JobElement(12, 9), JobElement(3, 1), JobElement(12)]) == [
        JobElement(3, 1),
        JobElement(12),
        JobElement(12, 9),
        JobElement(12, 10),
    ]
