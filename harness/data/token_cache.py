"""Tokenized text on disk: made once, then mapped into memory.

    <cache>/files/<identity of a file>     its content hash, see content_hash.py
    <cache>/tokens/<fingerprint>/          the tokens of some files under a tokenizer; complete, or not there at all
        tokens.bin    uint16 or uint32 [tokens]
        offsets.npy   int64 [documents + 1]: document i is tokens[offsets[i] : offsets[i + 1]]
        hashes.npy    uint64 [documents], of the text
        bytes.npy     int64 [documents], UTF-8 bytes of the text, of conversations of the trained text
        trained.bin   bool [tokens], of conversations only: whether the loss is on a token
                      (of pairs, documents 2 i and 2 i + 1 are the chosen and the rejected answer, each after its prompt)
        labels.npy    bool [documents], of answers with labels only: whether the answer is good
        meta.json     dtype, counts, checksums, and the first rows that were left out

cache_entry.py handles several processes that want an entry, one that dies while it writes, and damage.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.config.errors import InputError
from harness.config.schema import Rejected
from harness.data.cache_entry import META, drop_damaged, open_or_build, shard
from harness.data.chat.encoder import ChatEncoder
from harness.data.chat.formats import read_conversations
from harness.data.content_hash import content_hash
from harness.data.preference.encoder import AnswerEncoder, TextAnswers
from harness.data.preference.formats import read_chosen_texts, read_labelled, read_pairs
from harness.data.ragged import Int64, offsets_of
from harness.data.row import BadRows
from harness.data.rows import told_by_name
from harness.data.sources import read_files
from harness.data.text_encoder import TextEncoder
from harness.runs.files import read_json, write_json

FORMAT = 1
"""Increase it when existing entries must not be used any more."""
BATCH_CHARACTERS = 2_000_000
BATCH_DOCUMENTS = 1024

Encoder = TextEncoder | ChatEncoder | AnswerEncoder
Progress = Callable[[int, int], None]
"""Called with the bytes read so far, and the bytes of all files."""


@dataclass(frozen=True, eq=False)
class TokenizedDocuments:
    """Documents as tokens, in the order of their files, mapped from the cache."""

    directory: Path
    tokens: NDArray[Any]
    """uint16 or uint32 [tokens], a memory map."""
    offsets: Int64
    """int64[documents + 1]: document i is tokens[offsets[i] : offsets[i + 1]]."""
    hashes: NDArray[np.uint64]
    """uint64[documents]: equal for equal texts."""
    bytes: Int64
    """int64[documents]: UTF-8 bytes of the text whose tokens are trained."""
    trained: NDArray[np.bool_] | None = None
    """bool[tokens], a memory map: whether the loss is on a token; None: on all."""
    known_largest_id: int | None = None
    """Of the entry; None in those of before it was noted."""
    are_pairs: bool = False
    """Whether documents 2 i and 2 i + 1 are two answers to one prompt, the chosen one first; their hashes are of the prompt."""
    labels: NDArray[np.bool_] | None = None
    """bool[documents]: of answers that stand alone, whether they are good; their hashes are of the prompt."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Pairs, or answers, that say nothing and are not among the documents, by why: equal, empty, tied."""
    with_control_tokens: int = 0
    """Documents of plain text that have a control token of the tokenizer in their text."""
    left_out: int = 0
    """Rows that could not be used."""
    left_out_first: tuple[str, ...] = ()
    """What is wrong with the first few of them."""

    @property
    def fingerprint(self) -> str:
        """Hex digest of the texts and of how they became tokens."""
        return self.directory.name

    @cached_property
    def largest_id(self) -> int:
        """The largest token id in use."""
        return int(self.tokens.max()) if self.known_largest_id is None else self.known_largest_id

    @property
    def documents(self) -> int:
        return len(self.hashes)

    @property
    def are_answers(self) -> bool:
        """Whether each document is an answer after its prompt, in a pair or with a label."""
        return self.are_pairs or self.labels is not None

    def as_answers(self) -> TokenizedDocuments:
        """Answers that stand alone, with their labels: those of pairs, of which the chosen one is good."""
        return replace(self, are_pairs=False, labels=np.arange(self.documents) % 2 == 0) if self.are_pairs else self

    @cached_property
    def lengths(self) -> Int64:
        """Tokens of each document: int64[documents]."""
        return np.diff(self.offsets)

    @cached_property
    def answer_starts(self) -> Int64:
        """Of answers, where each begins in its document, as a place among all tokens: int64[documents]."""
        assert self.trained is not None, "answers have a mask"
        trained = np.flatnonzero(self.trained)
        starts: Int64 = trained[np.searchsorted(trained, self.offsets[:-1])]
        return starts

    def __reduce__(self) -> tuple[Any, ...]:
        # A data-loading process maps the files again instead of receiving a copy.
        return _reopened, (self.directory, self.labels is not None)


