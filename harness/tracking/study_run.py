"""The W&B run that shows a study as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.runs.directory import StudyDirectory
from harness.runs.files import read_yaml
from harness.tracking.identity import identity_of_study, tracking_of_study
from harness.tracking.wandb_run import TrackingError, WandbTarget, open_run

if TYPE_CHECKING:
    import wandb

INIT_SECONDS = 60.0
"""A command that somebody waits for does not wait longer for W&B."""
UPLOAD_SECONDS = 600.0


def log_directory(study: StudyDirectory, directory: Path, *, name: str, kind: str, aliases: Sequence[str] = ()) -> str | None:
    """Log a directory's files as an artifact of the study's W&B run, which is made if there is none yet.

    name: of the artifact; a new version is made where its content changed. kind: its type, e.g. "bundle".
    Returns where it is, "entity/project/name:v0"; None where the study is not tracked online. Raises TrackingError, with one message, where
    W&B cannot be reached or refuses it.
    """
    config = tracking_of_study(study)
    target = WandbTarget.of(config)
    if config.name == "none" or target.mode != "online":
        return None
    with open_study_run(study, target) as run:
        import wandb

        artifact = wandb.Artifact(name, type=kind)
        artifact.add_dir(str(directory))
        logged = run.log_artifact(artifact, aliases=["latest", *aliases]).wait(timeout=int(UPLOAD_SECONDS))
        return str(logged.qualified_name)


@contextmanager
def open_study_run(study: StudyDirectory, target: WandbTarget) -> Iterator[wandb.Run]:
    """The study's run, open. Whatever goes wrong with W&B in the block is raised as TrackingError."""
    try:
        with open_run(
            target,
            identity=identity_of_study(study),
            directory=study.path,
            hyperparameters={"sweep": read_yaml(study.sweep)},
            init_seconds=INIT_SECONDS,
            finish_seconds=UPLOAD_SECONDS,
        ) as run:
            yield run
            run.finish()
    # wandb raises errors of its own, built-in ones, and those of its connections; and calls sys.exit() when its service ends badly.
    except (Exception, SystemExit) as error:
        raise TrackingError(f"{study.name}: W&B does not take it: {type(error).__name__}: {error}") from error
