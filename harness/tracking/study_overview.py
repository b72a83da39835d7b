"""The W&B run of a study as a whole: progress, importances, the best so far, a table of trials, the page and the sweep.

It is made from the study's own files, whoever makes it and however often: every time it is brought up to date, and nothing is logged twice.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.documents import typed
from harness.runs.confirmation_plan import read_plan
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.files import read_json, read_yaml, scratch_directory, write_json
from harness.runs.locks import hold
from harness.tracking.artifact_name import artifact_name
from harness.tracking.identity import identity_of_study, tracking_of_study
from harness.tracking.model_artifact import log_model
from harness.tracking.server_address import server_address
from harness.tracking.wandb_directory import read_opened
from harness.tracking.wandb_run import WandbTarget, client, refuse_unreachable, start_run, tracking_errors

if TYPE_CHECKING:
    import wandb

ORDERED_SECTIONS = ("space", "constraints")
PLAN_KEY = "confirmation_plan"
"""In the summary of a confirmation's own run, as JSON: which of its trials is which candidate with which seed."""
INIT_SECONDS = 60.0
"""How long W&B may take to open the run."""
UPLOAD_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class StudySnapshot:
    """A study at one moment."""

    version: str
    """Equal for snapshots that show the same."""
    progress: Sequence[Mapping[str, float | int]]
    """A row for every trial that has ended, in the order of their ends; rows are only ever added."""
    summary: Mapping[str, Any]
    tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[Any]]]]
    """By name, columns and rows."""
    files: Mapping[str, Path] = field(default_factory=dict)
    """By its kind, a file that becomes an artifact of its own: {"sweep": …, "report": …}."""
    best: RunDirectory | None = None
    """Of a finished study that logs its best model."""
    is_finished: bool
    """Else the run is marked as preempting."""


def study_target(study: StudyDirectory, *, online: bool = False) -> WandbTarget | None:
    """Where the study's run belongs: where its trials are. None where they are not tracked.

    online: whatever mode the trials had.
    """
    config = tracking_of_study(study)
    if config.name == "none":
        return None
    opened = next((opened for trial in study.trials() if (opened := read_opened(trial)) is not None), None)
    target = WandbTarget.of(config).as_opened(opened)
    return replace(target, mode="online") if online else target


def is_tracked_online(study: StudyDirectory) -> bool:
    """Whether the study's trials, and so its own run, go to W&B as they are trained."""
    config = tracking_of_study(study)
    return config.name != "none" and WandbTarget.of(config).mode == "online"


def published_version(study: StudyDirectory, target: WandbTarget) -> str | None:
    """The version of the snapshot that W&B has at this place; None before the first."""
    known = _published(study)
    return known.version if known is not None and known.place == _place(target) else None


def _place(target: WandbTarget) -> dict[str, str | None]:
    return {"server": server_address(), "entity": target.entity, "project": target.project}


def published_url(study: StudyDirectory) -> str | None:
    """The page of the study's own W&B run; None where it has none."""
    known = _published(study)
    return known.url if known is not None else None


def publish(study: StudyDirectory, target: WandbTarget, snapshot: StudySnapshot, *, wait_seconds: float) -> str | None:
    """Bring the study's run up to date; returns where it is. None when somebody else is at it for longer than `wait_seconds`.

    Raises TrackingError where W&B cannot be reached or refuses.
    """
    lock = hold(study.path / "wandb" / ".study-run.lock", wait_seconds=wait_seconds)
    if lock is None:
        return None
    try:
        with open_study_run(study, target, is_finished=snapshot.is_finished) as run:
            _log(run, study, snapshot)
            url = str(run.url)
        write_json(_mark(study), asdict(_Published(snapshot.version, url, _place(target))))
        return url
    finally:
        lock.release()


