"""From the configuration to training data: tokenize, hold out, pack, mix; refuse empty data and leaks of evaluation sets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from harness.config.errors import InputError
from harness.config.schema import DataConfig
from harness.data.packing import pack
from harness.data.split import Hashes, held_out, refuse_leaks
from harness.data.token_cache import TokenizedDocuments
from harness.data.tokenization import Tokenization
from harness.data.training_data import PackedSource, TrainingData


def token_shares(config: DataConfig, *, replayed_later: bool = False) -> dict[str, float]:
    """The share of each drawn source in the tokens of its kind (replayed or not), by name, sorted; each kind's add up to 1.

    Where nothing is replayed, neither from the start (replay_share = 0) nor later, the sources marked `replay` are left out.
    """
    replayed = {name: source.weight for name, source in config.sources.items() if source.replay}
    others = {name: source.weight for name, source in config.sources.items() if not source.replay}
    shares: dict[str, float] = {}
    for weights, is_drawn in ((others, True), (replayed, config.replay_share > 0 or replayed_later)):
        shares |= {name: weight / sum(weights.values()) for name, weight in weights.items() if is_drawn}
    return dict(sorted(shares.items()))  # the order in which sources were written down must not matter


def build_training_data(
    tokens: Tokenization,
    seed: int,
    *,
    evaluated: Mapping[str, Hashes] | None = None,
    replayed_later: bool = False,
    prompt: int = 0,
) -> TrainingData:
    """The rows that a run draws from, in the order that `seed` gives them.

    evaluated: hashes of the texts of each evaluation set, by the configuration key of the set: none of them may be trained on.
    replayed_later: whether the sources marked replay are drawn from at some time even where replay_share is 0.
    prompt: length of the soft prompt that every document, or piece of one, begins with.
    Raises InputError for text that cannot be read, sources that leave no row or no token to train on, and texts of an evaluation set that
    are also trained on.
    """
    config = tokens.config
    shares = token_shares(config, replayed_later=replayed_later)
    sources = []
    for name, share in shares.items():
        documents = tokens.of_source(name)
        used = _used(config, name, documents)
        for key, hashes in (evaluated or {}).items():
            refuse_leaks(documents.hashes[used], hashes, source=name, key=key)
        # A document of no length takes no place in any row.
        packing = pack(np.where(used, documents.lengths, 0), config.context_length, config.packing, config.overflow, prompt=prompt)
        if packing.rows == 0:
            raise InputError(
                f"data.sources.{name}: none of its {documents.documents} documents is left to train on: "
                f"{np.count_nonzero(~used)} are held out for validation, {packing.documents_cut} dropped for being longer than "
                f"data.context_length={config.context_length} (data.overflow={config.overflow})"
            )
        recipe = [documents.fingerprint, _held_out_share(config, name), config.context_length, config.packing, config.overflow]
        if prompt:
            recipe.append(prompt)
        fingerprint = hashlib.sha256(json.dumps(recipe).encode()).hexdigest()
        source = PackedSource(name, documents, packing, np.flatnonzero(used), share, config.sources[name].replay, fingerprint)
        if documents.trained is not None and not source.row_targets.any():
            raise InputError(
                f"data.sources.{name}: no token of its {documents.documents} conversations is trained (data.loss_on={config.loss_on}, "
                f"data.overflow={config.overflow}); valid: data.loss_on=assistant, "
                "or turns with train=true (flagged) or train_spans (spans) in the data"
            )
        sources.append(source)
    return TrainingData(sources, seed, [(0, config.replay_share)])


def _held_out_share(config: DataConfig, source: str) -> float:
    """The largest share of a source that a validation set holds out; it includes the smaller ones."""
    return max((validation.share or 0.0 for validation in config.validation.values() if validation.source == source), default=0.0)


def _used(config: DataConfig, source: str, documents: TokenizedDocuments) -> NDArray[np.bool_]:
    """Which documents of a source are trained on: bool[n]."""
    return ~held_out(documents.hashes, _held_out_share(config, source))
