"""What is to be merged and how, whoever's words said so: a configuration's or mergekit's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.config.merge_methods import MergeMethod


@dataclass(frozen=True)
class Place:
    """Where in the model a value of the recipe holds."""

    tensor: str
    """Name in the result."""
    layer: int | None
    """Of the slice, from 0; None outside of the layers."""
    layers: int
    """How many the slice has."""

    @property
    def depth(self) -> float:
        """0 at the first layer of the slice, 1 at its last or only one; 0 outside of the layers: all as mergekit has it."""
        if self.layer is None:
            return 0.0
        return 1.0 if self.layers < 2 else self.layer / (self.layers - 1)


Setting = Callable[[Place], float | bool | str | None]
"""A parameter by its place; None where the recipe leaves it to whoever is asked next."""
Settings = Mapping[str, Setting]


@dataclass(frozen=True)
class Part:
    """A model, or a range of its layers."""

    model: str
    """Its name in the recipe."""
    layers: tuple[int, int] | None = None
    """The first one, and the one after the last; None: all."""
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Slice:
    """Layers of the result that are merged of the same parts."""

    parts: tuple[Part, ...]
    base: Part | None
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A merge."""

    method: MergeMethod
    words: Mapping[str, str]
    """What each model's name stands for: a directory, a hub name, a run."""
    keys: Mapping[str, str]
    """What messages call the place where each was given."""
    slices: tuple[Slice, ...]
    base: str | None = None
    """The model that the method's changes are from."""
    frame: str
    """The model whose configuration the result gets, and whose tensors it has."""
    tokens: str | None = None
    """The model whose tokenizer the result gets; None: the frame's."""
    unites_tokens: bool = False
    """Whether the frame's tokenizer gets what other models have added to theirs."""
    settings: Settings = field(default_factory=dict)
    scope: Literal["tensor", "model"] = "tensor"
    """ties: whether the largest changes are chosen in each tensor, or over all of them."""
    dtype: str | None = None
    """float32, bfloat16 or float16; None: as each tensor of the frame is stored."""
    chat_template: str | None = None
    """Jinja; None: the tokenizer's."""
    seed: int = 0
    weight_required: str | None = None
    """What a recipe calls the weight that each of its models must have; None: it is 1 where nothing is said."""
    written: Any = None
    """As it was given, in plain values: for the card."""


def constant(value: float | bool | str) -> Setting:
    """The same everywhere."""
    return lambda place: value


def value_at(name: str, place: Place, default: Any, *settings: Settings) -> Any:
    """The value of a parameter: of the first settings that have one here."""
    for one in settings:
        found = one[name](place) if name in one else None
        if found is not None:
            return found
    return default
