"""From the configuration to data: tokenize, hold out, pack, mix; refuse what would train on nothing or evaluate on what was trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from harness.config.errors import InputError, unknown, wrong_value
from harness.config.schema import DataConfig, ObjectiveName
from harness.data.chat.encoder import ChatEncoder, build_chat_encoder
from harness.data.chat.formats import begins_with_conversation
from harness.data.encoder import TokenizerLike
from harness.data.packing import pack
from harness.data.sources import source_files
from harness.data.split import held_out, refuse_leaks
from harness.data.token_cache import TokenizedDocuments, tokenize, tokenize_conversations
from harness.data.training_data import PackedSource, TrainingData
from harness.data.validation import ValidationSet, validation_set
from harness.runs.cache import default_cache_dir

Progress = Callable[[str, int, int], None]
"""Called while text is tokenized: configuration key of the source or domain, bytes of its files read so far, bytes of all of them."""


def token_shares(config: DataConfig, *, replayed_later: bool = False) -> dict[str, float]:
    """The share of each drawn source in the tokens of its kind (replayed or not), by name, sorted; each kind's add up to 1.

    Where nothing is replayed, neither from the start (replay_share = 0) nor later, the sources marked `replay` are left out.
    Raises InputError when there is nothing to train onto, or nothing to replay.
    """
    replayed = {name: source.weight for name, source in config.sources.items() if source.replay}
    others = {name: source.weight for name, source in config.sources.items() if not source.replay}
    if not config.sources:
        raise InputError("data.sources: no source to train on; give data.sources.<name>.path=FILE")
    if not others:
        raise InputError(f"data.sources: {', '.join(replayed)}: every source is marked replay; at least one must be text to train onto")
    if config.replay_share > 0 and not replayed:
        raise wrong_value("data.replay_share", config.replay_share, "no source to replay; mark one with data.sources.<name>.replay=true")
    shares: dict[str, float] = {}
    for weights, is_drawn in ((others, True), (replayed, config.replay_share > 0 or replayed_later)):
        shares |= {name: weight / sum(weights.values()) for name, weight in weights.items() if is_drawn}
    return dict(sorted(shares.items()))  # the order in which sources were written down must not matter


def build_training_data(
    config: DataConfig,
    tokenizer: TokenizerLike,
    seed: int,
    progress: Progress | None = None,
    *,
    objective: ObjectiveName = "cpt",
    replayed_later: bool = False,
    prompt: int = 0,
) -> TrainingData:
    """The rows that a run draws from, in the order that `seed` gives them; of conversations where the objective learns from these.

    replayed_later: whether the sources marked replay are drawn from at some time even where replay_share is 0.
    prompt: length of the soft prompt that every document, or piece of one, begins with.
    Raises InputError for text that cannot be read, sources that leave no row or no token to train on, and texts of an evaluation set that
    are also trained on.
    """
    shares = token_shares(config, replayed_later=replayed_later)
    tokens = _Tokenization(config, tokenizer, progress, objective)
    validation = _validation_sets(config, tokens)
    sources = []
    for name, share in shares.items():
        documents = tokens.of_source(name)
        used = _used(config, name, documents)
        for domain, chosen in validation.items():
            refuse_leaks(documents.hashes[used], chosen.hashes, source=name, domain=domain)
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


def build_validation_data(
    config: DataConfig, tokenizer: TokenizerLike, progress: Progress | None = None, *, objective: ObjectiveName = "cpt"
) -> dict[str, ValidationSet]:
    """The evaluation set of each domain: the same for every run that has the same files, tokenizer, context length and max_tokens.

    Raises InputError for text that cannot be read, an unknown source, and a domain without any document to evaluate on.
    """
    return _validation_sets(config, _Tokenization(config, tokenizer, progress, objective))


def _validation_sets(config: DataConfig, tokens: _Tokenization) -> dict[str, ValidationSet]:
    sets = {}
    for domain, validation in config.validation.items():
        key = f"data.validation.{domain}"
        if validation.path is not None:
            documents = tokens.of_path(key, validation.path, validation.split, validation.field, validation.format)
            candidates = np.arange(documents.documents, dtype=np.int64)
        elif validation.source is None or validation.share is None:
            raise InputError(f"{key}: give either .path, or .source with .share")
        elif validation.source not in config.sources:
            raise unknown("source", validation.source, config.sources, where=f"{key}.source")
        else:
            documents = tokens.of_source(validation.source)
            candidates = np.flatnonzero(held_out(documents.hashes, validation.share))
            if len(candidates) == 0:
                problem = f"holds out none of the {documents.documents} documents of data.sources.{validation.source}; take a larger share"
                raise wrong_value(f"{key}.share", validation.share, problem)
        caps = [cap for cap in (validation.max_tokens, config.max_evaluation_tokens) if cap is not None]
        sets[domain] = validation_set(
            domain,
            documents,
            candidates,
            max_tokens=min(caps, default=None),
            context_length=config.context_length,
            by_position=validation.loss_by_position,
        )
    return sets


class _Tokenization:
    """Files to tokens, as texts or as conversations."""

    def __init__(self, config: DataConfig, tokenizer: TokenizerLike, progress: Progress | None, objective: ObjectiveName) -> None:
        self._config, self._tokenizer, self._progress = config, tokenizer, progress
        self._objective = objective

    @cached_property
    def _chat(self) -> ChatEncoder:
        return build_chat_encoder(self._config, self._tokenizer)

    def of_source(self, name: str) -> TokenizedDocuments:
        source = self._config.sources[name]
        return self.of_path(f"data.sources.{name}", source.path, source.split, source.field, source.format)

    def of_path(self, key: str, path: str, split: str | None, field: str, data_format: str) -> TokenizedDocuments:
        files = source_files(path, key=key, split=split)
        cache_dir = default_cache_dir(self._config.cache_dir)
        progress = None if self._progress is None else partial(self._progress, key)
        if self._holds_conversations(files, key, field, data_format):
            return tokenize_conversations(files, data_format, self._chat, cache_dir=cache_dir, key=key, progress=progress)
        append_eos = self._config.append_eos
        return tokenize(files, field, self._tokenizer, append_eos=append_eos, cache_dir=cache_dir, key=key, progress=progress)

    def _holds_conversations(self, files: list[Path], key: str, field: str, data_format: str) -> bool:
        match self._objective:
            case "cpt":
                return False
            case "sft":
                return data_format != "text"
            case "distill" if data_format == "auto":
                return begins_with_conversation(files[0], field, key=key)
            case "distill":
                return data_format != "text"
            case _:
                assert_never(self._objective)


def _held_out_share(config: DataConfig, source: str) -> float:
    """The largest share that a domain holds out of a source; it includes the smaller ones, since hashes decide."""
    return max((validation.share or 0.0 for validation in config.validation.values() if validation.source == source), default=0.0)


def _used(config: DataConfig, source: str, documents: TokenizedDocuments) -> NDArray[np.bool_]:
    """Which documents of a source are trained on: bool[n]."""
    return ~held_out(documents.hashes, _held_out_share(config, source))
