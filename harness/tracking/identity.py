"""The identity of a run in W&B: id, name, group and tags, the same for all attempts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from harness.config.checks.tracking import TAG_CHARACTERS
from harness.config.documents import typed
from harness.config.schema import TrackingConfig
from harness.config.validate import to_section
from harness.runs.confirmation_plan import launch_of
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.files import read_yaml
from harness.tracking.wandb_directory import read_opened


def run_id(*parts: str) -> str:
    """The id of the W&B run of what `parts` name, the same for every attempt: 16 letters and digits."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What W&B calls a run."""

    id: str
    name: str
    group: str | None = None
    """The study's name; null for a single run."""
    job_type: str
    """trial, study or train."""
    tags: tuple[str, ...] = ()
    """The study and its kind of search; those of the configuration come on top."""


def identity_of_run(run: RunDirectory) -> Identity:
    """Of a trial or a single run."""
    study = run.study
    if study is None:
        return Identity(id=_id_of_single(run), name=run.name, job_type="train")
    sweep = read_yaml(study.sweep)
    # The launch time is part of the id: a study that was deleted and started again is another one.
    launch = launch_of(sweep)
    return Identity(id=run_id(run.name, str(launch)), name=run.name, group=study.name, job_type="trial", tags=_tags(study, sweep))


def _id_of_single(run: RunDirectory) -> str:
    """As its first attempt chose it: by the time of its configuration, since many runs may be called `out`."""
    if opened := read_opened(run):
        return opened.id
    return run_id(run.name, str(run.config.stat().st_mtime_ns) if run.config.exists() else "")


def identity_of_study(study: StudyDirectory) -> Identity:
    """Of the run that shows the study as a whole, in the group of its trials."""
    sweep = read_yaml(study.sweep)
    launch = launch_of(sweep)
    return Identity(id=run_id(study.name, str(launch)), name=study.name, group=study.name, job_type="study", tags=_tags(study, sweep))


def tracking_of_run(run: RunDirectory) -> TrackingConfig:
    """The run's `tracking` section. Raises OSError and DamagedError."""
    return to_section(TrackingConfig, typed(_Config, read_yaml(run.config), run.config).tracking)


def tracking_of_study(study: StudyDirectory) -> TrackingConfig:
    """The `tracking` section of the configuration that the study's trials start from. Raises OSError and DamagedError."""
    return to_section(TrackingConfig, typed(_Sweep, read_yaml(study.sweep), study.sweep).config.tracking)


@dataclass
class _Config:
    """What is read here of a config.yaml."""

    tracking: dict[str, Any]


@dataclass
class _Sweep:
    """What is read here of a sweep.yaml."""

    config: _Config


def _tags(study: StudyDirectory, sweep: dict[str, object]) -> tuple[str, ...]:
    search = sweep.get("search")
    kind = str(search.get("name")) if isinstance(search, dict) else None
    return tuple(tag[:TAG_CHARACTERS] for tag in (study.name, kind) if tag)
