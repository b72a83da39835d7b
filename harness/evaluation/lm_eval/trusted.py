"""Which task files may be used: what a task is, anybody's file may say; what runs, only the user, by name (docs/trust.md)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.config.errors import InputError
from harness.config.remote_code import is_trusted
from harness.config.trust import is_own, lies_outside, refuse
from harness.evaluation.lm_eval.shipped import is_shipped
from harness.evaluation.lm_eval.task_files import Code, TaskFile

PLAIN_LOADERS = ("arrow", "csv", "json", "parquet", "text")
"""Of datasets: those that only read. Others unpickle, or run what they are given."""


def refuse_untrusted(task: TaskFile, metrics: Collection[str], *, key: str) -> None:
    """Raise InputError for a task that would run code which its user has not named, and for one of a stranger that reads files elsewhere.

    metrics: those that lm_eval knows itself.
    """
    if task.values.get("unsafe_code"):
        raise InputError(f"{key}: the task {task.name} runs what the model writes (unsafe_code), which is not done here; valid: another")
    given = [path for path in (task.path, *task.others) if not is_shipped(path)]
    code = [(str(one.file), f"{name}: !function {one.name}") for name, one in _functions(task.values) if not is_shipped(one.file)]
    code += [(str(path), words) for path in given for words in _named_code(task.values, metrics)]
    code += [(task.name, words) for words in _named_code(task.values, metrics) if not given]
    untrusted = [(name, words) for name, words in dict.fromkeys(code) if not is_trusted(name)]
    if untrusted:
        name, words = untrusted[0]
        more = f" and {len(untrusted) - 1} more" if len(untrusted) > 1 else ""
        raise InputError(
            f"{key}: {name} names code to be run ({words}{more}), and nobody asked for it. Read that code; then take it out, or say: "
            f"harness --trust-remote-code {name} …"
        )
    for path in given:
        if not is_own(path):
            refuse(path, _elsewhere(task, path), "a task file")


def _named_code(values: Mapping[str, Any], metrics: Collection[str]) -> Iterator[str]:
    """Code of others that would be found by a name, in words."""
    listed = values.get("metric_list")
    computed = values.get("process_results") is None
    for one in listed if computed and isinstance(listed, list) else ():
        metric = one.get("metric") if isinstance(one, Mapping) else None
        if isinstance(metric, str) and (metric not in metrics or one.get("hf_evaluate") is True):
            yield f"the metric {metric}, of the hub"
    if values.get("use_prompt") is not None:
        yield f"use_prompt: {values['use_prompt']}"
    loader = str(values.get("dataset_path"))
    is_loader = loader.isidentifier() and find_spec(f"datasets.packaged_modules.{loader}") is not None
    if (is_loader and loader not in PLAIN_LOADERS) or loader.endswith(".py"):
        yield f"dataset_path: {loader}"


def _functions(value: Any, name: str = "") -> Iterator[tuple[str, Code]]:
    """All functions in a nested value, each with the key of the task in which it stands."""
    if isinstance(value, Code):
        yield name, value
    elif isinstance(value, Mapping):
        for key, below in value.items():
            yield from _functions(below, name or key)
    elif isinstance(value, list):
        for below in value:
            yield from _functions(below, name)


def _elsewhere(task: TaskFile, path: Path) -> Iterator[str]:
    """Places that a stranger's file names, and that lie neither beside it nor in the working directory."""
    for name in ("dataset_path", "dataset_kwargs"):
        for text in _texts(task.values.get(name)):
            if lies_outside(text, path):
                yield f"{name}: {text} (outside of the working directory)"
    for other in task.others:
        if not is_shipped(other) and lies_outside(str(other), path):
            yield f"{other} (outside of the working directory)"


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for below in value.values():
            yield from _texts(below)
    elif isinstance(value, list):
        for below in value:
            yield from _texts(below)
