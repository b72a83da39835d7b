"""Recipes that a tiny model of random weights can make data by."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

WORDS = ("river", "mill", "children", "trees", "def", "return", "value", "append")


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def recipe(tmp_path: Path, tiny_model: Path) -> Callable[..., Path]:
    """Writes a recipe of texts after eight prompts, two each, in shards of four rows; with further keys by dotted name."""
    from harness.config.nested import set_value

    def write(name: str = "texts", **changes: Any) -> Path:
        seeds = tmp_path / "prompts.jsonl"
        if not seeds.exists():
            write_jsonl(seeds, [{"id": f"p{number}", "prompt": f"the {word}"} for number, word in enumerate(WORDS)])
        document: dict[str, Any] = {
            "seeds": {"prompts": {"path": str(seeds)}},
            "teachers": {"teacher": {"model": str(tiny_model), "chat": False, "overrides": ["trainer.threads=1"]}},
            "steps": {"text": {"template": "{{ prompts.prompt }}", "draws": 2, "max_new_tokens": 8}},
            "filters": {"finish": ["stop", "length"]},
            "emit": "text",
            "shard_rows": 4,
        }
        for key, value in changes.items():
            set_value(document, key.replace("__", "."), value)
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document, sort_keys=False))
        return path

    return write
