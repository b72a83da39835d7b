"""The JSON Schema of files that people write takes what the harness takes, and nothing else; checked by the keywords that it uses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.config.json_schema import file_schema
from harness.config.locations import shipped

TYPES: dict[str, Any] = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
TYPES |= {"number": (int, float), "integer": int}
KINDS = ("sweep", "experiment", "launcher", "synth")
FILES = [
    (kind, path)
    for kind, folder in (("sweep", "sweeps"), ("experiment", "conf/experiment"), ("launcher", "conf/launcher"), ("synth", "synth"))
    for path in sorted((shipped(folder.split("/")[0]) / "/".join(folder.split("/")[1:])).glob("*.yaml"))
]


def is_valid(value: Any, schema: Any, root: dict[str, Any]) -> bool:
    """Whether a value is valid, by the keywords of draft 7 that our schemas use."""
    if isinstance(schema, bool):
        return schema
    checks = [_holds(word, given, value, schema, root) for word, given in schema.items()]
    return all(checks)


def _holds(word: str, given: Any, value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    match word:
        case "$ref":
            return is_valid(value, root["definitions"][given.rpartition("/")[2]], root)
        case "anyOf":
            return any(is_valid(value, part, root) for part in given)
        case "allOf":
            return all(is_valid(value, part, root) for part in given)
        case "type":
            is_flag = isinstance(value, bool) and given in ("number", "integer")
            is_whole = given == "integer" and isinstance(value, float) and value.is_integer()
            return (isinstance(value, TYPES[given]) and not is_flag) or is_whole
        case "enum":
            return value in given
        case "const":
            return bool(value == given)
        case "pattern":
            return not isinstance(value, str) or re.search(given, value) is not None
        case "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum":
            return not isinstance(value, int | float) or _within(word, value, given)
        case "minItems" | "minLength":
            return not isinstance(value, list | str) or len(value) >= given
        case "maxItems":
            return not isinstance(value, list) or len(value) <= given
        case "items":
            return not isinstance(value, list) or all(is_valid(item, given, root) for item in value)
        case "prefixItems":
            return not isinstance(value, list) or all(is_valid(item, part, root) for item, part in zip(value, given, strict=False))
        case "required":
            return not isinstance(value, dict) or set(given) <= set(value)
        case "properties":
            return not isinstance(value, dict) or all(is_valid(value[key], part, root) for key, part in given.items() if key in value)
        case "patternProperties":
            return not isinstance(value, dict) or all(
                is_valid(item, part, root) for pattern, part in given.items() for key, item in value.items() if re.search(pattern, key)
            )
        case "additionalProperties":
            known = schema.get("properties", {})
            patterns = schema.get("patternProperties", {})
            others = [] if not isinstance(value, dict) else [key for key in value if key not in known]
            return all(is_valid(value[key], given, root) for key in others if not any(re.search(pattern, key) for pattern in patterns))
        case "$schema" | "title" | "description" | "default" | "definitions":
            return True
    raise AssertionError(f"a keyword that this validator does not know: {word}")


def _within(word: str, value: float, bound: float) -> bool:
    exclusive = value > bound if word.lower().endswith("minimum") else value < bound
    return exclusive or (value == bound and not word.startswith("exclusive"))


@pytest.fixture(scope="module")
def schemas() -> dict[str, dict[str, Any]]:
    return {kind: json.loads(json.dumps(file_schema(kind), allow_nan=False)) for kind in KINDS}


@pytest.mark.parametrize(("kind", "path"), FILES, ids=[f"{kind} {path.stem}" for kind, path in FILES])
def test_files_that_ship_are_valid(schemas: dict[str, dict[str, Any]], kind: str, path: Path) -> None:
    assert is_valid(yaml.safe_load(path.read_text()), schemas[kind], schemas[kind])


WRONG = {
    "a key that does not exist": ("sweep", {"objectiv": {"metric": "val/x/loss"}}),
    "a parameter that does not exist": ("sweep", {"space": {"optim.lrr": {"low": 1, "high": 2}}}),
    "a part of a parameter": ("sweep", {"space": {"optim.lr": {"lo": 1, "high": 2}}}),
    "a search that does not exist": ("sweep", {"search": "tpee"}),
    "a direction": ("sweep", {"objective": {"metric": "x", "direction": "down"}}),
    "a budget of none": ("sweep", {"budget": {"trials": 0}}),
    "a key of a section": ("experiment", {"optim": {"learning_rate": 1e-3}}),
    "text for a number": ("experiment", {"optim": {"lr": "fast"}}),
    "a negative rate": ("experiment", {"optim": {"lr": -1}}),
    "a key of a source": ("experiment", {"data": {"sources": {"docs": {"pth": "x"}}}}),
    "a list for a section": ("launcher", {"environment": ["A=1"]}),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_the_harness_refuses_an_editor_marks(schemas: dict[str, dict[str, Any]], name: str) -> None:
    kind, document = WRONG[name]
    assert not is_valid(document, schemas[kind], schemas[kind])


RIGHT = {
    "numbers as people write them": ("experiment", {"trainer": {"max_tokens": "2_000_000"}, "optim": {"lr": "1e-4"}}),
    "a value that must be given, or stands elsewhere": ("experiment", {"optim": {"lr": "???"}, "seed": "${oc.env:SEED}"}),
    "several objectives": ("sweep", {"objective": [{"metric": "a"}, {"metric": "b", "direction": "maximize"}]}),
    "a search with keys": ("sweep", {"search": {"name": "tpe", "startup_trials": 6}}),
    "a parameter of a source": ("sweep", {"space": {"data.sources.docs.weight": {"choices": [1, 2]}}}),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_the_harness_takes_an_editor_takes(schemas: dict[str, dict[str, Any]], name: str) -> None:
    kind, document = RIGHT[name]
    assert is_valid(document, schemas[kind], schemas[kind])


def test_keys_carry_their_documentation(schemas: dict[str, dict[str, Any]]) -> None:
    rate = schemas["experiment"]["properties"]["optim"]["properties"]["lr"]
    assert rate["description"]
    assert schemas["sweep"]["properties"]["space"]["properties"]["optim.lr"]["description"] == rate["description"]
