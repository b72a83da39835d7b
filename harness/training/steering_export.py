"""A steered model to hand on: its direction as a vector file or for llama.cpp, or in the model's own weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from harness.config.checks.trainer import trains
from harness.config.errors import InputError
from harness.config.locations import in_home
from harness.config.private import Scrub
from harness.config.schema import Config
from harness.config.steering_controls import controlled
from harness.models.adapters.steering import Steering
from harness.models.language_model import build_model
from harness.models.steering.baked import bake, refuse_unequal
from harness.models.steering.gguf import control_vector
from harness.models.steering.vector_file import VectorSettings, read_vector, write_vector
from harness.runs.files import replacing
from harness.training.steering import METHOD, READING, extraction_of, model_steered, pairs_fingerprint, read_sides

VectorFormat = Literal["vector", "gguf", "baked"]
GGUF = "control-vector.gguf"


def vector_settings(config: Config, tokenizer: Any, steering: Steering) -> VectorSettings:
    """What is said of the directions of a steered model."""
    adapter = controlled(config.adapter)
    if adapter.vector is not None:
        _, own = read_vector(in_home(adapter.vector))
        method, reading, pairs, fingerprint = own.method, own.reading, own.pairs, own.pairs_fingerprint
        agreement, opposed = own.agreement, own.opposed
    else:
        found = extraction_of(config, tokenizer)
        method, reading = METHOD, adapter.reading or READING
        pairs, fingerprint = found.pairs, pairs_fingerprint(read_sides(config, tokenizer))
        agreement, opposed = found.agreement[reading].tolist(), found.opposed[reading].tolist()
    return VectorSettings(
        model=Scrub.of_this_machine().path(config.model.path or "a model without a name"),
        model_fingerprint=model_steered(config),
        method=adapter.method or method,
        reading=reading,
        operation=steering.operation,
        positions=steering.positions,
        coefficients=dict(steering.coefficients),
        norms=steering.norms.tolist(),
        pairs=pairs,
        pairs_fingerprint=fingerprint,
        agreement=agreement,
        opposed=opposed,
        trained=trains(config.trainer) or config.model.checkpoint is not None,
    )


def write_steering(directory: Path, config: Config, tokenizer: Any, steering: Steering) -> None:
    """Write the vector file: of extracted pairs the raw directions of all blocks, of others those that steer, as long as their blocks'
    outputs are."""
    settings = vector_settings(config, tokenizer, steering)
    vectors = {block: steering.norms[block] * unit for block, unit in steering.units.items()}
    if config.adapter.pairs is not None and settings.method != "random" and not settings.trained:
        vectors = dict(enumerate(extraction_of(config, tokenizer).vectors[settings.method, settings.reading]))
    write_vector(directory, vectors, settings)


def write_gguf(directory: Path, steering: Steering, *, family: str) -> None:
    """Write a control vector of llama.cpp. Raises InputError for what is none."""
    if steering.operation == "ablate":
        raise InputError("adapter.operation=ablate: llama.cpp only adds; valid: --format baked, or vector")
    if steering.positions != "all":
        raise InputError(f"adapter.positions={steering.positions}: llama.cpp adds at every token; valid: all, or --format vector")
    content = control_vector({block: steering.added(block) for block in steering.units}, family=family)
    with replacing(directory / GGUF) as stream:
        stream.write(content)


def baked(config: Config, tokenizer: Any, steered: Any, steering: Steering) -> tuple[Any, float]:
    """The model with its direction in its weights, in float32, and by how much its logits differ from those of the steered model, relative
    to their range. Raises InputError where that is no rounding."""
    plain: Any = build_model(config.model, tokenizer, seed=config.seed, new_tokens=config.tokenizer.new_tokens)
    model = bake(plain.eval(), steering)
    return model, refuse_unequal(model, steered)
