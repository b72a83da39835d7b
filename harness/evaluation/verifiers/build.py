"""The verifier of data.generation.<name>.verifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, assert_never

from harness.config import documents
from harness.config.errors import InputError
from harness.config.locations import in_home
from harness.config.schema import GenerationConfig
from harness.evaluation.verifiers.verifier import BadReferenceError, Verifier


def build_verifier(config: GenerationConfig, *, key: str) -> Verifier | None:
    """None where nothing is verified. Raises InputError, naming the keys below `key`, for a pattern or a schema that cannot be used."""
    match config.verifier:
        case None:
            return None
        case "exact":
            from harness.evaluation.verifiers.exact import is_same, text_of

            return Verifier(text_of, is_same)
        case "normalised":
            from harness.evaluation.verifiers.normalised import has_same_words, words_of

            return Verifier(words_of, has_same_words)
        case "contains":
            from harness.evaluation.verifiers.normalised import contains_words, words_of

            return Verifier(words_of, contains_words)
        case "number":
            from harness.evaluation.verifiers.number import is_same_number, number_of

            return Verifier(number_of, is_same_number)
        case "regex":
            from harness.evaluation.verifiers.pattern import is_found, pattern_of

            return _fixed(config.pattern, f"{key}.pattern", pattern_of, is_found)
        case "json_schema":
            from harness.evaluation.verifiers.json_document import is_valid_json, schema_of

            given, named = _schema(config, key)
            return _fixed(given, named, schema_of, is_valid_json)
        case "tool_call":
            from harness.evaluation.verifiers.tool_call import are_same_calls, calls_of

            return Verifier(calls_of, are_same_calls, several=False)
        case _:
            assert_never(config.verifier)


def _fixed(given: Any, key: str, read: Callable[[Any], Any], holds: Callable[[str, Any], bool]) -> Verifier:
    """One whose reference may be the same for all rows: what the configuration has, if it has it."""
    if given is None:
        return Verifier(read, holds)
    try:
        reference = read(given)
    except BadReferenceError as error:
        raise InputError(f"{key}: {error}") from error
    return Verifier(lambda _: reference, holds, needs_reference=False, fixed=given)


def _schema(config: GenerationConfig, key: str) -> tuple[Any, str]:
    """The schema that the configuration has, and its key; None where rows have their own."""
    if config.schema_path is None:
        return config.schema or None, f"{key}.schema"
    path = in_home(config.schema_path)
    try:
        return documents.read_json(path), f"{key}.schema_path={config.schema_path}"
    except OSError as error:
        raise InputError(f"{key}.schema_path={config.schema_path}: cannot be read ({error.strerror})") from error
