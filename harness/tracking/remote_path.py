"""Paths in W&B: `wandb:ENTITY/PROJECT`, with a group or a run, or the address of its page."""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass

from harness.config.errors import InputError

PREFIX = "wandb:"
VALID = "Valid: wandb:ENTITY/PROJECT, wandb:ENTITY/PROJECT/GROUP, wandb:ENTITY/PROJECT/runs/ID, or the address of such a page"


@dataclass(frozen=True)
class RemotePath:
    """A project in W&B, or a group or a run in it. What is None is taken from WANDB_ENTITY and WANDB_PROJECT."""

    word: str
    """As the user gave it."""
    entity: str | None = None
    project: str | None = None
    group: str | None = None
    run: str | None = None

    def __str__(self) -> str:
        return self.word


def is_remote(word: str) -> bool:
    """Whether it names a place in W&B rather than files."""
    return word.startswith((PREFIX, "https://", "http://"))


def parse_remote(word: str) -> RemotePath:
    """Raises InputError for a path that cannot be parsed."""
    text = word.removeprefix(PREFIX) if word.startswith(PREFIX) else urllib.parse.urlparse(word).path
    parts = [urllib.parse.unquote(part) for part in text.split("/") if part]
    match parts:
        case []:
            return RemotePath(word)
        case [project]:
            return RemotePath(word, None, project)
        case [entity, project]:
            return RemotePath(word, entity, project)
        case [entity, project, "runs", run, *_]:
            return RemotePath(word, entity, project, run=run)
        case [entity, project, "groups" | "group", group, *_]:
            return RemotePath(word, entity, project, group=group)
        case [entity, project, "workspace" | "table" | "runs" | "overview", *_]:
            return RemotePath(word, entity, project)
        case [entity, project, group]:
            return RemotePath(word, entity, project, group=group)
        case _:
            raise InputError(f"{word}: no such place in W&B. {VALID}")
