"""What the keys of a recipe must agree on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Literal

from harness.config.errors import InputError
from harness.config.schema import GenerationConfig
from harness.config.synth_schema import StepConfig, SynthConfig, TeacherConfig
from harness.evaluation.verifiers.build import build_verifier
from harness.evaluation.verifiers.pattern import pattern_of
from harness.evaluation.verifiers.verifier import BadReferenceError, Verifier

StepKind = Literal["template", "verify", "judge", "nll"]
KINDS: tuple[StepKind, ...] = ("template", "verify", "judge", "nll")
JSON = "json"
"""The value of `parse` that is no pattern."""
NAME = re.compile(r"[^\W\d]\w*", re.ASCII)
ASKS = ("teacher", "system", "sampling", "max_new_tokens", "stop", "parse", "retries")
READ_BY: dict[StepKind, tuple[str, ...]] = {
    "template": (*ASKS, "draws", "schema_path"),
    "judge": ASKS,
    "verify": ("field", "reference", "pattern", "schema_path"),
    "nll": ("field",),
}
"""Keys of a step that its kind reads."""
OF_ENDPOINTS = ("engine", "extra_body", "key_env", "requests", "timeout_seconds", "attempts")
"""Keys of a teacher that only one behind an endpoint reads."""


def kind_of(step: StepConfig) -> StepKind:
    """What a step does, of a recipe that was checked."""
    return next(kind for kind in KINDS if getattr(step, kind) is not None)


def last_written(config: SynthConfig) -> str:
    """The last step with a template, of a recipe that was checked."""
    return [name for name, step in config.steps.items() if step.template is not None][-1]


def scores_of(config: SynthConfig) -> list[str]:
    """The steps that give a score."""
    return [name for name, step in config.steps.items() if step.template is None]


def verifier_of(config: SynthConfig, step: str) -> Verifier:
    """The verifier of a step. Raises InputError."""
    one = config.steps[step]
    given = GenerationConfig(path="-", verifier=one.verify, pattern=one.pattern, schema_path=one.schema_path)
    found = build_verifier(given, key=f"steps.{step}")
    assert found is not None, "a step that verifies"
    return found


def recipe_problems(config: SynthConfig) -> Iterator[str]:
    """One line a problem."""
    for section in ("seeds", "teachers", "steps"):
        if not getattr(config, section):
            yield f"{section}: none; valid: at least one"
        for name in getattr(config, section):
            if not NAME.fullmatch(name):
                yield f"{section}.{name}: no name that a template can say; valid: letters, digits and _"
    for name in config.steps:
        if name in config.seeds:
            yield f"steps.{name}: a seed has this name; valid: another"
    known = list(config.seeds)
    for name, step in config.steps.items():
        given = [kind for kind in KINDS if getattr(step, kind) is not None]
        if len(given) != 1:
            yield f"steps.{name}: {' and '.join(given) or 'nothing'} of {', '.join(KINDS)}; valid: exactly one of them"
            continue
        yield from _step_problems(config, name, step, given[0], known)
        if given[0] == "template":
            known.append(name)
    if config.steps and not any(step.template is not None for step in config.steps.values()):
        yield "steps: none has a template; valid: at least one, which writes a text"
    yield from _selection_problems(config, known)


def _step_problems(config: SynthConfig, name: str, step: StepConfig, kind: StepKind, known: list[str]) -> Iterator[str]:
    key = f"steps.{name}"
    for item in fields(StepConfig):
        unread = item.name not in (*KINDS, *READ_BY[kind])
        if unread and getattr(step, item.name) != (item.default_factory() if callable(item.default_factory) else item.default):
            readers = [one for one in KINDS if item.name in READ_BY[one]]
            yield f"{key}.{item.name}: has no effect at a step with {kind}; only {', '.join(readers)} reads it"
    for path in (step.field, step.reference):
        if path is not None:
            yield from _path_problems(config, f"{key}.{'field' if path == step.field else 'reference'}", path, known)
    if kind in ("template", "judge"):
        if step.teacher is None and len(config.teachers) > 1:
            yield f"{key}.teacher: required, since there are several; valid: {', '.join(config.teachers)}"
        elif step.teacher is not None and step.teacher not in config.teachers:
            yield f"{key}.teacher={step.teacher}: no such teacher; valid: {', '.join(config.teachers)}"
        if step.schema_path is not None and all(one.endpoint is None for one in _teachers(config, step)):
            yield f"{key}.schema_path={step.schema_path}: only an endpoint keeps to a schema; valid: filters.schema_path, which drops texts"
        if step.parse is not None and step.parse != JSON:
            try:
                pattern_of(step.parse)
            except BadReferenceError as error:
                yield f"{key}.parse={error}"
    elif kind == "nll":
        if step.nll not in config.teachers:
            yield f"{key}.nll={step.nll}: no such teacher; valid: {', '.join(config.teachers)}"
        elif config.teachers[str(step.nll)].endpoint is not None:
            yield f"{key}.nll={step.nll}: an endpoint does not say how likely it finds a text; valid: a local teacher"
    else:
        try:
            if verifier_of(config, name).needs_reference and step.reference is None:
                example = f"{next(iter(config.seeds), 'problems')}.answer"
                yield f"{key}.reference: required by verify={step.verify}: the field with what is right, e.g. {example}"
        except InputError as error:
            yield str(error)
    if kind != "template" and len(known) == len(config.seeds):
        yield f"{key}: nothing is written before it; valid: after a step with a template"


def _teachers(config: SynthConfig, step: StepConfig) -> list[TeacherConfig]:
    """Who may write at a step."""
    return [one for name, one in config.teachers.items() if step.teacher in (None, name)]


def _path_problems(config: SynthConfig, key: str, path: str, known: list[str]) -> Iterator[str]:
    name, dot, _ = path.partition(".")
    if name not in known:
        yield f"{key}={path}: no such field; valid: {', '.join(f'{one}.FIELD' if one in config.seeds else one for one in known)}"
    elif (name in config.seeds) != bool(dot):
        yield f"{key}={path}: valid: {f'{name}.FIELD, a field of the row of seeds.{name}' if name in config.seeds else name}"


def _selection_problems(config: SynthConfig, known: list[str]) -> Iterator[str]:
    scores = scores_of(config)
    valid = ", ".join(scores) or "a step with verify, judge or nll, of which there is none"
    for name in config.filters.scores:
        if name not in scores:
            yield f"filters.scores.{name}: no step that gives a score; valid: {valid}"
    by = config.select.by
    if config.select.name != "all" and by not in scores:
        yield f"select.by={by or 'null'}: select={config.select.name} needs a score; valid: {valid}"
    if config.select.name == "all" and by is not None:
        yield f"select.by={by}: has no effect with select=all; valid: select.name=best_of or pairs"
    if (config.select.name == "pairs") != (config.emit.format == "preference"):
        yield f"emit.format={config.emit.format}: preference goes with select=pairs, and only with it (select.name={config.select.name})"
    if config.emit.format == "unpaired" and config.emit.label not in scores:
        yield f"emit.label={config.emit.label or 'null'}: unpaired rows need a score; valid: {valid}"
    if config.emit.continues and config.emit.format != "text":
        yield f"emit.continues=true: has no effect with emit.format={config.emit.format}; only text reads it"
    places = {
        "filters.field": config.filters.field,
        "dedup.field": config.dedup.field,
        "emit.prompt": config.emit.prompt,
        "emit.answer": config.emit.answer,
        "emit.system": config.emit.system,
    }
    for key, path in places.items():
        if path is not None:
            yield from _path_problems(config, key, path, known)
    for name, teacher in config.teachers.items():
        if teacher.endpoint is None:
            for key in OF_ENDPOINTS:
                if (value := getattr(teacher, key)) != getattr(TeacherConfig(model="-"), key):
                    yield f"teachers.{name}.{key}={value}: has no effect without an endpoint; valid: beside teachers.{name}.endpoint"
        if teacher.overrides and teacher.endpoint is not None:
            yield f"teachers.{name}.overrides: of a local model; {teacher.endpoint} is set up by whoever serves it"
