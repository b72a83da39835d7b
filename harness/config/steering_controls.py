"""What steering has to beat (adapter.control): what a run does in its place, and which of them a run is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, assert_never

from harness.config.schema import AdapterConfig, Config, DataConfig

KEY = "adapter.control"
DRAW_KEY = "adapter.draw"


def controlled(adapter: AdapterConfig) -> AdapterConfig:
    """The adapter that stands for itself: with what its control puts in the place of steering."""
    match adapter.control:
        case None:
            return adapter
        case "nothing" | "prompt":
            return replace(adapter, control=None, coefficient=0.0)
        case "random":
            return replace(adapter, control=None, method="random")
        case _:
            assert_never(adapter.control)


def asked_data(config: Config) -> DataConfig:
    """config.data, without instructions where the run steers instead of asking."""
    data, adapter = config.data, config.adapter
    if adapter.name != "steering" or adapter.control == "prompt":
        return data
    return replace(data, contrast={name: replace(one, instruction=None) for name, one in data.contrast.items()})


def control_of(config: Mapping[str, Any]) -> tuple[str, str] | None:
    """Which control a run is: ("nothing", ""), ("prompt", ""), ("random", "draw 2"), or None of steering itself. config: config.yaml."""
    adapter = config.get("adapter") or {}
    kind = adapter.get("control") if adapter.get("name") == "steering" else None
    return None if kind is None else (kind, f"draw {adapter.get('draw', 0)}" if kind == "random" else "")
