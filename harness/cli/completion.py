"""Shell completion of overrides, studies, sweeps and runs. Only the schema and directory listings: it answers between two key strokes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args, get_origin

from harness.config.introspect import keys
from harness.config.locations import choices, groups, sweep_names
from harness.config.schema import Config
from harness.runs.directory import is_run, is_study, runs_root


def overrides(incomplete: str) -> list[str]:
    """Completions of KEY=VALUE and GROUP=CHOICE; keys stop at the next dot, as paths do at the next slash."""
    prefix = incomplete[: len(incomplete) - len(incomplete.lstrip("+~"))]
    word = incomplete.removeprefix(prefix)
    key, equals, value = word.partition("=")
    if equals:
        return [f"{prefix}{key}={choice}" for choice in _values(key) if choice.startswith(value)]
    names = [f"{group}=" for group in groups() if "/" not in group]
    names += [_up_to_next_dot(f"{name}=", len(word)) for name, _ in keys(Config) if name.startswith(word) and "<name>" not in name]
    names += ["data.sources.", "data.validation."]
    return [prefix + name for name in dict.fromkeys(names) if name.startswith(word)]


def _up_to_next_dot(name: str, start: int) -> str:
    dot = name.find(".", start)
    return name[: dot + 1] if dot >= 0 else name


def _values(key: str) -> Iterable[str]:
    if key in groups():
        return choices(key)
    for name, item in keys(Config):
        if name == key:
            annotation = next((part for part in (item.annotation, *get_args(item.annotation)) if get_origin(part) is Literal), None)
            return map(str, get_args(annotation)) if annotation is not None else ["true", "false"] if item.annotation is bool else []
    if key.endswith(".path"):
        return _paths(key)
    return []


def _paths(key: str) -> Iterable[str]:
    return sorted(f"{path}/" if path.is_dir() else str(path) for path in Path().iterdir() if not path.name.startswith("."))


def sweeps(incomplete: str) -> list[str]:
    """Names of sweep files."""
    return [name for name in sweep_names() if name.startswith(incomplete)]


def studies(incomplete: str) -> list[str]:
    """Names of studies under the runs root."""
    return _below_runs_root(incomplete, is_study)


def runs(incomplete: str) -> list[str]:
    """Names of single runs and studies under the runs root."""
    return _below_runs_root(incomplete, lambda path: is_run(path) or is_study(path))


def _below_runs_root(incomplete: str, wanted: object) -> list[str]:
    root = runs_root()
    if not root.is_dir() or not callable(wanted):
        return []
    return sorted(path.name for path in root.iterdir() if path.is_dir() and path.name.startswith(incomplete) and wanted(path))
