"""Overrides of a sweep file's space and constraints, whose own keys are configuration keys and names of metrics."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from harness.config.errors import InputError, unknown, wrong_value
from harness.config.overrides import key_of, value_of
from harness.config.sweep_schema import BoundConfig
from harness.search.space import PARAMETER_KEYS

PARTS = {"space": PARAMETER_KEYS, "constraints": tuple(part.name for part in dataclasses.fields(BoundConfig))}
"""What an entry of each section is made of."""
EXAMPLES = {
    "space": "space.optim.lr.low=1e-5, space.optim.lr={low: 1e-5, high: 1e-2, log: true} or ~space.optim.lr",
    "constraints": "constraints.val/general/forgetting.max=0.5 or ~constraints.val/general/forgetting",
}


def is_of_the_question(override: str) -> bool:
    """Whether an override is about the space or the constraints."""
    return key_of(override).split(".")[0] in PARTS


def with_question(document: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """A sweep file's content with overrides of its space and constraints: a part of an entry, an entry, or, after ~, one that goes.

    Raises InputError for what is no such override; whether the result makes sense is for those who read it.
    """
    changed = copy.deepcopy(document)
    for text in overrides:
        section, _, key = key_of(text).partition(".")
        valid = f"valid: {EXAMPLES[section]}"
        entries = changed.get(section) or {}
        if not key or not isinstance(entries, dict):
            raise InputError(f"{text!r}: which of {section}? {valid}")
        changed[section] = entries
        if text.startswith("~"):
            if key not in entries:
                raise unknown(f"entry of {section}", key, entries, where=repr(text))
            del entries[key]
            continue
        if "=" not in text:
            raise InputError(f"{text!r}: no value; {valid}")
        value = value_of(text)
        entry, _, part = key.rpartition(".")
        if isinstance(value, dict) and not (part == "when" and entry in entries):
            entries[key] = value
        elif part in PARTS[section] and entry:
            if not isinstance(entries.setdefault(entry, {}), dict):
                raise wrong_value(f"{section}.{entry}", entries[entry], "is no mapping, of which a part could be changed")
            entries[entry][part] = value
        else:
            raise wrong_value(f"{section}.{key}", value, valid)
    return changed
