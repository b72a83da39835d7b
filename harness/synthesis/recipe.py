"""A recipe: read from its file with overrides, checked, and with its templates in it, so that what is kept of it says everything."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.config.documents import DamagedError, read_text
from harness.config.errors import InputError, unknown, wrong_value
from harness.config.locations import in_home, synth_dirs, synth_names
from harness.config.nested import flat, set_value
from harness.config.overrides import COMMAND_LINE, Deletion, ValueOverride, hydra_text, parse, replaced_keys
from harness.config.schema import Config, SamplingConfig
from harness.config.synth_schema import StepConfig, SynthConfig
from harness.config.trust import is_own, refuse, synth_wishes
from harness.config.user_yaml import read_mapping
from harness.config.validate import to_plain, to_section
from harness.data.chat.template_limits import MOST_SOURCE_BYTES
from harness.synthesis.recipe_checks import kind_of, last_written, recipe_problems
from harness.synthesis.seeds import Seeds, hash_of, read_seeds
from harness.synthesis.template import RowTemplate

TEMPLATES = ("template", "judge", "system")
"""Keys of a step that hold one."""
TEMPLATE_FILE = re.compile(r"[\w./-]+\.jinja")
"""What a template's key says that names a file beside the recipe."""
IN_SHORT = {"select": "name", "emit": "format"}
"""Sections of which one word may stand for this key."""


@dataclass(frozen=True)
class Recipe:
    """What a data set is made by."""

    name: str
    config: SynthConfig
    """With the text of every template in place of its file's name."""

    @cached_property
    def templates(self) -> dict[tuple[str, str], RowTemplate]:
        """By step and key."""
        found = {}
        for step, config in self.config.steps.items():
            for key in TEMPLATES:
                if (source := getattr(config, key)) is not None:
                    found[step, key] = RowTemplate(source, key=f"steps.{step}.{key}")
        return found

    @property
    def answer(self) -> str:
        """The field that the last of them writes."""
        return last_written(self.config)

    @property
    def draws(self) -> int:
        """Rows of each combination of seeds."""
        found = 1
        for step in self.config.steps.values():
            found *= step.draws
        return found

    def teacher_of(self, step: str) -> str:
        """The name of who writes, judges or reads at a step."""
        config = self.config.steps[step]
        return config.nll or config.teacher or next(iter(self.config.teachers))

    def read_seeds(self) -> Seeds:
        """Raises InputError."""
        names = self.config.seeds
        written: dict[str, set[str]] = {name: set() for name in names}
        for template in self.templates.values():
            for name, fields in template.names.items():
                if name in names:
                    written[name] |= fields
        also: dict[str, set[str]] = {name: set() for name in names}
        for path in self._paths():
            name, dot, field = path.partition(".")
            if name in names and dot:
                also[name].add(field)
        frozen = [{name: frozenset(fields) for name, fields in one.items()} for one in (written, also)]
        return read_seeds(self.config, *frozen)

    def _paths(self) -> list[str]:
        """All NAME.FIELD that other keys than templates name."""
        config = self.config
        steps = [path for step in config.steps.values() for path in (step.field, step.reference)]
        rest = [config.filters.field, config.dedup.field, config.emit.prompt, config.emit.answer, config.emit.system]
        return [path for path in (*steps, *rest) if path is not None]

    def sampling_of(self, step: str) -> SamplingConfig:
        """How a step is sampled, with the recipe's seed. Raises InputError."""
        if step not in self._samplings:
            self._samplings[step] = _sampling(self.config.steps[step], f"steps.{step}.sampling", self.config.seed)
        return self._samplings[step]

    @cached_property
    def _samplings(self) -> dict[str, SamplingConfig]:
        return {}


def _sampling(step: StepConfig, key: str, seed: int) -> SamplingConfig:
    """The choice of the group `sampling` that a step names, with the keys that it sets. Raises InputError."""
    from harness.config.checks.sampling import sampling_problems
    from harness.config.compose import compose

    if "seed" in step.sampling:
        raise wrong_value(f"{key}.seed", step.sampling["seed"], "the noise of a recipe has one seed; valid: seed=… of the recipe")
    if not step.sampling:  # composing takes a tenth of a second
        return SamplingConfig(seed=seed)
    given = dict(step.sampling)
    words = [f"sampling={given.pop('name')}"] if "name" in given else []
    words += [f"sampling.{name}={hydra_text(value)}" for name, value in given.items()]
    try:
        values = compose("config", Config, [*words, f"sampling.seed={seed}"], given_by=key).values["sampling"]
        sampling = to_section(SamplingConfig, values)
    except InputError as error:
        raise InputError("\n".join(f"{key}: {line}" for line in str(error).splitlines())) from None
    if problems := list(sampling_problems(sampling, key)):
        raise InputError("\n".join(problems))
    return sampling


def load_recipe(word: str, overrides: list[str]) -> Recipe:
    """A recipe by name or file, with overrides, checked. Raises InputError."""
    path = _file(word)
    document = in_full(read_mapping(path, holds="seeds, teachers, steps, …"))
    parsed = parse(overrides, SynthConfig)
    if not is_own(path):
        refuse(path, synth_wishes(document, path, given=replaced_keys(parsed)), "a recipe for synthetic data")
    given = set()
    for override in parsed:
        match override:
            case ValueOverride():
                set_value(document, override.key, override.value)
                given.add(override.key)
            case Deletion():
                _delete(document, override.text)
    try:
        config = to_section(SynthConfig, document, origin=lambda key: COMMAND_LINE if key in given else str(path))
        recipe = Recipe(path.stem, _with_templates(config, path.parent))
        check(recipe)
    except InputError as error:
        lines = str(error).splitlines()
        raise InputError(
            "\n".join(line if str(path) in line or line.partition("=")[0] in given else f"{path}: {line}" for line in lines)
        ) from None
    return recipe


