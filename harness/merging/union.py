"""The tokenizer of one model with what others have added to the same vocabulary: mergekit's `union`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.config.documents import as_mapping, read_json
from harness.config.errors import InputError
from harness.merging.layers import embedding_of
from harness.merging.source import Source
from harness.runs.files import write_json

SHOWN = 3
"""Tokens in a message."""


def tokens_of_others(frame: Source, others: Sequence[Source]) -> tuple[dict[str, Any], ...]:
    """What others have added and the frame lacks, as entries of `added_tokens` of a tokenizer.json, with ids behind the frame's.

    Tokens that a model has no row for are left out. Raises InputError for a frame without a tokenizer.json, and where a token that the
    frame lacks was not added to a vocabulary but learned with it: how text is split into these no tokenizer could hold for two models.
    """
    if frame.vocabulary is None:
        raise InputError(f"tokenizer.source=union: {frame.label} has no tokenizer.json; valid: models with their tokenizers")
    found: dict[str, dict[str, Any]] = {}
    first = 1 + max(frame.vocabulary.values())
    for source in others:
        lacking = [token for token, row in (source.vocabulary or {}).items() if token not in frame.vocabulary and row < _rows(source)]
        added = {entry["content"]: entry for entry in _added(source)}
        learned = [token for token in lacking if token not in added]
        if learned:
            shown = ", ".join(map(repr, learned[:SHOWN]))
            raise InputError(
                f"tokenizer.source=union: {source.label}: {len(learned):,} tokens that {frame.label} lacks ({shown}) were learned with its "
                "vocabulary, and no tokenizer splits text as both do; valid: base, or one of the models"
            )
        for token in sorted(lacking, key=lambda token: int(added[token]["id"])):
            found.setdefault(token, {**added[token], "id": first + len(found)})
    return tuple(found.values())


def add_to_files(directory: Path, added: Sequence[Mapping[str, Any]]) -> None:
    """Add entries of `added_tokens` to the files of a tokenizer in this directory."""
    path = directory / "tokenizer.json"
    document = dict(as_mapping(read_json(path), path))
    write_json(path, {**document, "added_tokens": [*(document.get("added_tokens") or []), *added]})
    path = directory / "tokenizer_config.json"
    if not path.is_file():
        return
    document = dict(as_mapping(read_json(path), path))
    if isinstance(known := document.get("added_tokens_decoder"), dict):
        more = {str(entry["id"]): {name: value for name, value in entry.items() if name != "id"} for entry in added}
        write_json(path, {**document, "added_tokens_decoder": {**known, **more}})


def _rows(source: Source) -> int:
    embedding = embedding_of(source.tensors)
    return 0 if embedding is None else source.tensors[embedding].dimensions[0]


def _added(source: Source) -> Iterator[dict[str, Any]]:
    """The entries, which were checked when the vocabulary was read."""
    if source.folder is not None:
        path = source.folder / "tokenizer.json"
        yield from as_mapping(read_json(path), path).get("added_tokens") or []
