"""Each verifier on literal rows, those of real data sets among them, and on references that cannot be used."""

from __future__ import annotations

import json
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.config.schema import GenerationConfig
from harness.evaluation.verifiers import json_document
from harness.evaluation.verifiers.build import build_verifier
from harness.evaluation.verifiers.normalised import normalised
from harness.evaluation.verifiers.number import number_in
from harness.evaluation.verifiers.verifier import BadReferenceError

DUCKS = (
    "Janet sells 16 - 3 - 4 = <<16-3-4=9>>9 duck eggs a day.\nShe makes 9 * 2 = $<<9*2=18>>18 every day at the farmer’s market.\n#### 18"
)
"""The first answer of gsm8k's test split."""
RECIPES = {"name": "search_recipes", "arguments": {"ingredients": ["chicken", "bell peppers", "rice"]}}
"""A call of glaive's function-calling conversations."""

DRAFT_4, DRAFT_7 = "http://json-schema.org/draft-04/schema#", "http://json-schema.org/draft-07/schema#"
DOUBLING = {**{str(n): {"allOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(40)}, "40": {}}


def call(name: str, **arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


@pytest.mark.parametrize(
    ("verifier", "reference", "right", "wrong"),
    [
        ("exact", "Paris", [" Paris\n"], ["paris", "Paris.", ""]),
        ("exact", 42, ["42"], ["42.0"]),
        ("normalised", "The Eiffel Tower", ["eiffel   tower.", "An EIFFEL TOWER"], ["eiffel", "tower eiffel"]),
        ("contains", "42", ["It is 42.", "(42)"], ["It is 420.", ""]),
        ("number", DUCKS, ["So she makes $18.", "#### 18", "18.00 dollars", "\\boxed{18} of 20"], ["16 eggs", "#### 9\n18", "none"]),
        ("number", 0.75, ["3/4", ".75", "75e-2"], ["3", "0.7500001"]),
        ("regex", r"^yes\b", ["yes, it is"], ["oh yes", "yesterday"]),
        (
            "json_schema",
            {"type": "object", "required": ["a"]},
            ['{"a": 1}', 'Here:\n```json\n{"a": 1}\n```\nDone.'],
            ["{}", "{'a': 1}", "a"],
        ),
        ("json_schema", {"items": {"$ref": "#/$defs/a~1b"}, "$defs": {"a/b": {"type": "string"}}}, ['["c"]', "[]"], ["[1]"]),
        (
            "json_schema",
            {"$schema": DRAFT_7, "$id": "https://example.org/a", "items": {"$ref": "#"}, "maxItems": 1},
            ["[[]]"],
            ["[[1, 2]]", "[[[1, 2]]]"],
        ),
        ("json_schema", {"$ref": "#a", "$defs": {"b": {"$anchor": "a", "type": "string"}}}, ['"c"'], ["1"]),
        ("json_schema", {"multipleOf": 0.5}, ["1.5"], ["0.3", "9" * 400]),
        (
            "json_schema",
            {"properties": {name: {"const": {"$ref": name}} for name in ("$id", "$schema", "$ref", "patternProperties", "pattern")}},
            ['{"$id": {"$ref": "$id"}}'],
            ['{"$id": {}}', '{"$ref": 1}'],
        ),
        (
            "json_schema",
            {"enum": [{"$id": "a", "$schema": "b", "patternProperties": "("}], "default": {"$ref": "c"}},
            ['{"$id": "a", "$schema": "b", "patternProperties": "("}'],
            ["{}"],
        ),
        ("tool_call", RECIPES, ["I look.\n" + call("search_recipes", ingredients=["chicken", "bell peppers", "rice"])], ["", "{}"]),
        ("tool_call", [], ["I have no tool for that."], [call("search")]),
    ],
)
def test_what_is_right_and_what_is_not(verifier: Any, reference: Any, right: list[str], wrong: list[str]) -> None:
    found = build_verifier(GenerationConfig(path="x", verifier=verifier), key="data.generation.x")
    assert found is not None
    read = found.reference(reference)
    assert [found.holds(text, read) for text in right] == [True] * len(right)
    assert [found.holds(text, read) for text in wrong] == [False] * len(wrong)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,234,567.50", "1234567.5"),
        ("1,2", "2"),
        ("12,34 and 5,678", "5678"),
        ("-5", "-5"),
        ("−5", "-5"),
        ("10-3", "3"),
        ("x = -3", "-3"),
        ("(2)-3", "3"),
        ("18.", "18"),
        ("1.2.3", "3"),
        ("2.5e-3", "1/400"),
        ("1e999999999", "999999999"),
        ("3/0", "3"),
        ("half: 1/2", "1/2"),
        ("£1,000 (10%)", "10"),
        ("#### -1,000\nnot 5", "-1000"),
        ("#### 3 #### nothing", None),
        ("no number", None),
        ("9" * 200, None),
        (r"\boxed{\frac{3}{4}}", "3/4"),
        (r"\boxed{\frac{3}{5}}", "3/5"),
        (r"\boxed{-\dfrac{3}{4}}", "-3/4"),
        (r"\boxed{\tfrac{-3}{4}} of 5", "-3/4"),
        (r"\boxed{\frac34}", "3/4"),
        (r"\boxed{\frac{1}{2}\text{ or }\frac{1}{3}}", None),
        (r"\boxed{2\frac{1}{2}}", None),
        (r"\boxed{\frac{\sqrt{3}}{4}}", None),
        (r"\boxed{\frac{3}{0}}", None),
        (r"\boxed{-\frac{-3}{4}}", None),
        (r"\boxed{2^{3}}", None),
        (r"\boxed{\text{about {1{,}234}}} or 5", "1234"),
        (r"\boxed{12", None),
        (r"it is \frac{3}{4}.", "3/4"),
        (r"it is \frac{x}{4}.", None),
        (r"it is \frac{3}{", None),
        (r"\frac{x}{4} is 5", "5"),
    ],
)
def test_the_number_that_a_text_ends_in(text: str, number: str | None) -> None:
    assert number_in(text) == (None if number is None else Fraction(number))


def test_numbers_are_found_in_time_that_grows_with_the_text() -> None:
    began = time.process_time()
    assert number_in("1,111" * 20_000 + "," + "-" * 100_000) is not None
    for latex in ("\\frac{", "\\frac{1}{", "\\frac", "{"):
        assert number_in("1" + latex * 20_000) == (1 if latex == "{" else None)
    assert number_in("\\frac{1}{2} " * 20_000) == Fraction(1, 2)
    assert time.process_time() - began < 3  # quadratic ones take minutes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The  Cat's\t“hat”!", "cats hat"),
        ("ＡＢＣ ²", "abc 2"),
        ("theatre an apple", "theatre apple"),
        ("$5.00 + 1", "500 1"),
        ("Straße", "strasse"),
        ("a", ""),
    ],
)
def test_normalised(text: str, words: str) -> None:
    assert normalised(text) == words


