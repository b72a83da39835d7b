"""Paths of data that are made when they are needed: data.sources.<name>.path=synth:RECIPE."""

from __future__ import annotations

from harness.config.schema import DataConfig, each

PREFIX = "synth:"


def is_made(path: str) -> bool:
    """Whether a path of data means a recipe."""
    return path.startswith(PREFIX)


def recipe_of(path: str) -> str:
    """The recipe's name or file."""
    return path.removeprefix(PREFIX)


def makes_data(data: DataConfig) -> bool:
    """Whether any source is made by a recipe."""
    return any(is_made(path) for source in data.sources.values() for path in each(source.path))
