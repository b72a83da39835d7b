"""What the keys of data.generation must agree on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.config.checks.data import data_problems
from harness.config.schema import DataConfig, GenerationConfig


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"verifier": "exact", "pass_at": [1, 3], "draws": 2}, ".pass_at=[1, 3]: 3 of data.generation.x.draws=2 texts"),
        ({"pass_at": [1]}, ".pass_at=[1]: nothing says when a text is right; valid: a data.generation.x.verifier"),
        ({"verifier": "exact", "pattern": "a"}, ".pattern: has no effect with data.generation.x.verifier=exact: only regex reads it"),
        ({"schema": {"type": "object"}}, ".schema: has no effect with data.generation.x.verifier=null: only json_schema reads it"),
        ({"verifier": "json_schema", "schema_path": "/nowhere.json"}, ".schema_path=/nowhere.json: no such file or directory"),
        ({"reference": "gold"}, ".reference=gold: has no effect without a data.generation.x.verifier"),
        ({"prompt": "Q: {question}\\nA:"}, ".prompt: holds a backslash and an n, which is no line break"),
        ({"stop": ["\\n"]}, ".stop: holds a backslash and an n, which is no line break"),
    ],
)
def test_values_that_do_not_go_together_are_refused(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    data = DataConfig(generation={"x": GenerationConfig(path=str(tmp_path), **config)})
    [problem] = data_problems(data, trains=False)
    assert problem.startswith(f"data.generation.x{said}")


def test_one_schema_is_enough(tmp_path: Path) -> None:
    config = GenerationConfig(path=str(tmp_path), verifier="json_schema", schema={"type": "object"}, schema_path=str(tmp_path))
    assert any(
        "not beside data.generation.x.schema; give one of them" in one
        for one in data_problems(DataConfig(generation={"x": config}), trains=False)
    )