CALLS = [{"name": "a", "arguments": {"x": 1, "y": [True, None]}}, {"name": "b", "arguments": {}}]


@pytest.mark.parametrize(
    ("text", "is_right"),
    [
        (call("a", x=1, y=[True, None]) + call("b"), True),
        (call("b") + "and\n" + call("a", y=[True, None], x=1.0), True),
        (call("b") + call("a", x=1, y=[True, None]).removesuffix("</tool_call>"), True),
        (call("b") + call("b") + call("a", x=1, y=[True, None]), False),
        (call("a", x=1, y=[True, None]), False),
        (call("a", x=True, y=[True, None]) + call("b"), False),
        (call("a", x="1", y=[True, None]) + call("b"), False),
        (call("a", x=1, y=[None, True]) + call("b"), False),
        (call("a", x=1, y=[True, None]) + call("b") + "<tool_call>{", False),
        (json.dumps(CALLS), False),
    ],
)
def test_calls_of_tools_in_any_order(text: str, is_right: bool) -> None:
    found = build_verifier(GenerationConfig(path="x", verifier="tool_call"), key="data.generation.x")
    assert found is not None
    in_openais_form = [{"type": "function", "function": {"name": one["name"], "arguments": json.dumps(one["arguments"])}} for one in CALLS]
    for reference in (CALLS, json.dumps(CALLS), in_openais_form, call("b") + call("a", x=1, y=[True, None])):
        assert found.holds(text, found.reference(reference)) is is_right


