"""What a reference says of pairs of answers: made once for all runs with the same data and reference, and cached."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import PreTrainedModel

from harness.config.schema import Config, TrainerConfig
from harness.data.cache_entry import open_and_fill, open_or_build
from harness.data.dataset import batch_of
from harness.data.order import Float64
from harness.data.ragged import Int64
from harness.data.reference_logps import create_logps, open_logps, write_logps
from harness.data.tokenization import Progress
from harness.data.training_data import PackedSource, TrainingData
from harness.evaluation.preference_set import PreferenceSet
from harness.models.adapters.build import build_adapted_model
from harness.models.checkpoint_files import checkpoint_fingerprint
from harness.models.device import computes_on_gpu
from harness.models.fixed_model import fixed, load_fixed, refuse_other_ids
from harness.models.language_model import build_model, model_fingerprint
from harness.models.precision import forward_context, weights_dtype
from harness.models.pretrained import pretrained_fingerprint
from harness.runs.cache import default_cache_dir
from harness.runs.report_split import REPORT
from harness.training.answer_logps import answer_logps
from harness.training.evaluation import EvaluatedModel, evaluated
from harness.training.mismatched import mismatched

KEY = "objective.reference"
FORMAT = 1
"""Increase it when existing entries must not be used any more."""


def reference_fingerprint(config: Config, path: str | None, *, key: str) -> str:
    """A hash of a reference: of the model at a path that the configuration has under `key`; None: of what training starts from, which no
    adapter has changed."""
    if path is not None:
        return pretrained_fingerprint(path, key=key)
    model, new_tokens = config.model, config.tokenizer.new_tokens
    recipe: list[Any] = [model_fingerprint(model), new_tokens]
    if model.path is None or new_tokens:
        recipe.append(config.seed)
    if model.checkpoint is not None:
        recipe += [checkpoint_fingerprint(model.checkpoint), asdict(config.adapter)]
    return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()


def load_reference(config: Config, tokenizer: Any, path: str | None, *, key: str) -> PreTrainedModel:
    """That reference, on its device and in the precision of training. Raises InputError for what cannot be used, see `fixed`."""
    if path is not None:
        model = load_fixed(path, config, key=key)
    elif config.model.checkpoint is not None:
        model = fixed(build_adapted_model(config, tokenizer).model, config, which="the reference (model.checkpoint)")
    else:
        start = build_model(config.model, tokenizer, seed=config.seed, new_tokens=config.tokenizer.new_tokens)
        model = fixed(start, config, which="the reference (model)")
    module: torch.nn.Module = model
    device = "cuda" if computes_on_gpu(config.trainer) else "cpu"
    return cast("PreTrainedModel", module.to(device=device, dtype=weights_dtype(config.trainer.precision)))


def with_reference(
    config: Config,
    data: TrainingData,
    tokenizer: Any,
    progress: Progress | None = None,
    *,
    rows: int | None = None,
    with_mismatched: bool = False,
) -> TrainingData:
    """The data with the reference's log-probability of each answer in its first `rows` rows (None: in all): from the cache, or made now.

    with_mismatched: also of each prompt with an answer that is not its own.
    Raises InputError for a reference that cannot be used, see `load_reference`.
    """
    reference = cache(lambda: load_reference(config, tokenizer, config.objective.reference, key=KEY))
    needed = data.rows_until(rows)
    sources = [source for source in data.sources if source.documents.are_answers]
    logps = {source.name: _logps(config, source, needed[source.name], reference, _of_source(progress, source.name)) for source in sources}
    if not with_mismatched:
        return data.with_reference(logps)
    return data.with_reference(
        logps, {source.name: _mismatched_logps(config, source, needed[source.name], reference) for source in sources}
    )


def _of_source(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    return None if progress is None else partial(progress, f"{KEY} for data.sources.{name}")


def _logps(
    config: Config,
    source: PackedSource,
    rows: Int64,
    reference: Callable[[], PreTrainedModel],
    progress: Callable[[int, int], None] | None,
) -> Float64:
    """A source's entry of the cache, with everything in it that `rows` (int64[r]) of the source need: float64[documents]."""
    # Rounding in half precision depends on the rows that a document is read in: both sides read the same ones.
    recipe = [FORMAT, source.fingerprint, reference_fingerprint(config, config.objective.reference, key=KEY), config.trainer.precision]
    entry = _entry(config, recipe)
    return open_and_fill(
        entry,
        open_logps,
        partial(create_logps, documents=source.documents.documents),
        lambda found: missing(source, rows, found),
        lambda found, wanted: _read_rows(config, source, wanted, entry, reference(), progress),
    )


