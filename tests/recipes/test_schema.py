"""A JSON schema of the configuration is one document: a recipe has it as it was."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from harness.config.load import load
from harness.config.overrides import parse
from harness.config.private import Scrub, hydra_text
from harness.config.recipe import recipe_values
from harness.config.schema import Config
from harness.config.validate import to_plain
from harness.runs.directory import RunDirectory
from harness.runs.files import write_json, write_yaml
from harness.runs.record import RunRecord, load_run
from harness.runs.result import Result
from harness.work.recipe_export import export_recipe
from harness.work.reproduce import original_of
from tests.support.corpus import TinyText

KEY = "data.generation.ask.schema"
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "a.b": {"type": "string", "pattern": r"^\w+(\.\w+)*$"},
        "a": {"properties": {"b": {"const": 1}, "x y": {}, "(z)": {"enum": ["it's", "a: b", None]}}},
        "list": {"items": {"properties": {"c.d": {"type": "integer"}}}},
    },
    "required": ["a.b"],
}


def exported(text: TinyText, place: Path, schema: dict[str, Any]) -> tuple[RunRecord, Path]:
    """A complete run with this schema, and its bundle, under `place`/conf."""
    prompts = place / "ask.jsonl"
    prompts.write_text('{"prompt": "the"}\n')
    ask = [f"data.generation.ask.path={prompts}", "data.generation.ask.verifier=json_schema", f"{KEY}={hydra_text(schema)}"]
    config = load([*text.overrides, *ask]).config
    assert config.data.generation["ask"].schema == schema
    run = RunDirectory(place / "runs" / "asked")
    run.path.mkdir(parents=True)
    write_yaml(run.config, to_plain(config))
    result = Result(state="complete", metrics={"generation/ask/accuracy": 0.5}, step=4)
    write_json(run.path / "result.json", asdict(result))
    record = load_run(run)
    return record, export_recipe(None, record, "asked").bundle


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "conf").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_schema_comes_out_of_a_recipe_as_it_went_in(tiny_text: TinyText, place: Path) -> None:
    _, bundle = exported(tiny_text, place, SCHEMA)
    values = recipe_values(bundle / "config.yaml", template=bundle / "none.jinja")
    assert values["data"]["generation"]["ask"]["schema"] == SCHEMA
    assert not [key for key in json.loads((bundle / "bundle.json").read_text())["to_give"] if key.startswith(KEY)]
    assert load(["experiment=best/asked"]).config.data.generation["ask"].schema == SCHEMA
    _, config, _ = original_of("asked", [])
    assert config.data.generation["ask"].schema == SCHEMA


def test_what_is_private_in_a_schema_is_asked_for_and_its_owner_has_it(
    tiny_text: TinyText, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "correct-horse")
    schema = {"properties": {"a.b": {"enum": ["correct-horse", "other"]}}, "oneOf": [{"const": "see /home/ottilie/notes for it"}]}
    record, bundle = exported(tiny_text, place, schema)
    text = "".join(path.read_bytes().decode(errors="replace") for path in (*bundle.iterdir(), bundle.with_suffix(".yaml")))
    assert "correct-horse" not in text
    assert "ottilie" not in text
    to_give = json.loads((bundle / "bundle.json").read_text())["to_give"]
    assert {f"{KEY}.properties", f"{KEY}.oneOf"} <= to_give.keys()
    _, config, _ = original_of("asked", [])
    assert config.data.generation["ask"].schema == schema == record.config["data"]["generation"]["ask"]["schema"]


def test_a_schema_in_the_base_of_a_study_stays_what_it_is() -> None:
    given = f"{KEY}={hydra_text(SCHEMA)}"
    assert Scrub().overrides(parse([given], Config)) == [given]
    rewritten = Scrub(secrets=["correct-horse"]).overrides(parse([f"{KEY}={hydra_text({**SCHEMA, 'title': 'correct-horse'})}"], Config))
    found: dict[str, Any] = {}
    for override in parse(rewritten, Config):
        assert override.key.startswith(f"{KEY}.")  # type: ignore[union-attr]
        found[override.key.removeprefix(f"{KEY}.").split(".")[0]] = None  # type: ignore[union-attr]
    assert found.keys() == {*SCHEMA, "title"}
