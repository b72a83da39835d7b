"""Task files of lm_eval, read without running anything: tasks and groups, by name or by file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from harness.config.documents import read_text, refuse_yaml_bombs
from harness.config.errors import InputError
from harness.config.locations import in_home
from harness.config.schema import TASK_FILES
from harness.evaluation.lm_eval.shipped import shipped_files
from harness.evaluation.lm_eval.task_files import Average, Code, GroupFile, TaskFile, leaves
from harness.runs.file_cache import FileCache

PLAIN_NAME = re.compile(r"[\w.,:@+-]+")
"""Of tasks and groups: they become parts of the names of metrics."""
OF_GROUPS = ("group", "group_alias", "task", "aggregate_metric_list", "metadata", "tag")
"""Keys of a group that say what it is; all others change its tasks."""
DEEPEST = 20
"""Files that include each other, and groups in groups."""


def read_tasks(names: Sequence[str], *, key: str, cache_dir: Path) -> list[TaskFile | GroupFile]:
    """The tasks and groups of data.lm_eval.<name>.tasks, `key`. cache_dir: where the names that ship are kept.

    Raises InputError for what cannot be read.
    """
    reader = _Reader(key, cache_dir)
    found = [one for name in names for one in reader.named(name)]
    seen: set[str] = set()
    for task in leaves(found):
        if task.name in seen:
            raise InputError(f"{key}: the task {task.name} stands there twice; valid: once, by itself or in a group")
        seen.add(task.name)
    return found


@dataclass(frozen=True)
class _Changes:
    """What groups say of the tasks in them."""

    values: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()

    def over(self, values: Mapping[str, Any], path: Path) -> _Changes:
        """These, and where they say nothing the values of a file."""
        return _Changes({**values, **self.values}, (*self.files, path)) if values else self


@dataclass(frozen=True)
class _Reader:
    key: str
    cache_dir: Path

    def named(self, name: str) -> list[TaskFile | GroupFile]:
        """What stands in the configuration."""
        paths = [in_home(name)] if name.endswith(TASK_FILES) else shipped_files(name, self.key, self.cache_dir)
        return [self._read(path, DEEPEST, _Changes()) for path in paths]

    def _read(self, path: Path, depth: int, changes: _Changes) -> TaskFile | GroupFile:
        values, includes = self._values(path, depth)
        if "group" in values and "class" not in values:
            return self._group(values, path, depth, changes)
        name = _name(values.get("task"), "task", path)
        return TaskFile(name, path, {**values, **changes.values}, (*includes, *changes.files))

    def _group(self, values: Mapping[str, Any], path: Path, depth: int, changes: _Changes) -> GroupFile:
        name, given = _name(values["group"], "group", path), values.get("task")
        if depth == 0:
            raise InputError(f"{path}: more than {DEEPEST} groups in groups")
        below = changes.over({key: value for key, value in values.items() if key not in OF_GROUPS}, path)
        members = [
            member for one in (given if isinstance(given, list) else [given]) for member in self._members(one, name, path, depth, below)
        ]
        return GroupFile(name, path, tuple(members), tuple(_averages(values.get("aggregate_metric_list"), path)))

    def _members(self, given: Any, group: str, path: Path, depth: int, changes: _Changes) -> Iterator[TaskFile | GroupFile]:
        """What one entry of a group's `task` means: a name, a file beside it, or a mapping that changes one of these or is a group."""
        if isinstance(given, Mapping) and "group" in given and isinstance(given.get("task"), list):
            yield self._group({**given, "group": f"{group}::{given['group']}"}, path, depth - 1, changes)
            return
        name = given.get("group", given.get("task")) if isinstance(given, Mapping) else given
        if not isinstance(name, str):
            raise InputError(f"{path}: a group's task is {name!r}; valid: a name, or a mapping with task or group")
        if isinstance(given, Mapping):
            own = {key: value for key, value in given.items() if key not in ("task", "group")}
            changes = _Changes({**changes.values, **own}, (*changes.files, path))
        paths = [path.parent / name] if name.endswith(TASK_FILES) else shipped_files(name, f"{path}: task", self.cache_dir)
        yield from (self._read(one, depth - 1, changes) for one in paths)

    def _values(self, path: Path, depth: int) -> tuple[dict[str, Any], tuple[Path, ...]]:
        """The keys of a file over those of the files that it includes; and these files."""
        values = self._document(path)
        given = values.get("include")
        included = [given] if isinstance(given, str) else given or []
        if not isinstance(included, list) or not all(isinstance(one, str) for one in included) or (included and depth == 0):
            raise InputError(f"{path}: include: {given!r}; valid: a file, or several, at most {DEEPEST} deep")
        merged: dict[str, Any] = {}
        files: list[Path] = []
        for one in included:
            below, deeper = self._values(path.parent / one, depth - 1)
            merged.update(below)
            files += [path.parent / one, *deeper]
        merged.update({key: value for key, value in values.items() if key != "include"})
        return merged, tuple(files)

    def _document(self, path: Path) -> dict[str, Any]:
        try:
            return _DOCUMENTS.read(str(path))
        except FileNotFoundError:
            raise InputError(f"{self.key}: {path}: no such file") from None
        except RecursionError:
            raise InputError(f"{self.key}: {path}: cannot be read as YAML: it is nested too deeply") from None
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise InputError(f"{self.key}: {path}: cannot be read as YAML: {' '.join(str(error).split())}") from None


def _averages(given: Any, path: Path) -> Iterator[Average]:
    for one in given if isinstance(given, list) else [given] if given is not None else []:
        if not isinstance(one, Mapping) or not isinstance(one.get("metric"), str) or one.get("aggregation", "mean") != "mean":
            raise InputError(f"{path}: aggregate_metric_list: {one!r}; valid: {{metric: NAME, aggregation: mean}}")
        filters = one.get("filter_list")
        chosen = None if filters is None else (filters,) if isinstance(filters, str) else tuple(map(str, filters))
        yield Average(one["metric"], chosen, bool(one.get("weight_by_size", True)))


def _name(given: Any, what: str, path: Path) -> str:
    if not isinstance(given, str) or not PLAIN_NAME.fullmatch(given):
        raise InputError(f"{path}: {what}: {given!r}; valid: a name of letters, digits and _ . , - : + @")
    return given


def _parse(path: Path) -> dict[str, Any]:
    """The document of a file. Raises OSError, ValueError, YAMLError and RecursionError."""

    class Loader(yaml.CSafeLoader):
        """With `Code` for !function, and no other tag."""

    def code(loader: yaml.CSafeLoader, node: yaml.Node) -> Code:
        if not isinstance(node, yaml.ScalarNode) or "." not in node.value:
            raise yaml.constructor.ConstructorError(None, None, "!function takes module.name", node.start_mark)
        return Code(str(node.value), path)

    Loader.add_constructor("!function", code)
    text = read_text(path)
    refuse_yaml_bombs(text.encode())
    content = yaml.load(text, Loader=Loader)  # noqa: S506  # a SafeLoader
    if not isinstance(content, dict) or not content:
        raise ValueError("expected a mapping, a task or a group of lm_eval")
    return {str(name): value for name, value in content.items()}


_DOCUMENTS = FileCache(_parse)
