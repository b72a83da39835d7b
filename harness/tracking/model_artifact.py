"""Checkpoints as W&B artifacts of type `model`, for those who ask for it: of every complete run, or of a study's best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.config.errors import InputError
from harness.config.schema import TrackingConfig
from harness.runs.directory import RunDirectory
from harness.runs.result import read_result
from harness.runs.wandb_page import page_in_wandb
from harness.tracking.artifact_name import artifact_name

if TYPE_CHECKING:
    import wandb


def logs_own_model(tracking: TrackingConfig, run: RunDirectory) -> bool:
    """Whether a complete run brings its model itself. A single run is its own best; a study's best is known when the study has ended."""
    return tracking.log_model == "all" or (tracking.log_model == "best" and run.study is None)


def log_model(logged: wandb.Run, run: RunDirectory, *, aliases: Sequence[str] = ()) -> None:
    """Log the last checkpoint of a complete run with its configuration; nothing where none was kept.

    The artifact's metadata say which run it is of, and where that is. Raises InputError where the checkpoint is a link.
    """
    import wandb

    checkpoint = max(run.checkpoints.glob("step-*.ckpt"), default=None)
    if checkpoint is None:
        return
    if checkpoint.is_symlink():
        raise InputError(f"{checkpoint} is a link: a run is uploaded from its own files alone; put the file itself there")
    result = read_result(run)
    facts = {"run": run.name, "url": page_in_wandb(run) or logged.url, "step": result.step, "objective": result.objective}
    artifact = wandb.Artifact(artifact_name(f"{run.name}-model"), type="model", metadata=facts)
    # Not copied into the client's own directory first.
    artifact.add_file(str(checkpoint), policy="immutable")
    artifact.add_file(str(run.config))
    logged.log_artifact(artifact, aliases=["latest", *aliases])
