"""The configuration of a run, wherever it is read from: its relative paths begin where the run was started."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from harness.config.checks import check
from harness.config.documents import DamagedError
from harness.config.errors import InputError
from harness.config.load import with_overrides
from harness.config.private import paths_in, with_paths
from harness.config.schema import Config
from harness.config.user_yaml import read_mapping
from harness.runs.directory import RunDirectory
from harness.runs.result import read_result


def load_run_config(run: RunDirectory, overrides: list[str] | None = None, *, checked_by: Callable[[Config], None] = check) -> Config:
    """The run's resolved configuration with value overrides, validated. checked_by: as of `harness.config.load.load_file`."""
    values = read_mapping(run.config, holds="configuration keys, as in a run's config.yaml")
    with as_of_run(run, values) as values:
        return with_overrides(values, overrides or [], origin=str(run.config), checked_by=checked_by)


@contextmanager
def as_of_run(run: RunDirectory, values: dict[str, Any], *, moved: bool = True) -> Iterator[dict[str, Any]]:
    """The values of a run's config.yaml with relative paths as they are found from here; an error with them says where they begin.

    moved: False: such paths stay, since the run may be a stranger's.
    """
    try:
        started = read_result(run).directory
    except DamagedError:
        started = None
    if started is None or Path(started).resolve() == Path.cwd().resolve():
        yield values
        return
    try:
        yield with_paths(values, lambda key, path: _found_from(Path(started), path)) if moved else values
    except InputError as error:
        if not any(f"{key}={path}" in str(error) and not Path(path).is_absolute() for key, path in paths_in(values)):
            raise
        raise InputError(f"{error}\n(relative paths of {run.path} begin in {started}, where it was started)") from None


def _found_from(started: Path, path: str) -> str:
    there = started / path
    lies_there = there.exists() or (has_magic(path) and any(glob(str(there), recursive=True)))  # noqa: PTH207 - as sources are looked for
    return str(there) if lies_there else path