def template_files(path: Path) -> dict[str, str]:
    """The templates beside a recipe's file that it names, and below, with their texts. Raises InputError for a file that is no recipe."""
    document = in_full(read_mapping(path, holds="seeds, teachers, steps, …"))
    try:
        config = to_section(SynthConfig, {"seeds": {}, "teachers": {}, "steps": document.get("steps", {})})
        return {word: _template_file(path.parent, word, f"steps.{name}.{key}") for name, key, word in _file_words(config)}
    except InputError as error:
        raise InputError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None


def file_hash(word: str) -> str:
    """16 hex digits of what a recipe's file and the templates beside it say, before any override. Raises InputError."""
    path = _file(word)
    return hash_of([in_full(read_mapping(path, holds="seeds, teachers, steps, …")), template_files(path)])


def check(recipe: Recipe) -> None:
    """What the keys of a recipe must agree on. Raises InputError."""
    problems = list(recipe_problems(recipe.config))
    if problems:
        raise InputError("\n".join(problems))
    problems = list(_field_problems(recipe))
    for step in recipe.config.steps:
        if kind_of(recipe.config.steps[step]) in ("template", "judge"):
            sampling = recipe.sampling_of(step)
            if sampling.temperature == 0 and recipe.config.steps[step].draws > 1:
                problems.append(f"steps.{step}.draws={recipe.config.steps[step].draws}: with temperature 0 all would be the same; valid: 1")
            if sampling.temperature == 0 and (retries := recipe.config.steps[step].retries):
                problems.append(f"steps.{step}.retries={retries}: with temperature 0 a new draw would be the same; valid: 0")
    if problems:
        raise InputError("\n".join(problems))


def _field_problems(recipe: Recipe) -> list[str]:
    """Fields that templates read and nothing makes."""
    problems, known = [], list(recipe.config.seeds)
    for name in recipe.config.steps:
        for key in TEMPLATES:
            template = recipe.templates.get((name, key))
            for read, below in template.names.items() if template else ():
                if read not in known:
                    problems.append(f"steps.{name}.{key}: no field {read!r} at this step; valid: {', '.join(known)}")
                elif read in recipe.config.seeds and not below:
                    problems.append(f"steps.{name}.{key}: {read} is a row of seeds.{read}; valid: a field of it, {{{{ {read}.FIELD }}}}")
        if kind_of(recipe.config.steps[name]) == "template":
            known.append(name)
    return problems


def in_full(document: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's document with `emit: text` and the like as sections."""
    found = dict(document)
    for name, key in IN_SHORT.items():
        if isinstance(found.get(name), str):
            found[name] = {key: found[name]}
    steps = found.get("steps")
    for step in steps.values() if isinstance(steps, dict) else ():
        if isinstance(step, dict) and isinstance(step.get("sampling"), str):
            step["sampling"] = {"name": step["sampling"]}
    return found


def is_path(word: str) -> bool:
    return word.endswith((".yaml", ".yml")) or "/" in word


def _file(word: str) -> Path:
    if is_path(word):
        path = in_home(word)
        if not path.is_file():
            raise InputError(f"recipe {word}: no such file")
        return path
    found = next((path for base in synth_dirs() if (path := base / f"{word}.yaml").is_file()), None)
    if found is None:
        raise unknown("recipe", word, synth_names())
    return found


def _delete(document: dict[str, Any], text: str) -> None:
    *parents, last = text.lstrip("~").partition("=")[0].split(".")
    values: Any = document
    for parent in parents:
        values = values.get(parent) if isinstance(values, dict) else None
    if not isinstance(values, dict) or last not in values:
        raise InputError(f"{text}: the recipe has no such key; valid: {', '.join(key for key, _ in flat(document))}")
    del values[last]


def _file_words(config: SynthConfig) -> Iterator[tuple[str, str, str]]:
    """Steps and their keys that name a file, each with its name."""
    for name, step in config.steps.items():
        for key in TEMPLATES:
            word = getattr(step, key)
            if word is not None and TEMPLATE_FILE.fullmatch(word):
                yield name, key, word


def _with_templates(config: SynthConfig, folder: Path) -> SynthConfig:
    """With the text of the templates that lie in files beside the recipe."""
    values = to_plain(config)
    for name, key, word in _file_words(config):
        values["steps"][name][key] = _template_file(folder, word, f"steps.{name}.{key}")
    return to_section(SynthConfig, values)


def _template_file(folder: Path, word: str, key: str) -> str:
    path = folder / word
    if not path.resolve().is_relative_to(folder.resolve()):
        raise wrong_value(key, word, "a template lies beside its recipe, or below; valid: such a file, or the template itself")
    try:
        return read_text(path, most_bytes=MOST_SOURCE_BYTES)
    except (OSError, DamagedError) as error:
        raise wrong_value(key, word, f"cannot be read: {error.strerror if isinstance(error, OSError) else error}") from None
