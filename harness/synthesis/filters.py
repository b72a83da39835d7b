"""Which rows are kept by what was written, and why the others are not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from harness.config import documents
from harness.config.errors import InputError, wrong_value
from harness.config.locations import in_home
from harness.config.synth_schema import BoundsConfig, FiltersConfig
from harness.evaluation.verifiers.json_document import is_valid_json, schema_of
from harness.evaluation.verifiers.pattern import is_found, pattern_of
from harness.evaluation.verifiers.verifier import BadReferenceError
from harness.synthesis.row import Rejected, Row
from harness.synthesis.text_measures import MEASURES


@dataclass(frozen=True)
class Rule:
    """One filter. Rows are kept of which it finds nothing to say."""

    key: str
    found: Callable[[Row], Any]
    """What speaks against a row; None where nothing does."""


def filter_rows(rows: Iterable[Row], config: FiltersConfig) -> tuple[list[Row], list[Rejected]]:
    """The rows that every rule keeps, in their order, and the others, with the first rule that drops them. Raises InputError for a pattern
    or a schema that cannot be used."""
    rules = list(rules_of(config))
    kept, rejected = [], []
    for row in rows:
        first = next(((rule.key, value) for rule in rules if (value := rule.found(row)) is not None), None)
        if first is None:
            kept.append(row)
        else:
            rejected.append(Rejected(row, *first))
    return kept, rejected


def text_of(row: Row, field: str | None) -> str:
    """A field as text; field: null for what the last step with a template wrote. What is no text, of a seed, is written as JSON."""
    value = row.value(field or row.answer)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def rules_of(config: FiltersConfig) -> Iterator[Rule]:
    """The filters that are on, but for `finish`, which decides what later steps read (`Plan`). Raises InputError."""
    field = config.field
    if _is_on(config.tokens):
        yield Rule("filters.tokens", lambda row: _outside(_tokens(row, field), config.tokens))
    for name, bounds in config.scores.items():
        if _is_on(bounds):
            yield _score_rule(name, bounds)
    for name, measure in MEASURES.items():
        if _is_on(bounds := getattr(config, name)):
            yield _measure_rule(name, measure, bounds, field)
    for key, wanted, patterns in (("matches", True, config.matches), ("forbidden", False, config.forbidden)):
        for index, pattern in enumerate(patterns):
            yield _pattern_rule(f"filters.{key}.{index}", pattern, field, wanted=wanted)
    if config.schema_path is not None:
        yield _schema_rule(config.schema_path, field)


def _is_on(bounds: BoundsConfig) -> bool:
    return bounds.min is not None or bounds.max is not None


def _outside(value: float, bounds: BoundsConfig) -> float | None:
    """The value, where it is not within the bounds."""
    within = (bounds.min is None or value >= bounds.min) and (bounds.max is None or value <= bounds.max)
    return None if within else value


def _tokens(row: Row, field: str | None) -> int:
    """What the teacher wrote for the field, before it was parsed; of a field of a seed nobody wrote any."""
    return row.written.get(field or row.answer, 0)


def _score_rule(name: str, bounds: BoundsConfig) -> Rule:
    return Rule(f"filters.scores.{name}", lambda row: _outside(row.scores[name], bounds))


def _measure_rule(name: str, measure: Callable[[str], float], bounds: BoundsConfig, field: str | None) -> Rule:
    return Rule(f"filters.{name}", lambda row: _outside(measure(text_of(row, field)), bounds))


def _pattern_rule(key: str, pattern: str, field: str | None, *, wanted: bool) -> Rule:
    try:
        pattern_of(pattern)
    except BadReferenceError as error:
        raise InputError(f"{key}: {error}") from error
    # A pattern that takes too long has not said that the text is good.
    return Rule(key, lambda row: pattern if is_found(text_of(row, field), pattern, if_slow=not wanted) != wanted else None)


def _schema_rule(path: str, field: str | None) -> Rule:
    key = "filters.schema_path"
    try:
        schema = schema_of(documents.read_json(in_home(path)))
    except OSError as error:
        raise wrong_value(key, path, f"cannot be read ({error.strerror})") from error
    except BadReferenceError as error:
        raise wrong_value(key, path, str(error)) from error
    return Rule(key, lambda row: None if is_valid_json(text_of(row, field), schema) else "no JSON that the schema holds of")
