"""The directions of a steered model: extracted once for all runs with the same model and pairs, and cached; or read from a vector file.

<cache>/steering/<fingerprint>/
    directions.safetensors    see `Extraction.tensors`
    meta.json                 checksums
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.config.checks.model import longest_context
from harness.config.errors import InputError, wrong_value
from harness.config.locations import in_home
from harness.config.schema import Config, SteeringMethod, SteeringReading
from harness.config.steering_controls import draws_pairs
from harness.data.cache_entry import META, open_or_build, shard
from harness.data.preference.contrast import read_contrast_pairs
from harness.data.tokenization import Progress
from harness.models.adapters.steering import Directions, shares_coefficient
from harness.models.device import computes_on_gpu
from harness.models.language_model import build_model
from harness.models.precision import forward_context, weights_dtype
from harness.models.steering.extraction import Extraction, Tokens, extract
from harness.models.steering.vector_file import read_vector, vector_fingerprint
from harness.models.vocabulary import refuse_unknown_ids
from harness.runs.cache import default_cache_dir
from harness.runs.files import read_json, write_json
from harness.training.reference_logprobs import reference_fingerprint

KEY = "adapter.pairs"
FORMAT = 1
"""Increase it when existing entries must not be used any more."""
FILE = "directions.safetensors"
SHARED = 2
"""What a coefficient of several blocks of a vector file means: increase it when that changes. 1, of which nothing was noted: the strongest
block's alone."""
FEWEST = 2
METHOD: SteeringMethod = "mean_difference"
READING: SteeringReading = "last"
"""adapter.method and adapter.reading where they are null."""


def directions_of(config: Config, tokenizer: Any, progress: Progress | None = None) -> Directions | None:
    """What a configuration steers along: from the cache, extracted now, or from its vector file; None of another adapter.

    Raises InputError for pairs and vector files that cannot be used, and for a vector of another model.
    """
    adapter = config.adapter
    if adapter.name != "steering":
        return None
    if adapter.vector is not None:
        return _of_file(config)
    found = extraction_of(config, tokenizer, progress)
    method = METHOD if adapter.method in (None, "random") else adapter.method
    reading = adapter.reading or READING
    vectors, agreement, opposed = found.vectors[method, reading], found.agreement[reading].tolist(), found.opposed[reading].tolist()
    return Directions(dict(enumerate(vectors)), found.norms, agreement=agreement, opposed=opposed)


def steering_fingerprints(config: Config, tokenizer: Any) -> dict[str, str]:
    """Of the pairs or the vector file that a configuration steers by, by their key; {} of another adapter. Raises InputError.

    Where a coefficient is shared out among blocks of a file, what that means is part of it.
    """
    adapter = config.adapter
    if adapter.name != "steering":
        return {}
    if adapter.vector is not None:
        fingerprint, (_, settings) = vector_fingerprint(in_home(adapter.vector)), read_vector(in_home(adapter.vector))
        if shares_coefficient(adapter, settings.coefficients, settings.operation):
            fingerprint = hashlib.sha256(json.dumps([fingerprint, SHARED]).encode()).hexdigest()
        return {"adapter.vector": fingerprint}
    return {KEY: pairs_fingerprint(read_sides(config, tokenizer))}


def extraction_of(config: Config, tokenizer: Any, progress: Progress | None = None) -> Extraction:
    """What is found from adapter.pairs in the model that the configuration starts from: from the cache, or extracted now."""
    sides = read_sides(config, tokenizer)
    trainer = config.trainer
    # Rounding depends on the batches that texts are read in.
    recipe = [FORMAT, model_steered(config), pairs_fingerprint(sides), trainer.precision, trainer.evaluation_batch_tokens]
    name = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()

    def build(directory: Path) -> None:
        from safetensors.torch import save

        done = 0

        def advance(texts: int) -> None:
            nonlocal done
            done += texts
            if progress is not None:
                progress(f"{KEY}, extraction", done, len(sides))

        tensors = _extracted(config, tokenizer, sides, advance).tensors()
        checksums: dict[str, str] = {}
        with shard(directory / FILE, checksums) as stream:
            stream.write(save(tensors))
        write_json(directory / META, {"checksums": checksums})

    return open_or_build(default_cache_dir(config.data.cache_dir) / "steering" / name, _opened, build)


