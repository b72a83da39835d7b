"""The first sign of life of a command that takes seconds."""

from __future__ import annotations

import os

import typer


def announce(text: str) -> None:
    """Say on stderr what is about to be done, before anything slow is imported; on ranks other than 0 nothing."""
    if os.environ.get("RANK", "0") == "0" and os.environ.get("SLURM_PROCID", "0") == "0":
        typer.secho(f"{text} …", dim=True, err=True)