def _mismatched_logps(config: Config, source: PackedSource, rows: Int64, reference: Callable[[], PreTrainedModel]) -> Float64:
    """The same of each prompt in the rows with the answer of its partner: float64[documents]."""
    fingerprint = reference_fingerprint(config, config.objective.reference, key=KEY)
    entry = _entry(config, [FORMAT, "mismatched", source.fingerprint, fingerprint, config.trainer.precision])
    documents = np.unique(source.packing.piece_document[source.packing.pieces_of(rows)])

    def fill(found: Float64, wanted: Int64) -> None:
        with _evaluated(reference(), config.trainer) as reading:
            write_logps(entry, wanted, mismatched(source, wanted).log_likelihoods(reading, lambda done: None))

    return open_and_fill(
        entry,
        open_logps,
        partial(create_logps, documents=source.documents.documents),
        lambda found: documents[np.isnan(found[documents])],
        fill,
    )


def missing(source: PackedSource, rows: Int64, logps: Float64) -> Int64:
    """Those of a source's rows (int64[r]) that hold a document without a log-probability: int64[m]."""
    packing = source.packing
    pieces = packing.row_offsets[rows + 1] - packing.row_offsets[rows]
    unknown = np.isnan(logps[packing.piece_document[packing.pieces_of(rows)]])
    return rows[np.bincount(np.repeat(np.arange(len(rows)), pieces)[unknown], minlength=len(rows)) > 0]


def _read_rows(
    config: Config,
    source: PackedSource,
    rows: Int64,
    entry: Path,
    model: PreTrainedModel,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Let the reference read the rows (int64[r]), and write what it says of their documents."""
    packing, trainer = source.packing, config.trainer
    at_once = max(1, trainer.evaluation_batch_tokens // packing.context_length)
    made, total = 0, 8 * len(packing.pieces_of(rows))
    for start in range(0, len(rows), at_once):
        some = rows[start : start + at_once]
        pieces = packing.pieces_of(some)
        batch = {
            **batch_of(source, some),
            "answer_tokens": torch.from_numpy(source.piece_targets[pieces]),
            "holds_answers": torch.ones(len(some), dtype=torch.bool),
        }
        on_device = {name: tensor.to(model.device) for name, tensor in batch.items()}
        with torch.no_grad(), forward_context(trainer.precision, model.device.type):
            logps, _ = answer_logps(model, on_device, chunk=trainer.loss_chunk_tokens)
        write_logps(entry, packing.piece_document[pieces], logps.double().cpu().numpy())
        if progress is not None:
            made += 8 * len(pieces)
            # In bytes of the cache, as of a teacher's samples.
            progress(made, total)


def with_set_reference(config: Config, part: PreferenceSet, tokenizer: Any) -> PreferenceSet:
    """The evaluation set with what its reference says of its answers: from the cache, or made when the set is first measured.

    Raises InputError for a reference of another vocabulary.
    """
    whole = part.name.removesuffix(f"/{REPORT}")
    path, key = config.data.preference[whole].reference, f"data.preference.{whole}.reference"
    if path is not None:
        refuse_other_ids(path, tokenizer, part.largest_id, key=key, what="reference")
    reference = reference_fingerprint(config, path, key=key)
    trainer = config.trainer
    entry = _entry(config, [FORMAT, part.fingerprint, reference, trainer.precision, trainer.evaluation_batch_tokens])

    def build(directory: Path) -> None:
        with _evaluated(load_reference(config, tokenizer, path, key=key), trainer) as reading:
            logps = part.logps(reading, lambda done: None)
        create_logps(directory, len(logps))
        write_logps(directory, np.arange(len(logps)), logps)

    return replace(part, reference_fingerprint=reference, reference=partial(open_or_build, entry, open_logps, build))


def _evaluated(model: PreTrainedModel, trainer: TrainerConfig) -> AbstractContextManager[EvaluatedModel]:
    precision = partial(forward_context, trainer.precision, model.device.type)
    return evaluated(model, batch_tokens=trainer.evaluation_batch_tokens, precision=precision, alone=True)


def _entry(config: Config, recipe: list[Any]) -> Path:
    return default_cache_dir(config.data.cache_dir) / "reference" / hashlib.sha256(json.dumps(recipe).encode()).hexdigest()
