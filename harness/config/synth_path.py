"""Paths of data that are made when they are needed: data.sources.<name>.path=synth:RECIPE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.config.schema import DataConfig, each

PREFIX = "synth:"


def is_made(path: str) -> bool:
    """Whether a path of data means a recipe."""
    return path.startswith(PREFIX)


def recipe_of(path: str) -> str:
    """The recipe's name or file."""
    return path.removeprefix(PREFIX)


def made_sources(data: DataConfig) -> list[str]:
    """The sources that a recipe makes, but for those of weight 0 of which no evaluation set is held out: nobody reads these."""
    held_out = {one.source for one in data.validation.values()} | {one.source for one in data.preference.values()}
    return [name for name, one in data.sources.items() if is_made(each(one.path)[0]) and (one.weight > 0 or name in held_out)]


def trains_on_made(config: Mapping[str, Any]) -> bool:
    """Whether a run trains on data that a recipe makes. config: config.yaml."""
    sources = (config.get("data") or {}).get("sources") or {}
    return any(is_made(each(one["path"])[0]) and one.get("weight", 1) > 0 for one in sources.values())
