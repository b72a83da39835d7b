"""A LoRA adapter in peft's files, added to its base by exact sums: W + scaling · B A."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.config.documents import as_mapping, read_json
from harness.config.errors import wrong_value
from harness.config.trust import linked_text
from harness.merging.layers import is_transposed
from harness.merging.operands import Floats
from harness.merging.safetensors_files import WeightFile, files_fingerprint
from harness.merging.source import FLOAT_BYTES, LowRank, Source, Tensor, Updates, from_float32

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
FACTOR = re.compile(r"(.+)\.lora_([AB])\.weight")
BLOCK_ROWS = 1024


@dataclass(frozen=True)
class UpdatedTensor:
    """A matrix with a low-rank update."""

    base: Tensor
    update: LowRank
    _kept: dict[str, Floats] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What every block needs of the factors, from the first block that is read to the last: a block is a few rows."""

    @property
    def dtype(self) -> str:
        return self.base.dtype

    @property
    def dimensions(self) -> tuple[int, ...]:
        return self.base.dimensions

    @property
    def shape(self) -> tuple[int, int]:
        return self.base.shape

    def read(self, start: int, stop: int) -> Floats:
        first = self._whole("down", self.update.down)
        if self.update.transposed:
            product = first[:, start:stop].T @ self._whole("up", self.update.up).T
        else:
            product = self.update.up.read(start, stop) @ first
        if stop >= self.shape[0]:
            self._kept.clear()
        return self.base.read(start, stop) + np.float32(self.update.scaling) * product

    def _whole(self, name: str, factor: Tensor) -> Floats:
        found = self._kept.get(name)
        if found is None:
            found = self._kept[name] = factor.read(0, factor.shape[0])
        return found

    def raw(self) -> Iterator[bytes]:
        rows = self.shape[0]
        for start in range(0, rows, BLOCK_ROWS):
            yield from_float32(self.read(start, min(rows, start + BLOCK_ROWS)), self.dtype).tobytes()


def adapter_config(folder: Path, *, key: str) -> dict[str, Any]:
    """Of the adapter in `folder`, which is given in `key`. Raises InputError where its texts lie elsewhere and nobody trusts it by name."""
    if linked := linked_text(folder):
        raise wrong_value(key, folder, linked)
    return as_mapping(read_json(folder / CONFIG), folder / CONFIG)


def with_lora(base: Source, folder: Path, *, key: str) -> Source:
    """The base with the adapter in `folder`, which is given in `key`. Raises InputError for one that is not added by a sum alone."""
    config = adapter_config(folder, key=key)
    _refuse_other_kinds(config, folder, key)
    if not (folder / WEIGHTS).is_file():
        raise wrong_value(key, folder, f"no {WEIGHTS} in it (a .bin is a pickle, which may run code)")
    factors: dict[str, dict[str, Tensor]] = {}
    for name, tensor in WeightFile(folder / WEIGHTS).tensors().items():
        match = FACTOR.fullmatch(name.removeprefix(PREFIX))
        if match is None or tensor.dtype not in FLOAT_BYTES:
            raise wrong_value(key, folder, f"its {name} is no factor of an update; valid: an adapter of lora_A and lora_B alone")
        factors.setdefault(match[1], {})[match[2]] = tensor
    tensors, updates = dict(base.tensors), {}
    transposed = is_transposed(base.config) or bool(config.get("fan_in_fan_out"))
    for module, pair in factors.items():
        name = f"{module}.weight"
        if name not in tensors:
            raise wrong_value(key, folder, f"it updates {name}, which {base.label} does not have; valid: an adapter of this base")
        updates[name] = _update(tensors[name], pair, _scaling(config, module, pair), transposed, f"{key}={folder}: {module}")
        tensors[name] = UpdatedTensor(tensors[name], updates[name])
    fingerprint = files_fingerprint([folder / CONFIG, folder / WEIGHTS], base.fingerprint.encode())
    added = Updates(base.fingerprint, updates)
    return replace(base, label=f"{base.label}+{folder}", tensors=tensors, fingerprint=fingerprint, is_whole=False, updates=added)


def _update(base: Tensor, pair: Mapping[str, Tensor], scaling: float, transposed: bool, where: str) -> LowRank:
    down, up = pair.get("A"), pair.get("B")
    if down is None or up is None:
        raise wrong_value("lora", "A" if down is None else "B", "this factor is missing", where=where)
    sides = (up.shape[0], down.shape[1])
    if up.shape[1] != down.shape[0] or base.shape != (sides[::-1] if transposed else sides):
        problem = f"B {list(up.dimensions)} and A {list(down.dimensions)} make no update of {list(base.dimensions)}"
        raise wrong_value("lora", problem, "valid: an adapter of this base", where=where)
    return LowRank(down, up, scaling, transposed)


def _scaling(config: Mapping[str, Any], module: str, pair: Mapping[str, Tensor]) -> float:
    """alpha / rank, or alpha / sqrt(rank) of rsLoRA; alpha may be the module's own."""
    alphas = as_numbers(config.get("alpha_pattern"))
    alpha = next((value for name, value in alphas.items() if module == name or module.endswith(f".{name}")), None)
    if alpha is None:
        alpha = float(config.get("lora_alpha", 8))
    rank = pair["A"].shape[0] if "A" in pair else 1
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def as_numbers(value: Any) -> dict[str, float]:
    return {str(name): float(number) for name, number in value.items()} if isinstance(value, Mapping) else {}


def _refuse_other_kinds(config: Mapping[str, Any], folder: Path, key: str) -> None:
    if config.get("peft_type") != "LORA":
        raise wrong_value(key, folder, f"peft_type {config.get('peft_type')} is not added by a sum; valid: LORA")
    if config.get("use_dora"):
        raise wrong_value(key, folder, "DoRA is not added by a sum (use_dora); valid: export it merged into its model")
    patterns = [name for name in as_numbers(config.get("alpha_pattern")) if re.search(r"[\\^$*+?()\[\]{}|]", name)]
    if patterns:
        raise wrong_value(key, folder, f"alpha_pattern {patterns[0]!r} is a regular expression; valid: names of modules")
