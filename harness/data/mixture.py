"""From the configuration to training data: tokenize, hold out, pack, mix; refuse empty data and leaks of evaluation sets."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness.config.errors import InputError
from harness.config.schema import DataConfig
from harness.data.packing import Packing, pack, pack_pairs
from harness.data.preference.formats import VALID, VALID_LABELLED
from harness.data.preference.shared_prompt import shared_prompts
from harness.data.ragged import offsets_of
from harness.data.split import Hashes, held_out, refuse_leaks
from harness.data.token_cache import TokenizedDocuments
from harness.data.tokenization import Tokenization
from harness.data.training_data import PackedSource, TrainingData

log = logging.getLogger("harness")
_REMEDY = {
    "all": "valid: conversations with any text",
    "assistant": "valid: conversations in which the assistant says something",
    "last_assistant": "valid: conversations in which the assistant says something",
    "flagged": "valid: turns with train=true in the data, or data.loss_on=assistant",
    "spans": "valid: turns with train_spans in the data, or data.loss_on=assistant",
}
"""Of conversations of which nothing is trained, by data.loss_on."""


def token_shares(config: DataConfig, *, replayed_later: bool = False) -> dict[str, float]:
    """The share of each drawn source in the tokens of its kind (replayed or not), by name, sorted; each kind's add up to 1.

    Where nothing is replayed, neither from the start (replay_share = 0) nor later, the sources marked `replay` are left out; so are those
    of weight 0.
    """
    drawn = {name: source for name, source in config.sources.items() if source.weight > 0}
    replayed = {name: source.weight for name, source in drawn.items() if source.replay}
    others = {name: source.weight for name, source in drawn.items() if not source.replay}
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
        lengths = np.where(used, documents.lengths, 0)
        if documents.are_pairs:
            shared = shared_prompts(documents) if config.share_prompt else None
            packing = pack_pairs(lengths, config.context_length, prompt=prompt, shared=shared)
            _say_which_answers_are_lost(f"data.sources.{name}", documents, used, packing)
        elif documents.labels is not None:
            packing = pack(lengths, config.context_length, "best_fit", "drop", prompt=prompt)
            _say_which_answers_are_lost(f"data.sources.{name}", documents, used, packing)
        else:
            packing = pack(lengths, config.context_length, config.packing, config.overflow, prompt=prompt)
        if packing.rows == 0:
            raise InputError(
                f"data.sources.{name}: none of its {documents.documents} documents is left to train on: "
                f"{np.count_nonzero(~used)} are held out for validation, {packing.documents_cut} dropped for being longer than "
                f"data.context_length={config.context_length} (data.overflow={config.overflow})"
            )
        layout = ["pairs"] if documents.are_pairs else ["answers"] if documents.are_answers else [config.packing, config.overflow]
        recipe = [documents.fingerprint, _held_out_share(config, name), config.context_length, *layout]
        if packing.shares_prompts:
            recipe.append("prompts shared")
            _say_what_is_shared(name, documents, packing)
        if prompt:
            recipe.append(prompt)
        source = PackedSource(name, documents, packing, np.flatnonzero(used), share, config.sources[name].replay, "")
        trained = np.flatnonzero(source.row_targets)
        if not documents.are_answers:
            _say_what_is_lost(source, config, rows_left=len(trained))
        if len(trained) < packing.rows:
            # Of no use to the loss, and a step of nothing else would have none.
            source = replace(source, packing=packing.with_rows(trained))
            recipe.append("rows with a trained token alone")
        sources.append(replace(source, fingerprint=hashlib.sha256(json.dumps(recipe).encode()).hexdigest()))
    if tokens.documents in ("pairs", "answers") and not any(source.documents.are_answers for source in sources):
        if tokens.documents == "answers":
            raise InputError(
                f"data.sources: none of {', '.join(shares)} holds answers with labels; valid: {VALID_LABELLED}; or pairs: {VALID}"
            )
        labelled = f"; or objective.kind=kto for answers with labels ({VALID_LABELLED})"
        raise InputError(f"data.sources: none of {', '.join(shares)} holds pairs of answers; valid: {VALID}{labelled}")
    return TrainingData(sources, seed, [(0, config.replay_share)])


def _say_which_answers_are_lost(key: str, documents: TokenizedDocuments, used: NDArray[np.bool_], packing: Packing) -> None:
    """Say how many pairs, or answers with labels, are too long for a row. Raises InputError where none is left."""
    each, unit = (2, "pairs") if documents.are_pairs else (1, "answers")
    count, lost = int(np.count_nonzero(used)) // each, packing.documents_cut // each
    context, longest = packing.context_length, int(documents.lengths.reshape(-1, each).sum(axis=1).max())
    has = "both answers of the longest pair have" if documents.are_pairs else "the longest answer has"
    remedy = f"valid: a larger data.context_length ({has} {longest} tokens, with the prompt before each)"
    if count == 0:
        raise InputError(
            f"{key}: every one of its {documents.documents // each} {unit} is held out; valid: a smaller share, or more {unit}"
        )
    if lost == count:
        raise InputError(f"{key}: every one of its {count} {unit} is longer than a row of data.context_length={context}; {remedy}")
    if lost:
        log.warning(
            "%s: %d of %d %s are dropped, being longer than a row of data.context_length=%d; %s", key, lost, count, unit, context, remedy
        )


def _say_what_is_shared(name: str, documents: TokenizedDocuments, packing: Packing) -> None:
    unshared = int(documents.lengths[packing.piece_document].sum())
    saved = unshared - packing.tokens
    log.info("data.sources.%s: prompts are read once a pair: %d of %d tokens less (%.1f%%)", name, saved, unshared, 100 * saved / unshared)


def _say_what_is_lost(source: PackedSource, config: DataConfig, *, rows_left: int) -> None:
    """Say what is not trained on, since its rows hold no token that is predicted and trained. Raises InputError where nothing is left."""
    documents, key = source.documents, f"data.sources.{source.name}"
    used, cut = len(source.used), f"data.overflow={config.overflow} at data.context_length={config.context_length}"
    if documents.trained is None:
        if not rows_left:
            raise InputError(f"{key}: none of its {used} documents has two tokens, to predict one from the other")
        return
    upto = offsets_of(documents.trained)[documents.offsets]
    has_trained = np.diff(upto)[source.used] > 0
    if not has_trained.any():
        remedy = _REMEDY[config.loss_on]
        raise InputError(f"{key}: no token of its {used} conversations is trained (data.loss_on={config.loss_on}); {remedy}")
    kept = np.zeros(documents.documents, dtype=np.bool_)
    kept[source.packing.piece_document[source.piece_targets > 0]] = True
    lost = int(np.count_nonzero(has_trained & ~kept[source.used]))
    longest = int(documents.lengths[source.used].max())
    remedy = f"valid: a larger data.context_length (the longest has {longest} tokens), or data.overflow=split"
    if not rows_left:
        raise InputError(f"{key}: the trained tokens of all its {used} conversations were cut off ({cut}); {remedy}")
    if lost:
        log.warning("%s: the trained tokens of %d of its %d conversations were cut off (%s); %s", key, lost, used, cut, remedy)
    if left_out := source.packing.rows - rows_left:
        log.info("%s: %d of %d rows hold no token that is trained, and are left out", key, left_out, source.packing.rows)


def _held_out_share(config: DataConfig, source: str) -> float:
    """The largest share of a source that an evaluation set holds out; it includes the smaller ones."""
    held = [(one.source, one.share) for one in config.validation.values()] + [(one.source, one.share) for one in config.preference.values()]
    return max((share or 0.0 for held_from, share in held if held_from == source), default=0.0)


def _used(config: DataConfig, source: str, documents: TokenizedDocuments) -> NDArray[np.bool_]:
    """Which documents of a source are trained on: bool[n]."""
    return ~held_out(documents.hashes, _held_out_share(config, source))
