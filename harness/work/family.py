"""What a merge is made of, for its recipe: its ingredients, how each was made where it was made here, and so on down."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from harness.config.errors import InputError
from harness.config.private import Scrub
from harness.config.schema import MergeConfig, ModelConfig
from harness.config.validate import to_plain, to_section
from harness.merging.to_mergekit import to_mergekit
from harness.models.several import one_by_one
from harness.runs.directory import RunDirectory, run_called
from harness.runs.record import load_run

log = logging.getLogger("harness")
MOST_DEEP = 8
"""Merges of runs that went on from merges, and so on."""


def family_of(config: Mapping[str, Any], fingerprints: Mapping[str, str], scrub: Scrub, *, depth: int = 0) -> dict[str, Any]:
    """The models that a run started from, by the configuration keys that name them; {} of a run that merged none.

    Of each its path, its fingerprint, and under made_by what it takes to make it again, where a run here did: configuration, fingerprints
    of its data, its metrics, hardware, and its own family. config: config.yaml; fingerprints: of result.json.
    """
    merge = _merge_of(config)
    if merge is None or depth > MOST_DEEP:
        return {}
    words = _words(merge)
    return {
        key: {"path": scrub.path(word), "fingerprint": fingerprints.get(key), "made_by": _made_by(word, scrub, depth=depth)}
        for key, word in words.items()
    }


def with_single_models(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration with each model of its merge by itself: which were a study's best, or a run's last, is known here and now alone."""
    merge = _merge_of(config)
    if merge is None:
        return config
    return {**config, "model": {**config["model"], "merge": to_plain(_one_by_one(merge))}}


def _merge_of(config: Mapping[str, Any]) -> MergeConfig | None:
    """None of a run that merged nothing; one of an older harness has no such section."""
    merge = config.get("model", {}).get("merge") or {}
    return to_section(ModelConfig, config["model"]).merge if merge.get("method") else None


def _one_by_one(merge: MergeConfig) -> MergeConfig:
    try:
        return one_by_one(merge)
    except InputError as error:  # it was there when the run began
        log.warning("the recipe names no single models: %s", error)
        return merge


def _words(merge: MergeConfig) -> dict[str, str]:
    merge = _one_by_one(merge)
    base = {} if merge.base is None else {"model.merge.base": merge.base}
    return base | {f"model.merge.ingredients.{name}": one.path for name, one in merge.ingredients.items()}


def run_in(word: str) -> RunDirectory | None:
    """The run here that an ingredient's word names, RUN or RUN@STEP."""
    name, at, step = word.rpartition("@")
    return run_called(word) or (run_called(name) if at and step.isdigit() else None)


def _made_by(word: str, scrub: Scrub, *, depth: int) -> dict[str, Any] | None:
    run = run_in(word)
    if run is None:
        return None
    _, at, step = word.rpartition("@")
    record = load_run(run)
    result = record.result
    return {
        "run": scrub.text(record.name),
        "step": int(step) if at and step.isdigit() else result.step,
        "config": scrub.config(with_single_models(record.config)),
        "fingerprints": result.fingerprints,
        "metrics": result.metrics,
        "hardware": result.hardware,
        "ingredients": family_of(record.config, result.fingerprints, scrub, depth=depth + 1),
    }


def mergekit_words(config: Mapping[str, Any], scrub: Scrub) -> tuple[dict[str, Any] | None, str]:
    """The merge of a run as a recipe of mergekit, and "", or None and the reason; (None, "") of a run that merged nothing."""
    merge = _merge_of(config)
    if merge is None:
        return None, ""
    try:
        merge = one_by_one(merge)
        runs = [one.path for one in merge.ingredients.values() if run_in(one.path) is not None]
        if runs:
            raise InputError(f"{scrub.path(runs[0])} is a run, which harness export writes as a model that mergekit reads")
        return scrub.value(to_mergekit(merge)), ""
    except InputError as error:
        return None, scrub.text(str(error))
