"""Contrast pairs, from rows {prompt, positive, negative}: two continuations of one prompt that differ in a trait, as tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.config.errors import InputError
from harness.config.schema import DataConfig
from harness.data.chat.conversation import MalformedError, Message, instructed
from harness.data.chat.encoder import EncodedText, build_chat_encoder
from harness.data.chat.formats import READ, unchecked_conversation
from harness.data.preference.encoder import AnswerEncoder, ChatAnswers, TextAnswers
from harness.data.preference.formats import PairDocument
from harness.data.preference.pair import Pair, TextPair
from harness.data.row import Row, described
from harness.data.rows import VALID_ROW_ENDINGS, holds_rows, nothing_in, read_rows
from harness.data.text_encoder import TextEncoder
from harness.data.token_cache import text_hash

SIDES = ("positive", "negative")
COLUMNS = ("prompt", *SIDES, *READ)
VALID = "prompt (a text or messages), positive and negative (texts)"


@dataclass(frozen=True)
class ContrastPair:
    """A prompt with its two continuations."""

    identity: str
    """A hash of prompt and continuations: 16 hex digits."""
    completions: tuple[str, str]
    """The continuations' texts, positive first."""
    sides: tuple[EncodedText, EncodedText]
    """Each continuation after its prompt, as token ids and a mask of the continuation's."""
    where: str
    """Its file and line, for messages."""
    is_rendered: bool
    """Whether the chat template rendered it."""
    hashes: tuple[int, ...]
    """Of prompt and continuation as one text, positive first, see `text_hash`; () where a template rendered them."""


def read_contrast_pairs(
    files: Sequence[Path], data: DataConfig, tokenizer: Any, *, key: str, chat: bool = False, instruction: str | None = None
) -> list[ContrastPair]:
    """The pairs of the files, in order.

    A prompt that is text goes on as text; messages are rendered by data.chat_template, and then a continuation is the assistant's turn.
    chat: whether a prompt that is text is what a user says; instruction: put before each prompt, of a conversation as its system message.
    Raises InputError, naming the configuration `key`, the file and the place, for the first row that is no pair, and where there is none.
    """
    found = list(_rows(files, key=key, chat=chat, instruction=instruction))
    sides: list[tuple[EncodedText | InputError, EncodedText | InputError]] = [None] * len(found)  # type: ignore[list-item]
    for of_text in (True, False):
        places = [place for place, (document, _) in enumerate(found) if isinstance(document.content, TextPair) is of_text]
        if places:
            asked = [(found[place][0], answer) for place in places for answer in found[place][0].content.answers]
            encoded = iter(_encoder(data, tokenizer, of_text=of_text).encoded(asked))
            for place in places:
                sides[place] = next(encoded), next(encoded)
    return [_pair(document, identity, both) for (document, identity), both in zip(found, sides, strict=True)]


def completions_in(files: Sequence[Path], *, key: str) -> set[str]:
    """The continuations of the files' pairs, without white space around them. Raises InputError as `read_contrast_pairs` does."""
    found: set[str] = set()
    for document, _ in _rows(files, key=key, chat=False, instruction=None):
        found.update(text.strip() for text in _completions(document.content))
    return found


def _completions(pair: Pair | TextPair) -> tuple[str, str]:
    if isinstance(pair, TextPair):
        return pair.chosen, pair.rejected
    return pair.chosen[0].content, pair.rejected[0].content


def _encoder(data: DataConfig, tokenizer: Any, *, of_text: bool) -> AnswerEncoder:
    if of_text:
        # An end of text is no part of what is contrasted.
        return TextAnswers(TextEncoder(tokenizer, append_eos=False, split_special_tokens=data.split_special_tokens))
    return ChatAnswers(build_chat_encoder(data, tokenizer))


def _rows(files: Sequence[Path], *, key: str, chat: bool, instruction: str | None) -> Iterator[tuple[PairDocument, str]]:
    """The pairs, each with a hash of what its row says."""
    empty = True
    for file in files:
        if not holds_rows(file):
            raise InputError(f"{key}: {file}: a text file holds no contrast pairs; valid: {VALID_ROW_ENDINGS}")
        for row in read_rows(file, COLUMNS, key=key):
            try:
                pair, identity = _parsed(row, chat=chat, instruction=instruction)
            except MalformedError as error:
                raise InputError(f"{row.where}: {error}") from None
            yield PairDocument(pair, row.where, row.position), identity
            empty = False
    if empty:
        raise nothing_in(files, "contrast pair", key=key)


def _parsed(row: Row, *, chat: bool, instruction: str | None) -> tuple[Pair | TextPair, str]:
    values = row.values
    for name in ("prompt", *SIDES):
        if values.get(name) is None:
            raise MalformedError(f"no field {name!r}; fields there: {', '.join(row.fields) or 'none'}; valid: {VALID}")
    prompt = values["prompt"]
    for name in SIDES:
        if not isinstance(values[name], str) or not values[name].strip():
            problem = "empty" if isinstance(values[name], str) else described(values[name])
            raise MalformedError(f"{name} is {problem}; valid: a text")
    positive, negative = (str(values[name]) for name in SIDES)
    if positive.strip() == negative.strip():
        raise MalformedError(f"positive and negative are equal ({positive.strip()[:40]!r}); valid: two that differ")
    if not isinstance(prompt, str | list):
        raise MalformedError(f"prompt is {described(prompt)}; valid: a text, or an array of messages")
    said = prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False, default=repr)
    try:
        digest = hashlib.blake2b("\0".join((said, positive, negative)).encode(), digest_size=8).hexdigest()
    except UnicodeEncodeError:
        raise MalformedError("it holds half a surrogate pair, which is not Unicode text") from None
    if isinstance(prompt, str) and not chat:
        return TextPair((instruction or "") + prompt, positive, negative), digest
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    beside = {name: value for name, value in values.items() if name in READ and name not in ("prompt", "messages", "conversations")}
    conversation = unchecked_conversation({**beside, "messages": turns}, "messages", lambda _: None)
    chosen, rejected = (Message("assistant", positive),), (Message("assistant", negative),)
    return Pair(instructed(conversation, instruction), chosen, rejected), digest


def _pair(document: PairDocument, identity: str, both: tuple[EncodedText | InputError, EncodedText | InputError]) -> ContrastPair:
    pair, where, texts = document.content, document.where, _completions(document.content)
    sides: list[EncodedText] = []
    for name, side in zip(SIDES, both, strict=True):
        if isinstance(side, InputError):
            raise side
        if not side.trained[1:].any():
            raise InputError(f"{where}: {name} becomes no token of its own; valid: a text")
        if side.trained[0]:
            raise InputError(f"{where}: the prompt becomes no token, for {name} to follow; valid: a longer prompt")
        sides.append(side)
    if np.array_equal(sides[0].ids, sides[1].ids):
        raise InputError(f"{where}: positive and negative become the same tokens; valid: two that differ")
    hashes = tuple(text_hash((pair.prompt + text).encode()) for text in texts) if isinstance(pair, TextPair) else ()
    return ContrastPair(identity, texts, (sides[0], sides[1]), where, isinstance(pair, Pair), hashes)