def text_hash(content: bytes) -> int:
    """Of a document's text in UTF-8, as in `TokenizedDocuments.hashes`."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _reopened(directory: Path, labelled: bool) -> TokenizedDocuments:
    found = _open(directory)
    assert found is not None, "it was open"
    return found.as_answers() if labelled else replace(found, labels=None)


def tokenize(
    files: Sequence[Path],
    field: str,
    encoder: TextEncoder,
    *,
    cache_dir: Path,
    key: str,
    bad: BadRows | None = None,
    progress: Progress | None = None,
    verify: bool = False,
) -> TokenizedDocuments:
    """The texts of the files as tokens, from the cache where they were tokenized before.

    `key` is the configuration key of the source, for messages; bad: what becomes of rows that cannot be used; `verify` reads a whole entry
    before it is believed. Raises InputError for files that cannot be read, and where something must be written to a cache that cannot be.
    """
    bad = bad or BadRows()
    return _cached(files, [field], encoder, lambda: read_files(files, field, key=key, bad=bad), cache_dir, key, bad, progress, verify)


def tokenize_conversations(
    files: Sequence[Path],
    chat_format: str,
    encoder: ChatEncoder,
    *,
    cache_dir: Path,
    key: str,
    bad: BadRows | None = None,
    progress: Progress | None = None,
    verify: bool = False,
) -> TokenizedDocuments:
    """The conversations of the files as tokens with a mask; otherwise as `tokenize`. `chat_format` as data.sources.<name>.format."""
    # Of preference data, a prompt's input was not read before.
    recipe, bad = ["conversations", chat_format, *(["input"] if chat_format == "preference" else [])], bad or BadRows()
    documents = partial(read_conversations, files, chat_format, key=key, bad=bad)
    return _cached(files, recipe, encoder, documents, cache_dir, key, bad, progress, verify)


def tokenize_pairs(
    files: Sequence[Path],
    encoder: AnswerEncoder,
    *,
    rejected: Rejected = "worst",
    cache_dir: Path,
    key: str,
    bad: BadRows | None = None,
    progress: Progress | None = None,
    verify: bool = False,
) -> TokenizedDocuments:
    """The pairs of answers of the files as tokens with a mask, two documents each; otherwise as `tokenize`. rejected: as
    data.sources.<name>.rejected."""
    recipe, bad = ["pairs", rejected], bad or BadRows()
    documents = partial(read_pairs, files, as_text=isinstance(encoder, TextAnswers), rejected=rejected, key=key, bad=bad)
    return _cached(files, recipe, encoder, documents, cache_dir, key, bad, progress, verify)


def tokenize_labelled(
    files: Sequence[Path],
    encoder: AnswerEncoder,
    *,
    of_pairs: bool = False,
    cache_dir: Path,
    key: str,
    bad: BadRows | None = None,
    progress: Progress | None = None,
    verify: bool = False,
) -> TokenizedDocuments:
    """The answers with labels of the files as tokens with a mask, a document each; otherwise as `tokenize`. of_pairs: the chosen answers of
    pairs of texts instead, which are good."""
    recipe, bad = ["chosen texts" if of_pairs else "labelled"], bad or BadRows()
    read: Callable[..., Iterable[Any]] = read_chosen_texts if of_pairs else partial(read_labelled, as_text=isinstance(encoder, TextAnswers))
    return _cached(files, recipe, encoder, partial(read, files, key=key, bad=bad), cache_dir, key, bad, progress, verify)


def _cached(
    files: Sequence[Path],
    options: list[str],
    encoder: Encoder,
    documents: Callable[[], Iterable[Any]],
    cache_dir: Path,
    key: str,
    bad: BadRows,
    progress: Progress | None,
    verify: bool,
) -> TokenizedDocuments:
    """The tokens of the documents (`Document` or `ChatDocument`, as the encoder takes them), which files and options determine."""
    contents = [content_hash(file, cache_dir / "files", key=key) for file in files]
    kinds = [told_by_name(file) for file in files]
    named = [kinds] if any(kinds) else []
    recipe = json.dumps([FORMAT, contents, *options, *bad.recipe, encoder.fingerprint, *named])
    entry = cache_dir / "tokens" / hashlib.sha256(recipe.encode()).hexdigest()
    if verify:
        drop_damaged(entry)
    total = sum(file.stat().st_size for file in files)
    return open_or_build(entry, _open, lambda building: _build(building, documents(), encoder, total, key, bad, progress))


def _open(entry: Path) -> TokenizedDocuments | None:
    """The entry, or None where there is none, or one whose files a crash of the machine cut short."""
    try:
        meta = read_json(entry / META)
        if meta is None:
            return None
        tokens = np.memmap(entry / "tokens.bin", dtype=str(meta["dtype"]), mode="r")
        offsets, hashes, sizes = (np.load(entry / f"{name}.npy", mmap_mode="r") for name in ("offsets", "hashes", "bytes"))
        trained = np.memmap(entry / "trained.bin", dtype=np.bool_, mode="r") if meta.get("masked") else None
        labels = np.load(entry / "labels.npy", mmap_mode="r") if meta.get("labelled") else None
        if len(tokens) != meta["tokens"] or not len(offsets) - 1 == len(hashes) == len(sizes) == meta["documents"]:
            return None
    except (OSError, ValueError, TypeError, LookupError, EOFError, SyntaxError, TokenError, InputError):  # numpy reads headers as Python
        return None
    if trained is not None and len(trained) != len(tokens):
        return None
    if labels is not None and len(labels) != len(hashes):
        return None
    return TokenizedDocuments(
        entry,
        tokens,
        offsets,
        hashes,
        sizes,
        trained,
        known_largest_id=meta.get("largest_id"),
        are_pairs=meta.get("pairs", False),
        labels=labels,
        dropped=meta.get("dropped", {}),
        with_control_tokens=meta.get("with_control_tokens", 0),
        left_out=meta.get("left_out", 0),
        left_out_first=tuple(meta.get("left_out_first", ())),
    )


def _build(
    building: Path,
    documents: Iterable[Any],
    encoder: Encoder,
    total: int,
    key: str,
    bad: BadRows,
    progress: Progress | None,
) -> None:
    """Write the files of an entry into the directory `building`."""
    dtype = np.dtype(encoder.dtype())
    lengths, hashes, sizes, labels = array("q"), array("Q"), array("q"), array("b")
    masked, labelled, largest, typed, checksums, dropped = False, False, 0, 0, dict[str, str](), Counter[str]()
    with shard(building / "tokens.bin", checksums) as stream, shard(building / "trained.bin", checksums) as mask:
        for batch in _batches(documents):
            encoded = encoder.encode(batch, dtype) if isinstance(encoder, TextEncoder) else encoder.encode(batch, dtype, bad)
            stream.write(encoded.ids.tobytes())
            largest = max(largest, int(encoded.ids.max(initial=0)))
            lengths.frombytes(encoded.lengths.tobytes())
            contents = [text.encode() for text in encoded.texts]
            hashes.extend(map(text_hash, contents))
            sizes.extend(map(len, contents) if encoded.trained_bytes is None else encoded.trained_bytes)
            typed += encoded.with_control_tokens
            dropped.update(encoded.dropped)
            if encoded.labels is not None:
                labelled = True
                labels.extend(encoded.labels)
            if encoded.trained is not None:
                masked = True
                mask.write(encoded.trained.tobytes())
            if progress is not None:
                progress(batch[-1].position, total)
    bad.check(len(lengths), key=key)
    offsets = offsets_of(np.frombuffer(lengths, dtype=np.int64))
    if not len(lengths) and dropped:
        unit = "answers" if labelled else "pairs"
        raise InputError(f"{key}: none of its {dropped.total()} {unit} is of use ({described_drops(dropped)}); valid: answers that differ")
    if offsets[-1] == 0:
        raise InputError("tokenizer.path: this tokenizer makes no tokens of the text")
    per_document: dict[str, NDArray[Any]] = {
        "offsets": offsets,
        "hashes": np.frombuffer(hashes, dtype=np.uint64),
        "bytes": np.frombuffer(sizes, dtype=np.int64),
        **({"labels": np.frombuffer(labels, dtype=np.bool_)} if labelled else {}),
    }
    for name, values in per_document.items():
        with shard(building / f"{name}.npy", checksums) as stream:
            np.save(stream, values)
    if not masked:
        (building / "trained.bin").unlink()
        del checksums["trained.bin"]
    meta: dict[str, Any] = {"dtype": dtype.name, "documents": len(lengths), "tokens": int(offsets[-1]), "largest_id": largest}
    meta |= {"masked": True} if masked else {}
    meta |= {"with_control_tokens": typed} if typed else {}
    meta |= {"labelled" if labelled else "pairs": True, "dropped": dict(dropped)} if isinstance(encoder, AnswerEncoder) else {}
    meta |= {"left_out": bad.count, "left_out_first": bad.first} if bad.count else {}
    write_json(building / META, {**meta, "checksums": checksums})


def described_drops(dropped: Mapping[str, int]) -> str:
    """Why pairs were dropped, in words: "3 with equal answers, 1 with tied scores"."""
    words = {"equal": "with equal answers", "empty": "with an empty answer", "tied": "with tied scores"}
    return ", ".join(f"{count} {words[reason]}" for reason, count in sorted(dropped.items()))


def _batches(documents: Iterable[Any]) -> Iterator[list[Any]]:
    """Batches large enough to keep all cores busy, and small enough to be held in memory."""
    batch: list[Any] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += document.characters
        if characters >= BATCH_CHARACTERS or len(batch) == BATCH_DOCUMENTS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
