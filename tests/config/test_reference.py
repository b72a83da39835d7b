"""Keys explain themselves, and docs/config.md says the same."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness.config import schema, sweep_schema
from harness.config.introspect import describe, fields_of, keys
from harness.config.reference import reference
from harness.config.schema import Config, Section
from harness.config.sweep_schema import SweepConfig

ROOT = Path(__file__).parent.parent.parent
SECTIONS = [
    value
    for module in (schema, sweep_schema)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, Section) and dataclasses.is_dataclass(value)
]


def test_docs_are_what_the_schemas_say() -> None:
    assert (ROOT / "docs/config.md").read_text() == reference(), "stale: run `make docs`"


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_section_and_every_key_is_documented(section: type) -> None:
    assert section.__doc__, section
    # A dataclass without a docstring gets its signature for one.
    assert not section.__doc__.startswith(f"{section.__name__}("), section
    undocumented = [name for name, item in fields_of(section).items() if not item.doc and not item.section]
    assert not undocumented


@pytest.mark.parametrize("root", [Config, SweepConfig])
def test_every_key_says_what_is_valid_and_stands_in_the_reference(root: type) -> None:
    text = reference()
    for key, item in keys(root):
        assert describe(item.annotation) not in ("a section", ""), key
        assert f"| `{key}` |" in text, key


def test_every_section_says_what_it_holds_in_the_reference() -> None:
    text = reference()
    for section in SECTIONS:
        if section not in (Config, SweepConfig):
            assert section.__doc__ is not None
            assert section.__doc__.splitlines()[0] in text


def test_choices_stand_in_the_section_of_their_group() -> None:
    run, _, sweep = reference().partition("## A sweep file")
    schedule = run.partition("### `schedule`")[2].partition("\n### ")[0]
    assert "- `wsd`" in schedule
    assert "Choices of the group, `objective=…`" in run
    # The objective of a study is no group, though it shares its name with one of a run.
    assert "Choices of the group, `objective=…`" not in sweep
    assert "- `tpe`" in sweep
