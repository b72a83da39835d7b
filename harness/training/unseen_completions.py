"""What a trait is judged by is not what it was learned from: other continuations than those of adapter.pairs, and than trained answers: of
pairs, of labels, and of conversations. Plain text has no answers; of it, documents that are a prompt with its continuation are refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from harness.config.errors import InputError
from harness.config.locations import in_home
from harness.config.schema import Config
from harness.data.preference.contrast import completions_in
from harness.data.text_encoder import is_control
from harness.data.training_data import PackedSource, TrainingData
from harness.evaluation.contrast_set import ContrastSet
from harness.evaluation.evaluation_set import EvaluationSet
from harness.runs.report_split import REPORT

KEY = "adapter.pairs"


def refuse_extracted_completions(config: Config, sets: Sequence[EvaluationSet]) -> None:
    """Raise InputError for a contrast set with continuations that adapter.pairs has, too: a direction that makes these very words likelier
    need not have found the trait."""
    if config.adapter.pairs is not None and _contrast_sets(sets):
        _refuse(sets, completions_in([in_home(config.adapter.pairs)], key=KEY), f"{KEY}={config.adapter.pairs}")


def refuse_trained_completions(training: TrainingData, sets: Sequence[EvaluationSet], tokenizer: Any) -> None:
    """The same for the answers that are trained."""
    for source in training.sources if _contrast_sets(sets) else ():
        _refuse(sets, set(_answers(source, tokenizer)), f"data.sources.{source.name}")


def _answers(source: PackedSource, tokenizer: Any) -> Iterator[str]:
    """The trained answers as texts, without white space around them: what stands between control tokens. Where all of a conversation is
    trained (data.loss_on), who speaks may be a line before it."""
    documents = source.documents
    if documents.trained is None:
        return
    added = tokenizer.added_tokens_decoder.items()
    control = [id for id, token in added if is_control({"special": token.special, "content": token.content})]
    for document in np.unique(source.packing.piece_document).tolist():
        inside = slice(documents.offsets[document], documents.offsets[document + 1])
        ids, trained = documents.tokens[inside], documents.trained[inside]
        is_said = trained & ~np.isin(ids, control)
        for start, end in np.flatnonzero(np.diff(is_said, prepend=False, append=False)).reshape(-1, 2).tolist():
            text = tokenizer.decode(ids[start:end].tolist())
            yield text.strip()
            if trained.all():
                yield text.partition("\n")[2].strip()


def _contrast_sets(sets: Sequence[EvaluationSet]) -> list[ContrastSet]:
    return [part for part in sets if isinstance(part, ContrastSet)]


def _refuse(sets: Sequence[EvaluationSet], learned: set[str], where: str) -> None:
    # Both parts of a set, where some is kept for the report.
    sets_by_key: dict[str, list[ContrastSet]] = {}
    for part in _contrast_sets(sets):
        sets_by_key.setdefault(part.key.removesuffix(f"/{REPORT}"), []).append(part)
    for key, parts in sets_by_key.items():
        rows = [row for part in parts for row in zip(part.completions, part.places, strict=True)]
        seen = [place.removeprefix(f"{key}: ") for both, place in rows if learned & {text.strip() for text in both}]
        if seen:
            raise InputError(
                f"{key}: {len(seen)} of its {len(rows)} pairs have a continuation that {where} has as well, such as {seen[0]}; "
                "valid: other continuations than those that are learned from"
            )
