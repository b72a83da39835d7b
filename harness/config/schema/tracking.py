"""Where metrics go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from harness.config.schema.base import Name, OnlyFor, Section


@dataclass(kw_only=True)
class TrackingConfig(Section):
    """Where metrics go besides metrics.jsonl."""

    name: Literal["wandb", "none"] = "wandb"
    """wandb: the real client, one W&B run per run, whatever its attempts; none: own files only."""
    mode: Annotated[Literal["offline", "online"] | None, OnlyFor(("wandb",))] = None
    """offline: into the run's wandb/ directory, to be uploaded later; null: $WANDB_MODE, else offline."""
    project: Annotated[Name | None, OnlyFor(("wandb",))] = None
    """W&B project; null: $WANDB_PROJECT, else "harness"."""
    entity: Annotated[Name | None, OnlyFor(("wandb",))] = None
    """W&B entity; null: $WANDB_ENTITY, else the account's default."""
    tags: Annotated[list[str], OnlyFor(("wandb",))] = field(default_factory=list)
    """Tags of the W&B run."""
    system_metrics: Annotated[bool, OnlyFor(("wandb",))] = True
    """Let W&B sample CPU, GPU and memory."""
    log_model: Annotated[Literal["best", "all", "none"], OnlyFor(("wandb",))] = "none"
    """Upload checkpoints as artifacts: all: every complete run's, to that run; best: that of a study's best trial when it has ended, to the
    study's run, and of a single run. The checkpoints stay on disk as trainer.final_checkpoint says."""
    metadata: Annotated[bool, OnlyFor(("wandb",))] = True
    """Let W&B note the machine, the command, the installed packages and the commit of the working directory."""
