"""Keys and values of the rows that are written: transformers' cache, with room to grow, and rows that come and go."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

ROOM = 64
"""Positions that a layer has room for beyond those in use: it is copied once in so many steps, not in each."""


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """A layer's keys and values [B, H, L, D], at the beginning of buffers [B, H, capacity, D].

    A layer whose attention slides keeps all positions, too: the mask hides what lies behind its window.
    """

    keys: Tensor
    values: Tensor
    _key_buffer: Tensor
    _value_buffer: Tensor

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._hold(_with_room(key_states), _with_room(value_states), key_states.shape[-2])
            return self.keys, self.values
        length, added = self.keys.shape[-2], key_states.shape[-2]
        if length + added > self._key_buffer.shape[-2]:
            self._key_buffer, self._value_buffer = _with_room(self.keys, added), _with_room(self.values, added)
        self._key_buffer[:, :, length : length + added] = key_states
        self._value_buffer[:, :, length : length + added] = value_states
        self._hold(self._key_buffer, self._value_buffer, length + added)
        return self.keys, self.values

    def replace_rows(self, kept: Tensor, other: GrowingLayer | None, copies: Tensor, length: int) -> None:
        """Keep the rows `kept` (int64[k]), and put rows `copies` (int64[c]) of another cache behind them; of all, the last `length`
        positions.

        Rows end at the same position; what lies before a row that is shorter is zero.
        """
        self._key_buffer = _joined(self.keys, kept, None if other is None else other.keys, copies, length)
        self._value_buffer = _joined(self.values, kept, None if other is None else other.values, copies, length)
        self._hold(self._key_buffer, self._value_buffer, length)

    def _hold(self, keys: Tensor, values: Tensor, length: int) -> None:
        self._key_buffer, self._value_buffer = keys, values
        self.keys, self.values = keys[:, :, :length], values[:, :, :length]


class GrowingCache(DynamicCache):
    """transformers' cache of growing layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer_class_to_replicate = GrowingLayer

    def replace_rows(self, kept: Tensor, other: GrowingCache | None, copies: Tensor, length: int) -> None:
        """See `GrowingLayer.replace_rows`."""
        own: list[Any] = self.layers
        others: list[Any] = [None] * len(own) if other is None else other.layers
        for layer, added in zip(own, others, strict=True):
            layer.replace_rows(kept, added, copies, length)


def takes_cache(model: PreTrainedModel) -> bool:
    """Whether attention is all that the model remembers of a text, so that a `GrowingCache` holds it."""
    whole: Any = model
    if getattr(whole, "_is_stateful", False) or not getattr(whole, "_supports_default_dynamic_cache", lambda: True)():
        return False
    return bool(kinds := _kinds_of_layers(model)) and kinds <= {DynamicLayer, DynamicSlidingWindowLayer}


def sees_all(model: PreTrainedModel) -> bool:
    """Whether all layers look at all earlier positions, by torch's attention: then one mask, of padding alone, does for all of them."""
    shape = model.config.get_text_config(decoder=True)
    slides = any(getattr(shape, key, None) is not None for key in ("sliding_window", "attention_chunk_size"))
    return not slides and _kinds_of_layers(model) == {DynamicLayer} and model.config._attn_implementation == "sdpa"


def _kinds_of_layers(model: PreTrainedModel) -> set[type]:
    try:
        return {type(layer) for layer in DynamicCache(config=model.config).layers}
    except (KeyError, AttributeError, TypeError, ValueError):  # a family whose layers transformers has no name for
        return set()


def _with_room(states: Tensor, added: int = 0) -> Tensor:
    """A copy of states [B, H, L, D] at the beginning of [B, H, L + added + ROOM, D]."""
    rows, heads, length, size = states.shape
    buffer = states.new_empty(rows, heads, length + added + ROOM, size)
    buffer[:, :, :length] = states
    return buffer


def _joined(own: Tensor, kept: Tensor, other: Tensor | None, copies: Tensor, length: int) -> Tensor:
    rows = len(kept) + (0 if other is None else len(copies))
    buffer = own.new_empty(rows, own.shape[1], length + ROOM, own.shape[3])
    at = 0
    for states, chosen in ((own, kept), (other, copies)):
        if states is None or not len(chosen):
            continue
        there = buffer[at : at + len(chosen), :, :length]
        used = min(length, states.shape[2])
        there[:, :, : length - used] = 0
        there[:, :, length - used :] = states[:, :, states.shape[2] - used :][chosen]
        at += len(chosen)
    return buffer
