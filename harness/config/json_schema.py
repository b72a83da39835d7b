"""JSON Schema of the files that people write, for editors: completion, documentation and valid values while they type."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from harness.config.introspect import Field, fields_of, keys
from harness.config.launcher_schema import LauncherConfig
from harness.config.locations import choices, groups
from harness.config.schema import Config
from harness.config.sweep_schema import BoundConfig, SweepConfig
from harness.config.synth_schema import SynthConfig

DIALECT = "http://json-schema.org/draft-07/schema#"
NUMBER_TEXT = {"type": "string", "pattern": r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?([eE][-+]?[0-9]+)?$"}
"""To YAML 1.2 2_000_000 is text, and 1e-4 to YAML 1.1; the harness reads both as numbers."""
REFERENCE = {"type": "string", "pattern": r"^\?\?\?$|\$\{"}
"""What Hydra resolves: a value that must be given, or one that stands elsewhere."""
PARAMETER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "low": {"anyOf": [{"type": "number"}, NUMBER_TEXT], "description": "The lower end of a range."},
        "high": {"anyOf": [{"type": "number"}, NUMBER_TEXT], "description": "The upper end of a range."},
        "log": {"type": "boolean", "description": "Whether it is searched on a log scale."},
        "step": {"anyOf": [{"type": "number"}, NUMBER_TEXT], "description": "The range in steps from low."},
        "multiple_of": {"anyOf": [{"type": "number"}, NUMBER_TEXT], "description": "What lies between is moved to the nearest multiple."},
        "choices": {"type": "array", "minItems": 1, "description": "Values of the key, or choices of the group."},
        "ordered": {"type": "boolean", "description": "Whether the choices stand in an order, from which models learn."},
        "when": {"type": "object", "description": "Active only while other parameters have these values: {schedule: wsd}."},
    },
    "additionalProperties": False,
}


def file_schema(kind: str) -> dict[str, Any]:
    """The schema of a file: `sweep`, `experiment`, `launcher` or `synth`."""
    definitions: dict[str, Any] = {}
    match kind:
        case "sweep":
            body = _sweep(definitions)
        case "experiment":
            body = _section(Config, definitions)
            body["properties"]["defaults"] = {"type": "array", "description": "Choices of groups: override /schedule: wsd"}
        case "synth":
            body = _section(SynthConfig, definitions)
            for section, key in (("select", "name"), ("emit", "format")):  # one word may stand for the section
                properties = body["properties"]
                word = properties[section]["properties"][key]
                properties[section] = {"anyOf": [word, properties[section]], "description": properties[section]["description"]}
            step = body["properties"]["steps"]["additionalProperties"]["properties"]
            step["sampling"] = {"anyOf": [{"type": "string", "enum": choices("sampling")}, step["sampling"]]}
        case _:
            body = _section(LauncherConfig, definitions)
            body["properties"]["defaults"] = {"type": "array", "description": "Profiles of launchers that this one begins with."}
    return {"$schema": DIALECT, "title": f"harness: {kind}", **body, **({"definitions": definitions} if definitions else {})}


def _sweep(definitions: dict[str, Any]) -> dict[str, Any]:
    body = _section(SweepConfig, definitions)
    properties = body["properties"]
    for group in ("search", "stopping", "launcher"):
        properties[group] = {
            "anyOf": [{"type": "string", "enum": choices(group)}, properties[group]],
            "description": _about(SweepConfig, group),
        }
    one = properties["objective"]
    properties["objective"] = {"anyOf": [one, {"type": "array", "minItems": 1, "items": one}], "description": one["description"]}
    properties["constraints"] = {
        "type": "object",
        "additionalProperties": _section(BoundConfig, definitions),
        "description": _about(SweepConfig, "constraints"),
    }
    definitions["parameter"] = PARAMETER
    parameter: dict[str, Any] = {"$ref": "#/definitions/parameter"}
    named: dict[str, Any] = {}
    patterns: dict[str, Any] = {}
    for key, item in keys(Config):
        entry = {"allOf": [parameter], "description": item.doc}
        if "<name>" in key:
            patterns[f"^{key.replace('.', '[.]').replace('<name>', '[^.]+')}$"] = entry
        else:
            named[key] = entry
    for group in groups():
        if "/" not in group:
            named[group] = {"allOf": [parameter], "description": f"Choices of the group: {', '.join(choices(group))}"}
    open_keys = [key for key, item in keys(Config) if item.is_open]
    patterns |= {f"^{key.replace('.', '[.]').replace('<name>', '[^.]+')}[.]": parameter for key in open_keys}
    properties["space"] = {
        "type": "object",
        "properties": named,
        "patternProperties": patterns,
        "additionalProperties": False,
        "description": _about(SweepConfig, "space"),
    }
    return body


def _about(section: type, name: str) -> str:
    return fields_of(section)[name].doc


def _section(section: type, definitions: dict[str, Any]) -> dict[str, Any]:
    """Every key may be left out: what a file does not say stands in the schema or in what it is merged over."""
    properties = {name: dict(_field(item, definitions)) for name, item in fields_of(section).items()}
    return {"type": "object", "properties": properties, "additionalProperties": False, "description": (section.__doc__ or "").strip()}


def _field(item: Field, definitions: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    if item.section:
        yield from _section(item.section, definitions).items()
        return
    if item.entries:
        yield from {"type": "object", "additionalProperties": _section(item.entries, definitions)}.items()
    else:
        yield "anyOf", [_leaf(item, definitions), REFERENCE]
    if item.doc:
        yield "description", item.doc
    default = item.default
    if default is not dataclasses.MISSING and isinstance(default, bool | int | float | str | None):
        yield "default", default


def _leaf(item: Field, definitions: dict[str, Any]) -> dict[str, Any]:
    """What pydantic takes for this type, with numbers as people write them."""
    from pydantic import TypeAdapter

    found = TypeAdapter(item.annotation).json_schema(ref_template="#/definitions/{model}")
    definitions.update(found.pop("$defs", {}))
    loose: dict[str, Any] = _with_number_texts(found)
    return loose


def _with_number_texts(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_with_number_texts(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("type") in ("number", "integer"):
        return {"anyOf": [schema, NUMBER_TEXT]}
    return {key: _with_number_texts(value) for key, value in schema.items() if key != "default"}