def _opened(entry: Path) -> Extraction | None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if read_json(entry / META) is None:
            return None
        return Extraction.of_tensors(load_file(entry / FILE))
    except (OSError, SafetensorError, KeyError, InputError):
        return None  # a crash of the machine cut it short: it is made anew


def _extracted(config: Config, tokenizer: Any, sides: list[Tokens], advance: Callable[[int], None]) -> Extraction:
    trainer, new_tokens = config.trainer, config.tokenizer.new_tokens
    model: Any = build_model(config.model, tokenizer, seed=config.seed, new_tokens=new_tokens)
    model.train(False)
    model.to(device="cuda" if computes_on_gpu(trainer) else "cpu", dtype=weights_dtype(trainer.precision))
    refuse_unknown_ids(model, tokenizer, max(int(side.ids.max()) for side in sides), path=config.model.path)
    longest, most = max(len(side.ids) for side in sides), longest_context(model.config.to_dict())
    if most is not None and longest > most:
        raise wrong_value(KEY, config.adapter.pairs, f"its longest text has {longest} tokens; valid: at most {most}, the model's context")
    with forward_context(trainer.precision, model.device.type):
        return extract(model, sides, batch_tokens=trainer.evaluation_batch_tokens, advance=advance)


def model_steered(config: Config) -> str:
    """A hash of the model whose hidden states are steered: without model.checkpoint, whose weights are a trained direction's."""
    return reference_fingerprint(replace(config, model=replace(config.model, checkpoint=None)), None, key="model.path")


def read_sides(config: Config, tokenizer: Any) -> list[Tokens]:
    """The positive and negative texts of adapter.pairs in turn, as tokens; of another draw (adapter.draw) some twice and others not.

    Raises InputError for rows that are no pairs, and for too few of them.
    """
    assert config.adapter.pairs is not None, "checked"
    path = in_home(config.adapter.pairs)
    chat = config.objective.name == "sft"
    pairs = read_contrast_pairs([path], config.data, tokenizer, key=KEY, chat=chat)
    if len(pairs) < FEWEST:
        raise wrong_value(KEY, config.adapter.pairs, f"{len(pairs)} contrast pair; valid: at least {FEWEST}, usual are 50 to 500")
    if draws_pairs(config.adapter):
        generator = np.random.Generator(np.random.Philox(key=[config.adapter.draw, len(pairs)]))
        pairs = [pairs[place] for place in generator.integers(len(pairs), size=len(pairs)).tolist()]
    return [Tokens(side.ids, side.trained) for pair in pairs for side in pair.sides]


def pairs_fingerprint(sides: list[Tokens]) -> str:
    """A hash of the pairs' tokens."""
    digest = hashlib.sha256()
    for side in sides:
        digest.update(len(side.ids).to_bytes(8, "little") + side.ids.tobytes() + side.is_answer.tobytes())
    return digest.hexdigest()


def _of_file(config: Config) -> Directions:
    import torch

    assert config.adapter.vector is not None
    vectors, settings = read_vector(in_home(config.adapter.vector))
    if settings.model_fingerprint != model_steered(config):
        problem = f"it is of another model ({settings.model}); valid: its own, or adapter.pairs, to extract anew"
        raise wrong_value("adapter.vector", config.adapter.vector, problem)
    return Directions(
        vectors,
        torch.tensor(settings.norms),
        settings.operation,
        settings.positions,
        settings.coefficients,
        settings.agreement,
        settings.opposed,
    )
