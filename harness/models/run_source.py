"""A run's last weights as something to merge: the tensors of its checkpoint, mapped; LoRA as exact sums."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness.config.checks import check_model
from harness.config.errors import wrong_value
from harness.config.load import load_file
from harness.config.schema import Config
from harness.merging.layers import embedding_of, head_of, is_transposed
from harness.merging.lora import UpdatedTensor
from harness.merging.operands import Floats
from harness.merging.source import TORCH_NAMES, LowRank, Source, Tensor, Updates, as_rows
from harness.merging.vocabulary import read_vocabulary
from harness.models.checkpoint_files import archive_fingerprint, checkpoints, states
from harness.models.language_model import new_model_config
from harness.models.tokenizer import load_tokenizer
from harness.runs.directory import RunDirectory

PREFIX = "model."
BASE_WEIGHT = re.compile(r"(.+)\.base_layer\.(weight|bias)")
DTYPES = {getattr(torch, name): stored for stored, name in TORCH_NAMES.items()}


@dataclass(frozen=True)
class MappedTensor:
    """A tensor of a checkpoint of torch's."""

    tensor: torch.Tensor

    @property
    def dtype(self) -> str:
        return DTYPES.get(self.tensor.dtype, str(self.tensor.dtype).removeprefix("torch.").upper())

    @property
    def dimensions(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)

    @property
    def shape(self) -> tuple[int, int]:
        return as_rows(self.dimensions)

    def read(self, start: int, stop: int) -> Floats:
        rows: Floats = self.tensor.reshape(self.shape)[start:stop].float().clone().numpy()
        return rows

    def raw(self) -> Iterator[bytes]:
        yield self.tensor.contiguous().view(torch.uint8).numpy().tobytes()


def run_source(run: RunDirectory, label: str, *, key: str, stored: Source | None, step: int | None = None) -> Source:
    """The weights that a run ended with, or had at a step. stored: the model that it started from, where it is one on disk.

    Raises InputError for a run that has none, or whose adapter is no sum.
    """
    config = load_file(run.config, checked_by=check_model)
    _refuse_what_is_no_sum(config, label, key)
    files = checkpoints(run.checkpoints) if step is None else states(run)
    if not files:
        raise wrong_value(key, label, f"{run.path} has no checkpoint (trainer.final_checkpoint decides what a run keeps)")
    if step is not None and step not in files:
        raise wrong_value(key, label, f"{run.path} has no checkpoint of that step; valid: {', '.join(map(str, files))}")
    path = files[max(files) if step is None else step]
    try:
        state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)["state_dict"]
    except Exception as error:  # random bytes can upset a parser in any way
        raise wrong_value(key, label, f"its checkpoint {path} is damaged: {str(error).partition(chr(10))[0]}") from error
    weights = {name.removeprefix(PREFIX): value for name, value in state.items() if name.startswith(PREFIX)}
    values = dict(stored.config) if stored is not None else _values_from_scratch(config)
    if (tied := _tied_head(weights, values)) is not None:
        del weights[tied]
    tokenizer = config.tokenizer.path
    folder = Path(tokenizer) if tokenizer is not None else stored.folder if stored is not None else None
    vocabulary = read_vocabulary(folder) if folder is not None and folder.is_dir() else None
    tensors = _merged(weights, config, transposed=is_transposed(values))
    return Source(
        label,
        values,
        tensors,
        vocabulary,
        archive_fingerprint(path, key=key),
        folder,
        updates=_updates(tensors, config, stored),
        licence=stored.licence if stored is not None else None,
    )


def _tied_head(weights: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> str | None:
    """The output layer where it is the embedding itself.

    A config.json that says so is not enough: a merge and a stored head untie it. Nor are equal weights: where it says otherwise, files lack
    a tensor without them.
    """
    head, embedding = head_of(weights), embedding_of(weights)
    if head is None or embedding is None or not _says_tied(values):
        return None
    return head if torch.equal(weights[head], weights[embedding]) else None


def _says_tied(values: Mapping[str, Any]) -> bool:
    """Whether config.json ties the output layer to the embedding; where it does not say, the family's default holds."""
    from transformers import CONFIG_MAPPING

    if (said := values.get("tie_word_embeddings")) is not None:
        return bool(said)
    family = str(values.get("model_type"))
    return family in CONFIG_MAPPING and bool(getattr(CONFIG_MAPPING[family].from_dict(dict(values)), "tie_word_embeddings", False))


def _updates(tensors: Mapping[str, Tensor], config: Config, stored: Source | None) -> Updates | None:
    """What LoRA added to the model at model.path; None of a run that began from other weights."""
    is_stored_base = stored is not None and stored.is_whole and config.model.checkpoint is None and config.model.merge.method is None
    if config.adapter.name != "lora" or config.adapter.variant == "pissa" or stored is None or not is_stored_base:
        return None
    return Updates(stored.fingerprint, {name: one.update for name, one in tensors.items() if isinstance(one, UpdatedTensor)})


def _merged(weights: dict[str, torch.Tensor], config: Config, *, transposed: bool) -> dict[str, Tensor]:
    """Tensors by the names that the model has without its adapter."""
    tensors: dict[str, Tensor] = {}
    adapter = config.adapter
    scaling = adapter.alpha / (adapter.rank**0.5 if adapter.variant == "rslora" else adapter.rank)
    for name, value in weights.items():
        layer = BASE_WEIGHT.fullmatch(name)
        if ".lora_" in name:
            continue
        if layer is None:
            tensors[name] = MappedTensor(value)
            continue
        module = layer[1]
        down, up = (weights.get(f"{module}.lora_{factor}.default.weight") for factor in "AB")
        plain = MappedTensor(value)
        if layer[2] == "bias" or down is None or up is None:
            tensors[f"{module}.{layer[2]}"] = plain
            continue
        tensors[f"{module}.weight"] = UpdatedTensor(plain, LowRank(MappedTensor(down), MappedTensor(up), scaling, transposed))
    return tensors


def _refuse_what_is_no_sum(config: Config, label: str, key: str) -> None:
    adapter = config.adapter
    unusual = {
        "adapter=steering": adapter.name == "steering",
        "adapter.variant=dora": adapter.name == "lora" and adapter.variant == "dora",
        f"adapter.tokens={adapter.tokens}": adapter.name != "none" and adapter.tokens > 0,
        "adapter.train_tokens": bool(adapter.name == "lora" and adapter.train_tokens),
        "tokenizer.new_tokens": bool(config.tokenizer.new_tokens),
    }
    for what, is_so in unusual.items():
        if is_so:
            raise wrong_value(
                key, label, f"a run with {what} is no sum of tensors; valid: export it first (harness export), and merge that"
            )


def _values_from_scratch(config: Config) -> dict[str, Any]:
    """config.json of a model that a run began from scratch."""
    values = new_model_config(config.model, load_tokenizer(config))
    found: dict[str, Any] = json.loads(values.to_json_string(use_diff=False))
    return found
