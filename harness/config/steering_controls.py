"""What steering has to beat (adapter.control): what a run does in its place, and which of them a run is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, assert_never

from harness.config.schema import AdapterConfig, Config, DataConfig

KEY = "adapter.control"
DRAW_KEY = "adapter.draw"
VECTORS, SETTINGS = "vector.safetensors", "steering.json"
"""The files that `harness steer` writes: the directions, tensors block.N; and what they are of, and how they are used."""
AGREEMENT, OPPOSED = "steering/agreement", "steering/opposed"
"""Logged of a run that steers by pairs and trains nothing: how far these agree at its block (the strongest), see `Extraction`."""


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


def draws_pairs(adapter: AdapterConfig) -> bool:
    """Whether adapter.draw is one of the pairs that a direction is found from, and not one of random directions."""
    return adapter.draw > 0 and adapter.method != "random" and adapter.control is None


def has_noise(config: Mapping[str, Any]) -> bool:
    """Whether another seed gives another result: not that of a vector file, which is found already, where nothing is trained and no text
    is written. config: of a sweep or a run, as plain values."""
    adapter, trainer, data = (config.get(section) or {} for section in ("adapter", "trainer", "data"))
    is_found = adapter.get("name") == "steering" and adapter.get("vector") is not None and trainer.get("max_steps") == 0
    return not is_found or bool(data.get("generation"))


def redraws_pairs(config: Mapping[str, Any]) -> bool:
    """Whether a run with another seed, in a confirmation, finds its direction from another draw of the same pairs. config: as there."""
    adapter = config.get("adapter") or {}
    return adapter.get("name") == "steering" and adapter.get("pairs") is not None


def asked_data(config: Config) -> DataConfig:
    """config.data, without instructions where the run steers instead of asking."""
    data, adapter = config.data, config.adapter
    if adapter.name != "steering" or adapter.control == "prompt":
        return data
    contrast = {name: replace(one, instruction=None) for name, one in data.contrast.items()}
    generation = {name: replace(one, instruction=None) for name, one in data.generation.items()}
    return replace(data, contrast=contrast, generation=generation)


def control_of(config: Mapping[str, Any]) -> tuple[str, str] | None:
    """Which control a run is: ("nothing", ""), ("prompt", ""), ("random", "draw 2"), or None of steering itself. config: config.yaml."""
    adapter = config.get("adapter") or {}
    kind = adapter.get("control") if adapter.get("name") == "steering" else None
    return None if kind is None else (kind, f"draw {adapter.get('draw', 0)}" if kind == "random" else "")
