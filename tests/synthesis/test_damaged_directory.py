"""A data set whose files are damaged: one message that names the file; no damage is taken for what was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.config.documents import DamagedError
from harness.config.errors import InputError
from harness.config.nested import set_value
from harness.synthesis.directory import SynthDirectory
from harness.synthesis.status import in_words, summary

RECIPE = {"name": "x", "recipe": {"budget": {"tokens": 100}}, "seeds": {}, "teachers": {}, "steps": {}, "shards": 1, "asks": 2}
WRITTEN = {"step": "text", "id": "a", "text": "x", "finish": "stop", "tokens": [2, 3]}


def directory(path: Path, recipe: Any = RECIPE, manifest: Any = None) -> SynthDirectory:
    found = SynthDirectory(path)
    found.shard_file(0).parent.mkdir()
    found.recipe.write_text(yaml.safe_dump(recipe))
    if manifest is not None:
        found.manifest.write_text(json.dumps(manifest))
    return found


def test_what_is_whole_is_told(tmp_path: Path) -> None:
    whole = directory(tmp_path, manifest={"funnel": {"prompts": 2, "kept": 1}, "rejected": {"finish": 1}, "rows": 1})
    whole.append(0, WRITTEN)
    assert summary(whole)["answers"] == {"written": 1, "asked": 2}
    assert in_words(summary(whole))[:2] == ["2 prompts → 1 kept", "  1 dropped by finish"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("shards", [1]),
        ("shards", 10**9),
        ("shards", None),
        ("shards", "4"),
        ("asks", 2.0),
        ("recipe.budget.tokens", "100"),
        ("asks", "x"),
        ("recipe.budget.tokens", "${oc.env:HOME}"),
        ("recipe", {}),
        ("name", {}),
    ],
)
def test_a_damaged_recipe_is_named(key: str, value: Any, tmp_path: Path) -> None:
    recipe = json.loads(json.dumps(RECIPE))
    set_value(recipe, key, value)
    with pytest.raises(DamagedError, match=rf"recipe\.yaml: damaged: {key}"):
        summary(directory(tmp_path, recipe))


@pytest.mark.parametrize("manifest", [{"funnel": {"prompts": "many"}}, {"funnel": None}, {"rejected": None}, {"rows": "1"}, {"sha256": 5}])
def test_a_damaged_manifest_is_named(manifest: Any, tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match=rf"manifest\.json: damaged: {next(iter(manifest))}"):
        summary(directory(tmp_path, manifest=manifest))


def test_a_row_may_hold_any_character(tmp_path: Path) -> None:
    from harness.api.data_sets import DataSet

    made = directory(tmp_path)
    assert DataSet(made).rows == []
    made.dataset.mkdir()
    made.data.write_text('{"text": "one\u2028two\x85three"}\n', encoding="utf-8")
    assert DataSet(made).rows == [{"text": "one\u2028two\x85three"}]


@pytest.mark.parametrize(
    "change",
    [
        {"id": {}},
        {"step": 1},
        {"tokens": 5},
        {"tokens": [1]},
        {"tokens": ["2", 3]},
        {"text": None},
        {"finish": []},
        {"score": "1"},
        {"error": 1},
    ],
)
def test_a_damaged_line_is_as_if_nothing_had_been_written(change: dict[str, Any], tmp_path: Path) -> None:
    whole = directory(tmp_path)
    whole.append(0, WRITTEN)
    whole.append(0, {**WRITTEN, "id": "b", **change})
    assert whole.records(0) == {("text", "a"): WRITTEN}


def test_a_line_without_an_answer_is_none(tmp_path: Path) -> None:
    whole = directory(tmp_path)
    whole.append(0, {"step": "text", "id": "a"})
    assert whole.records(0) == {}


def test_a_key_below_a_value_is_refused() -> None:
    with pytest.raises(InputError, match=r"seeds\.docs\.path: seeds\.docs holds a value there, and no keys; valid: a mapping"):
        set_value({"seeds": {"docs": []}}, "seeds.docs.path", "x")
