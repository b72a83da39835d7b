"""JSON within prose."""

from __future__ import annotations

import time

import pytest

from harness.synthesis.json_in_text import first_json


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 1}', '{"a": 1}'),
        ('Sure! {"a": {"b": [1, 2]}} and {"c": 3}', '{"a": {"b": [1, 2]}}'),
        ('```json\n[{"a": "x"}]\n```', '[{"a": "x"}]'),
        ('{"a": "}]{ \\" ["} end', '{"a": "}]{ \\" ["}'),
        ('with {braces} and [x] first: {"a": null}', '{"a": null}'),
        ('{"a": [1, 2], b: 3} {"c": 4}', '{"c": 4}'),
        ('{"a": [1, 2], "b', None),
        ('{"a": [1, 2]', None),
        ('{"a": 1]', None),
        ("no JSON, 7", None),
        ("", None),
        ('{"a": NaN} []', "[]"),
    ],
)
def test_the_first_json_of_a_text(text: str, found: str | None) -> None:
    assert first_json(text) == found


@pytest.mark.parametrize("text", ["[" * 50_000, "[" * 50_000 + "]" * 50_000, '{"' + '\\"' * 50_000, "{x}" * 50_000, '["' * 50_000])
def test_no_text_takes_long(text: str) -> None:
    begun = time.process_time()
    assert first_json(text) is None
    assert time.process_time() - begun < 2
