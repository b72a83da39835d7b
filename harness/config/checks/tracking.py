"""What W&B takes as names, checked before any work starts: its client would refuse them when a run is opened, once a trial."""

from __future__ import annotations

import os
from collections.abc import Iterator

from harness.config.checks.trainer import trains
from harness.config.schema import TrackingConfig, TrainerConfig

TAG_CHARACTERS = 64
PROJECT_CHARACTERS = 128
NOT_IN_PROJECTS = "/\\#?%:"


def tracking_problems(tracking: TrackingConfig, trainer: TrainerConfig) -> Iterator[str]:
    """One line a problem; of the client's environment variables as well, where the configuration leaves the choice to them."""
    if tracking.name == "none":
        return
    if tracking.log_model != "none" and (trainer.final_checkpoint == "none" or not trains(trainer)):
        yield (
            f"tracking.log_model={tracking.log_model}: no checkpoint is kept with trainer.final_checkpoint=none or max_steps=0; "
            "valid: trainer.final_checkpoint=weights or full (or tracking.log_model=none)"
        )
    for index, tag in enumerate(tracking.tags):
        if not 0 < len(tag) <= TAG_CHARACTERS:
            yield f"tracking.tags[{index}]={tag}: {len(tag)} characters; W&B takes tags of 1 to {TAG_CHARACTERS}"
    given = {"tracking.project": tracking.project} if tracking.project else {"$WANDB_PROJECT": os.environ.get("WANDB_PROJECT")}
    for key, project in given.items():
        yield from _project_problems(key, project or "")
    for key, entity in (
        ("tracking.entity", tracking.entity),
        ("$WANDB_ENTITY", None if tracking.entity else os.environ.get("WANDB_ENTITY")),
    ):
        if entity and ("/" in entity or entity != entity.strip()):
            yield f"{key}={entity}: an entity is the name of a user or a team, without the project"


def _project_problems(key: str, project: str) -> Iterator[str]:
    if len(project) > PROJECT_CHARACTERS:
        yield f"{key}={project}: {len(project)} characters; W&B takes projects of at most {PROJECT_CHARACTERS}"
    if found := sorted({character for character in project if character in NOT_IN_PROJECTS}):
        yield f"{key}={project}: W&B takes no {' '.join(found)} in the name of a project; not valid are {' '.join(NOT_IN_PROJECTS)}"
