"""Which runs under a path are to be uploaded to W&B."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from harness.config.errors import InputError
from harness.runs.directory import RunDirectory, StudyDirectory, find_run, is_run, is_study, run_called, runs_root, study_called
from harness.runs.record import load_run
from harness.runs.result import FINAL_STATES
from harness.tracking.wandb_directory import is_synced


@dataclass
class Selection:
    """The runs under a path, by upload state."""

    to_sync: list[RunDirectory] = field(default_factory=list)
    """Ended, and not in W&B yet or not all of it."""
    synced: list[RunDirectory] = field(default_factory=list)
    unfinished: list[RunDirectory] = field(default_factory=list)
    """Running or waiting."""
    untracked: list[RunDirectory] = field(default_factory=list)
    """Never opened in W&B: tracking=none, or not begun."""
    studies: list[StudyDirectory] = field(default_factory=list)
    """Whole studies with a tracked trial."""


def select(path: str | None) -> Selection:
    """The runs of a study, a run, or all under a directory; by default, under the runs root. Raises InputError for what is none of them."""
    selection = Selection()
    directories = _directories(path)
    for run in (run for directory in directories for run in _runs_in(directory)):
        if not (run.path / "wandb").is_dir():
            selection.untracked.append(run)
            continue
        study = run.study
        if study is not None and study.path in directories and study not in selection.studies:
            selection.studies.append(study)
        # Its files say that a run has ended before its attempt lets go of it.
        if run.is_attempted() or load_run(run).state not in FINAL_STATES:
            selection.unfinished.append(run)
        else:
            (selection.synced if is_synced(run) else selection.to_sync).append(run)
    return selection


def _directories(path: str | None) -> list[Path]:
    """Of the studies and the runs outside of them."""
    if path is None:
        root = runs_root()
        if not root.is_dir():
            raise InputError(f"{root}: no such directory. $HARNESS_RUNS names another one.")
        return _found_in(root)
    called = study_called(path) or run_called(path)
    if called is not None:
        return [called.path]
    if Path(path).is_dir():
        found = _found_in(Path(path))
        if not found:
            raise InputError(f"{path}: neither a study nor a run, and there is none in it")
        return found
    return [find_run(path).path]


def _found_in(root: Path) -> list[Path]:
    return [path for path in sorted(root.iterdir()) if is_study(path) or is_run(path)]


def _runs_in(directory: Path) -> Iterator[RunDirectory]:
    if is_study(directory):
        yield from StudyDirectory(directory).trials()
    else:
        yield RunDirectory(directory)
