"""Reading a sweep file: composed with its groups and overrides, checked, and its start resolved."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from harness.config.checks.model import layers_of
from harness.config.compose import compose
from harness.config.errors import InputError, unknown, wrong_value
from harness.config.load import load
from harness.config.locations import in_home, sweep_dirs, sweep_names
from harness.config.nested import flat, set_value
from harness.config.overrides import COMMAND_LINE, ValueOverride, hydra_text, key_of, parse, replaced_keys, value_of
from harness.config.schema import Config
from harness.config.sweep_schema import SweepConfig
from harness.config.trust import is_own, refuse, sweep_wishes
from harness.config.user_yaml import read_mapping
from harness.config.validate import refuse_unread, to_plain, to_section
from harness.search.checks import check
from harness.search.multiples import Multiples
from harness.search.parameter import Parameter
from harness.search.question_overrides import is_of_the_question, with_question
from harness.search.space import Space, parse_space
from harness.search.storage.address import without_password
from harness.search.sweep import Sweep
from harness.search.warm_start import resolve_start
from harness.search.wildcards import ALL, spelt_out

SWEEP_KEYS = ("space", "constraints", "search", "stopping", "launcher", "budget", "storage")
"""Overrides of `harness sweep` that are about the sweep; all others are about its runs."""


BLOCK_KEY = "adapter.block"


def load_sweep(word: str, overrides: list[str], *, name: str | None = None) -> Sweep:
    """Read a sweep by name or file, with overrides, and check all of it. Raises InputError before anything is written.

    name: of the study; the file's when it is None.
    """
    if name is not None and not re.fullmatch(r"\w[\w.-]{0,127}", name):
        raise wrong_value("--name", name, "expected a plain name of at most 128 characters, e.g. cpt_random")
    path = sweep_file(word)
    if path is None:
        raise InputError(f"sweep file {word}: no such file") if _is_path(word) else unknown("sweep", word, sweep_names())
    document = read_mapping(path, holds="objective, space, budget, …")
    question = [text for text in overrides if is_of_the_question(text)]
    own = [text for text in overrides if is_of_the_sweep(text) and text not in question]
    of_runs = [text for text in overrides if not is_of_the_sweep(text)]
    # Before they are mixed with what the file says: what is wrong with them is no fault of the file's.
    parsed = [*parse(own, SweepConfig), *parse(of_runs, Config)]
    given = {override.key for override in parsed if isinstance(override, ValueOverride)}
    base = document.get("base") or []
    if not isinstance(base, list) or not all(isinstance(text, str) for text in base):
        raise wrong_value("base", base, "expected a list of overrides, e.g. [experiment=cpt, trainer.max_tokens=2e6]", where=str(path))
    try:
        if not is_own(path):
            refuse(path, sweep_wishes(document, path, given=replaced_keys(parsed)), "a sweep file")
        document = with_question({**document, "base": [*base, *of_runs]}, question)
        sweep = _with_entries(_completed(Sweep(name or path.stem, _resolve(document, own, question, str(path)))))
        _refuse_searched(base, of_runs, sweep.space)
        check(sweep)
        start = resolve_start(sweep.config, sweep.space, sweep.base.config, sweep.largest_trial_tokens, name=sweep.name)
        # An address may hold a password, which is not stored.
        address = hydra_text(sweep.config.storage) if sweep.config.storage else "null"
        given_texts = [f"storage={address}" if key_of(text) == "storage" else text for text in overrides]
        sweep = sweep.beside(sweep.name, sweep.config, start, tuple(given_texts))
    except InputError as error:
        lines = str(error).splitlines()
        asked, texts = tuple(key_of(text) for text in question), [*map(repr, [*question, *of_runs])]

        def is_typed(line: str) -> bool:
            return line.partition("=")[0] in given or line.startswith(asked) or any(text in line for text in texts)

        raise InputError("\n".join(line if is_typed(line) else _blaming(path, line) for line in lines)) from None
    return sweep


def _completed(sweep: Sweep) -> Sweep:
    """With the first value of each parameter without which the base is no run (a model's path, a length): all trials choose one."""
    base, left = list(sweep.config.base), _problem_of(sweep.config.base)
    single = {key: spec for key, spec in sweep.config.space.items() if ALL not in key}
    if left is None or not single:
        return sweep
    space = parse_space(single)
    lacking = [item for item in space.parameters if not item.is_group and not item.when]
    while left is not None:
        # What is lacking takes a line of the message away; any other value leaves it as it is, or adds another.
        tried = ((item, text := _first_value(item, space, base), _problem_of([*base, text])) for item in lacking)
        found = next(((item, text, after) for item, text, after in tried if not {*left} <= {*(after or ())}), None)
        if found is None:
            raise InputError("\n".join(left))
        item, text, left = found
        base.append(text)
        lacking.remove(item)
    return dataclasses.replace(sweep, config=dataclasses.replace(sweep.config, base=base))


def _first_value(parameter: Parameter, space: Space, base: list[str]) -> str:
    """The first of its values that a trial may have, as an override."""
    key, value = parameter.key, parameter.extremes[0]

    @cache
    def unchecked() -> Config:
        return load(base, checked_by=lambda config: None).config

    with contextlib.suppress(InputError):  # what it has to be a multiple of is not known yet
        value = Multiples(space).with_dependents({key: value}, unchecked)[key]
    return f"{key}={hydra_text(value)}"


def _with_entries(sweep: Sweep) -> Sweep:
    """With a parameter for each entry that a * in the space stands for, and with the model's last block, where the range of blocks has no
    end."""
    space = sweep.config.space
    if any(ALL in key for key in space):
        space = spelt_out(space, to_plain(sweep.base.config))
    blocks = space.get(BLOCK_KEY)
    if isinstance(blocks, dict) and "choices" not in blocks and blocks.get("high") is None:
        layers = layers_of(sweep.base.config.model)
        if layers is None:
            raise InputError(f"space.{BLOCK_KEY}.high: how many blocks the model has is not known yet; valid: the number of its last block")
        space = {**space, BLOCK_KEY: {"low": 0, **blocks, "high": layers - 1}}
    if space is sweep.config.space:
        return sweep
    return dataclasses.replace(sweep, config=dataclasses.replace(sweep.config, space=space))


def _refuse_searched(base: list[str], of_runs: list[str], space: Space) -> None:
    """Refuse a value for what the search chooses, in the file's base or on the command line: no trial would have it, or, of the kind of a
    group, all would. A base that is no run without it may keep it."""
    given = [*base, *of_runs]
    for text in given:
        keys = {key_of(text), *_keys_within(text)}
        # Where a parameter takes no part, the base's value stands.
        chosen = next((item.key for item in space.parameters if not item.when and not keys.isdisjoint((item.key, *item.chooses))), None)
        if chosen is None:
            continue
        if text in of_runs:
            raise InputError(
                f"{text!r}: {chosen} is searched (space.{chosen}); with ~space.{chosen} beside it, {key_of(text)} is fixed at that"
            )
        if _problem_of([other for other in given if other != text]) is None:
            raise InputError(f"base: {text!r}: {chosen} is searched (space.{chosen}), no trial would have it; leave one of them out")


def _keys_within(text: str) -> Iterator[str]:
    """The keys of the values in a mapping that an override gives."""
    if "{" in text and (mapping := value_of(text)) and isinstance(mapping, dict):
        yield from (f"{key_of(text)}.{key}" for key, _ in flat(mapping))


def _problem_of(overrides: list[str]) -> list[str] | None:
    """The lines that say why overrides are no run; None where they are one."""
    try:
        load(overrides)
    except InputError as error:
        return str(error).splitlines()
    return None


def _blaming(path: Path, line: str) -> str:
    """A message about the file. Its base is composed like overrides on the command line, which messages then name."""
    if str(path) in line:
        return line
    return f"{path}: {line.replace(f' (given in {COMMAND_LINE})', '')}"


def is_of_the_sweep(override: str) -> bool:
    """Whether an override is about the sweep rather than about its runs."""
    return key_of(override).split(".")[0] in SWEEP_KEYS


def _is_path(word: str) -> bool:
    return word.endswith((".yaml", ".yml")) or "/" in word


def sweep_file(word: str) -> Path | None:
    """The sweep file of this name or path; None where there is none."""
    if _is_path(word):
        path = in_home(word)
        return path if path.is_file() else None
    return next((path for base in sweep_dirs() if (path := base / f"{word}.yaml").is_file()), None)


def _resolve(document: dict[str, Any], overrides: list[str], question: list[str], path: str) -> SweepConfig:
    choices = []
    body = dict(document)
    objective = body.get("objective")
    if isinstance(objective, list):
        if not objective or not all(isinstance(term, dict) for term in objective):
            raise wrong_value("objective", objective, "expected {metric: …, direction: …} or a list of them")
        body["objective"] = {**objective[0], "also": objective[1:]}
    for group in ("search", "stopping", "launcher"):
        section = body.pop(group, None)
        if isinstance(section, str):
            choices.append(f"{group}={section}")
        elif isinstance(section, dict):
            choices += [f"{group}={section['name']}"] if "name" in section else []
            body[group] = {key: value for key, value in section.items() if key != "name"}
        elif section is not None:
            raise wrong_value(group, section, "expected a name, or a mapping with name and more")
    parsed = parse(overrides, SweepConfig)
    composed = compose(
        "sweep",
        SweepConfig,
        [*choices, *(text for text, override in zip(overrides, parsed, strict=True) if not isinstance(override, ValueOverride))],
    )
    values = _merged(composed.values, body)
    given = {override.key: override.value for override in parsed if isinstance(override, ValueOverride)}
    for key, value in given.items():
        set_value(values, key, value)
    if isinstance(values.get("storage"), str):
        values["storage"] = without_password(values["storage"])
    asked = {key_of(text) for text in question}

    def origin(key: str) -> str:
        return COMMAND_LINE if key in given or any(key == one or key.startswith(f"{one}.") for one in asked) else path

    config = to_section(SweepConfig, values, origin=origin)
    refuse_unread(config, [*_leaves(body), *given])
    return config


def _leaves(values: dict[str, Any]) -> Iterator[str]:
    """The keys of a sweep file's sections."""
    for section, below in values.items():
        yield from (f"{section}.{name}" for name in below) if isinstance(below, dict) else ()


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }
    return {**below, **both}