def log_directory(study: StudyDirectory, directory: Path, *, name: str, kind: str, aliases: Sequence[str] = ()) -> str | None:
    """Log a directory's files as an artifact of the study's W&B run, which is made if there is none yet.

    name: of the artifact; a new version is made where its content changed. kind: its type, e.g. "bundle".
    Returns where it is, "entity/project/name:v0"; None where the study is not tracked online. Raises TrackingError, with one message, where
    W&B cannot be reached or refuses it.
    """
    target = study_target(study)
    if target is None or target.mode != "online":
        return None
    with open_study_run(study, target) as run:
        import wandb

        artifact = wandb.Artifact(artifact_name(name), type=kind)
        artifact.add_dir(str(directory))
        logged = run.log_artifact(artifact, aliases=["latest", *aliases]).wait(timeout=int(UPLOAD_SECONDS))
        return str(logged.qualified_name)


@contextmanager
def open_study_run(study: StudyDirectory, target: WandbTarget, *, is_finished: bool = True) -> Iterator[wandb.Run]:
    """The study's run, open. Whatever goes wrong with W&B in the block is raised as TrackingError."""
    # The study's own files have everything: the client's files are not needed.
    scratch = scratch_directory(Path(tempfile.gettempdir()), "harness-study-run-")
    with scratch as directory, tracking_errors(f"{study.name}: W&B does not take it"), client():
        refuse_unreachable()
        run = start_run(
            target.from_elsewhere(),
            identity=identity_of_study(study),
            directory=directory,
            hyperparameters=_hyperparameters(read_yaml(study.sweep)),
            init_seconds=INIT_SECONDS,
            finish_seconds=UPLOAD_SECONDS,
        )
        yield run
        if not is_finished:
            run.mark_preempting()
        run.finish(0 if is_finished else 1)


def _hyperparameters(sweep: dict[str, Any]) -> dict[str, Any]:
    """The sweep, and beside it the order of the sections whose order means something: W&B keeps none of keys."""
    return {"sweep": sweep, "order": {section: list(sweep.get(section) or {}) for section in ORDERED_SECTIONS}}


def plan_summary(study: StudyDirectory) -> dict[str, str]:
    """What the summary of a confirmation's own run says besides; nothing for other studies."""
    plan = read_plan(study)
    return {} if plan is None else {PLAN_KEY: json.dumps(asdict(plan))}


@dataclass(frozen=True)
class _Published:
    """What was uploaded last of a study's own run."""

    version: str
    url: str | None = None
    place: dict[str, str | None] = field(default_factory=dict)


def _published(study: StudyDirectory) -> _Published | None:
    """None before the first upload. Raises DamagedError."""
    known = read_json(_mark(study))
    return None if known is None else typed(_Published, known, _mark(study))


def _mark(study: StudyDirectory) -> Path:
    return study.path / "wandb" / "study-run.json"


def _log(run: wandb.Run, study: StudyDirectory, snapshot: StudySnapshot) -> None:
    import wandb

    known = run.step if run.resumed else 0
    run.define_metric("best/objective", step_metric="tokens")
    # The step is the number of trials that have ended.
    for step, row in enumerate(snapshot.progress, start=1):
        if step >= known:
            run.log(dict(row), step=step)
    run.summary.update(
        {name: wandb.Table(columns=[*columns], data=[[*row] for row in rows]) for name, (columns, rows) in snapshot.tables.items()}
    )
    run.summary.update({**snapshot.summary, **plan_summary(study)})
    if page := snapshot.files.get("report"):
        # Looked at in W&B as it is, beside the file that is downloaded.
        run.summary.update({"report": wandb.Html(page.read_text("utf-8"), inject=False)})
    for kind, file in snapshot.files.items():
        artifact = wandb.Artifact(artifact_name(f"{study.name}-{kind}"), type=kind)
        artifact.add_file(str(file))
        run.log_artifact(artifact)
    if snapshot.best is not None:
        log_model(run, snapshot.best, aliases=["best"])