@pytest.mark.parametrize(
    ("verifier", "reference", "said"),
    [
        ("exact", " ", "an empty text; valid: a text"),
        ("exact", {}, "an object; valid: a text"),
        ("normalised", "The.", "of which nothing is left"),
        ("number", "many", "'many', without a number; valid: a number"),
        ("number", r"\boxed{\frac{x}{2}}", "without a number; valid: a number"),
        ("number", True, "a boolean; valid: a number"),
        ("regex", "(", "no regular expression"),
        ("regex", "a" * 1001, "valid: a regular expression of 1 to 1,000 characters"),
        ("json_schema", [], "valid: a JSON schema"),
        ("json_schema", {"type": "objekt"}, "no JSON schema: $.type"),
        ("json_schema", {"$ref": "https://example.org/schema"}, "valid: references within the schema"),
        ("json_schema", {"$ref": "#/$defs/none"}, "a schema whose reference leads nowhere"),
        ("json_schema", {"properties": {"a": {"$ref": "#none"}}}, "a schema whose reference leads nowhere: #none"),
        ("json_schema", {"properties": {"a": {"$id": "https://example.org/a"}}}, "the keyword $id, which is not read here"),
        ("json_schema", {"$ref": "#"}, "a schema that refers to itself without end"),
        ("json_schema", {"$schema": 5}, "$schema: '5'; valid: http://json-schema.org/draft-04/schema, "),
        ("json_schema", {"$schema": ["x"]}, "valid: http://json-schema.org/draft-04/schema, "),
        ("json_schema", {"$schema": "https://example.org/mine"}, "valid: http://json-schema.org/draft-04/schema, "),
        ("json_schema", {"$schema": DRAFT_7, "$ref": "#a", "definitions": {"b": {"$anchor": "a"}}}, "leads nowhere: #a"),
        ("json_schema", {"items": {"$ref": "#a"}, "examples": [{"$anchor": "a"}]}, "leads nowhere: #a"),
        ("json_schema", {"$schema": DRAFT_4, "properties": {"a": {"id": "b"}}}, "the keyword id, which is not read here"),
        ("json_schema", {"$schema": DRAFT_4, "items": {"$ref": 5}}, "valid: references within the schema"),
        ("json_schema", {"items": {"$ref": "#/required"}, "required": ["a"]}, "leads to what is no schema: #/required"),
        ("json_schema", {"items": {"$ref": "#/title"}, "title": "a"}, "leads"),
        ("json_schema", {"items": {"$ref": "#/title/0"}, "title": "a"}, "leads"),
        ("json_schema", {"items": {"$ref": "#/allOf/x"}, "allOf": [{}]}, "leads nowhere"),
        ("json_schema", {"items": {"$ref": "#/aside/a"}, "aside": {"a": {"type": "objekt"}}}, "no JSON schema: $.type"),
        ("json_schema", {"items": {"$ref": "#/aside"}, "aside": {"patternProperties": {"a": {}}}}, "patternProperties, which is not read"),
        ("json_schema", {"$ref": "#/$defs/0", "$defs": DOUBLING}, "a schema that takes more than 50,000 steps"),
        ("json_schema", {"patternProperties": {"(a+)+$": {}}}, "the keyword patternProperties, which is not read here"),
        ("json_schema", {"properties": {"a": {"pattern": "("}}}, "no regular expression"),
        ("tool_call", "look it up", "no tool calls"),
        ("tool_call", {"arguments": {}}, "a call without a name"),
    ],
)
def test_a_reference_that_nothing_can_be_compared_with_is_refused(verifier: Any, reference: Any, said: str) -> None:
    found = build_verifier(GenerationConfig(path="x", verifier=verifier), key="data.generation.x")
    assert found is not None
    with pytest.raises(BadReferenceError) as refused:
        found.reference(reference)
    assert said in str(refused.value)


def test_a_pattern_that_never_ends_is_given_up_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    catastrophe = r"(a|aa|a?)+$"
    text = "a" * 60 + "b"
    of_pattern = build_verifier(GenerationConfig(path="x", verifier="regex", pattern=catastrophe), key="k")
    of_schema = build_verifier(GenerationConfig(path="x", verifier="json_schema", schema={"pattern": catastrophe}), key="k")
    assert of_pattern is not None
    assert of_schema is not None
    began = time.perf_counter()
    assert not of_pattern.holds(text, of_pattern.reference(None))
    assert not of_schema.holds(json.dumps(text), of_schema.reference(None))
    assert time.perf_counter() - began < 5
    assert caplog.text.count("takes more than 0.5 s") == 1


@pytest.mark.parametrize(
    "schema",
    [
        {"additionalProperties": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}, "type": "object"},
        {"unevaluatedProperties": False, "properties": {"a": {"$ref": "#/$defs/0"}}, "$defs": DOUBLING},
        {"properties": {"a": {"unevaluatedProperties": False, "dependentSchemas": {"a": {"$ref": "#/$defs/0"}}}}, "$defs": DOUBLING},
    ],
)
def test_a_schema_that_never_ends_is_given_up_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, schema: dict[str, Any]
) -> None:
    monkeypatch.setattr(json_document, "MOST_STEPS", 2_000)
    found = build_verifier(GenerationConfig(path="x", verifier="json_schema", schema=schema), key="k")
    assert found is not None
    read, text = found.reference(None), '{"a":' * 30 + "1" + "}" * 30
    assert not found.holds(text, read)
    assert not found.holds(text, read)
    assert caplog.text.count("takes more than 2000 steps") == 1


def test_a_pattern_is_bounded_wherever_a_reference_leads() -> None:
    schema = {"$schema": DRAFT_7, "pattern": r"(a|aa|a?)+$", "items": {"$ref": "#"}}
    found = build_verifier(GenerationConfig(path="x", verifier="json_schema", schema=schema), key="k")
    assert found is not None
    assert not found.holds(json.dumps(["a" * 60 + "b"]), found.reference(None))


def test_what_the_configuration_says_once_is_refused_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.generation\.x\.pattern: '\('"):
        build_verifier(GenerationConfig(path="x", verifier="regex", pattern="("), key="data.generation.x")
    missing = GenerationConfig(path="x", verifier="json_schema", schema_path=str(tmp_path / "none.json"))
    with pytest.raises(InputError, match=r"data\.generation\.x\.schema_path=.*none\.json: cannot be read"):
        build_verifier(missing, key="data.generation.x")
    (tmp_path / "schema.json").write_text('{"type": "array"}')
    found = build_verifier(GenerationConfig(path="x", verifier="json_schema", schema_path=str(tmp_path / "schema.json")), key="k")
    assert found is not None
    assert (found.needs_reference, found.holds("[]", found.reference(None)), found.holds("{}", found.reference(None))) == (
        False,
        True,
        False,
    )
    assert build_verifier(GenerationConfig(path="x"), key="k") is None
