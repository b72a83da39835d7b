"""Conversations to token ids, and to which of them are trained on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray
from tokenizers import Tokenizer

from harness.config.errors import InputError
from harness.config.schema import DataConfig
from harness.data.chat.conversation import Conversation, MalformedError, Message, check_turns
from harness.data.chat.formats import ChatDocument
from harness.data.chat.loss_spans import LossOn, trained_spans, trained_turns
from harness.data.chat.template import (
    SHIPPED,
    ChatTemplate,
    Rendered,
    Spans,
    control_literals,
    iterate_pieces,
    refuse_marks,
    template_source,
)
from harness.data.ragged import Int64
from harness.data.row import BadRows
from harness.data.text_encoder import EncodedBatch, control_tokens, id_dtype

log = logging.getLogger("harness")

VERSION = 2
"""Raise when conversations become other tokens or masks than before."""
ONE_NEWLINE = "\n"
Bools = NDArray[np.bool_]
Offsets = list[tuple[int, int]]


class WantedTurns(NamedTuple):
    """A conversation, the indices of those of the assistant's messages that are trained whole, and its place (for messages)."""

    conversation: Conversation
    turns: list[int]
    where: str


class EncodedText(NamedTuple):
    """A text as tokens."""

    ids: Int64
    """int64[n]"""
    trained: Bools
    """bool[n]"""
    trained_bytes: int
    """UTF-8 bytes of the trained text, control tokens not counted."""
    text: str = ""


class ChatTokenizerLike(Protocol):
    """What is needed of a fast tokenizer of transformers."""

    chat_template: Any

    @property
    def backend_tokenizer(self) -> Any:
        """The tokenizers.Tokenizer inside."""

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        """E.g. {"bos_token": "<s>"}."""


class ChatEncoder:
    """A tokenizer and a chat template as they are used for conversations."""

    def __init__(
        self,
        tokenizer: ChatTokenizerLike,
        *,
        chat_template: str | None,
        loss_on: LossOn,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        """Args as data.chat_template, data.loss_on and data.chat_template_kwargs.

        Raises InputError for a template that cannot be used with this tokenizer."""
        state = json.loads(tokenizer.backend_tokenizer.to_str())
        # The template writes all special tokens, so none is added; and a post-processor may narrow offsets to leave spaces out.
        state |= {"post_processor": None, "truncation": None, "padding": None}
        self._backend = Tokenizer.from_str(json.dumps(state))
        added = {token["id"]: token for token in state["added_tokens"]}
        self._added = np.array(sorted(added), dtype=np.int64)
        self._added_texts = tuple(token["content"] for token in added.values())
        own = tokenizer.chat_template
        source, name = template_source(chat_template, own)
        variables = {key: value for key, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
        self.template = ChatTemplate(
            source, name, variables={**variables, **(template_kwargs or {})}, control_tokens=control_tokens(state["added_tokens"])
        )
        self.loss_on = loss_on
        self._said_flags = loss_on not in ("assistant", "last_assistant")
        self._bos = self._backend.token_to_id(variables["bos_token"]) if "bos_token" in variables else None
        missing = self._missing(source)
        if missing and name != "tokenizer":
            fitting = [other for other in SHIPPED if not self._missing(template_source(other, None)[0])]
            others = ", ".join([*fitting, *(["tokenizer"] if own else []), "a .jinja file"])
            raise InputError(
                f"data.chat_template={name}: the tokenizer has no token {', '.join(missing)}, which would fall into pieces of plain text; "
                f"valid: a template for this tokenizer ({others}), or the tokens added: tokenizer.new_tokens={json.dumps(missing)}"
            )

    def _missing(self, source: str) -> list[str]:
        """The control tokens that a template writes and the tokenizer lacks."""
        return [token for token in control_literals(source) if token not in self._added_texts]

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of everything that decides which ids and which mask a conversation becomes."""
        recipe = [VERSION, self._backend.to_str(), self.template.source, self.template.variables, self.loss_on]
        return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()

    def dtype(self) -> DTypeLike:
        """The smallest unsigned type that holds every id: uint16 or uint32."""
        return id_dtype(self._backend)

    def encode(self, documents: Sequence[ChatDocument], dtype: DTypeLike, bad: BadRows | None = None) -> EncodedBatch:
        """All conversations, one after the other.

        Raises InputError, naming the place, for one that cannot be trained on; bad: what becomes of such, instead.
        """
        bad = bad or BadRows()
        wanted = [WantedTurns(one.conversation, trained_turns(one.conversation, self.loss_on), one.where) for one in documents]
        self._say_flags(wanted)
        encoded, identities = [], []
        for document, found in zip(documents, self._encode(wanted, self.loss_on), strict=True):
            if isinstance(found, InputError):
                bad.add(found)
                continue
            encoded.append(found)
            identities.append(found.text if document.identity is None else document.identity)
        return EncodedBatch(
            ids=np.concatenate([np.empty(0, dtype), *(one.ids.astype(dtype) for one in encoded)]),
            lengths=np.array([len(one.ids) for one in encoded], dtype=np.int64),
            texts=identities,
            trained=np.concatenate([np.empty(0, np.bool_), *(one.trained for one in encoded)]),
            trained_bytes=[one.trained_bytes for one in encoded],
        )

    def _say_flags(self, wanted: Sequence[WantedTurns]) -> None:
        """Say once that a turn is trained whose data say that it should not be."""
        if self._said_flags:
            return
        against = (one.where for one in wanted if any(one.conversation.messages[turn].train is False for turn in one.turns))
        if (where := next(against, None)) is not None:
            self._said_flags = True
            log.warning("%s: a turn with train (or weight) 0 is trained by data.loss_on=%s; flagged goes by them", where, self.loss_on)

    def encode_turns(self, wanted: Sequence[WantedTurns]) -> list[EncodedText | InputError]:
        """Conversations of which these turns are trained, whatever data.loss_on says; for those that cannot be trained on, why."""
        return self._encode(wanted, "assistant")

    def _encode(self, wanted: Sequence[WantedTurns], loss_on: LossOn) -> list[EncodedText | InputError]:
        results: list[Rendered | InputError] = []
        for conversation, turns, where in wanted:
            try:
                refuse_marks(conversation)
                check_turns(conversation.messages)
                results.append(self.template.render(conversation, turns=turns, spans=loss_on == "spans"))
            except MalformedError as error:
                results.append(InputError(f"{where}: {error}"))
        tokens = iter(self._tokens([result for result in results if isinstance(result, Rendered)]))
        return [
            self._masked(result, *next(tokens), loss_on, one.where) if isinstance(result, Rendered) else result
            for result, one in zip(results, wanted, strict=True)
        ]

    def _masked(self, text: Rendered, ids: Int64, offsets: Int64, loss_on: LossOn, where: str) -> EncodedText | InputError:
        starts, ends = offsets[:, 0], offsets[:, 1]
        spans = [self._up_to_stop(text.text, *turn) for turn in text.turns] or trained_spans(text, loss_on)
        try:
            self._check(ids, starts, spans, text, where)
        except InputError as problem:
            return problem
        mask = _overlaps(starts, ends, spans)
        control = np.isin(ids, self._added)
        return EncodedText(ids, mask, _bytes(text.text, ends, mask & ~control), text.text)

    def encode_prompt(self, conversation: Conversation) -> tuple[str, list[int]]:
        """The text, and its ids, that the assistant's next turn goes on from. Raises MalformedError for what cannot be rendered."""
        refuse_marks(conversation)
        check_turns(conversation.messages, is_prompt=True)
        rendered = self.template.render_prompt(conversation)
        [(ids, _)] = self._tokens([rendered])
        return rendered.text, [int(token) for token in ids]

    def stop_token(self) -> int | None:
        """The id that the assistant's turns end in; None where they end in plain text, or the template cannot render a plain exchange."""
        exchange = Conversation((Message("user", "1"), Message("assistant", "2")))
        try:
            text = self.template.render(exchange, turns=[1], spans=False)
        except MalformedError:
            return None
        [(ids, offsets)] = self._tokens([text])
        [turn] = text.turns
        last = int(np.searchsorted(offsets[:, 0], self._up_to_stop(text.text, *turn)[1])) - 1
        return int(ids[last]) if ids[last] in self._added else None

    def _up_to_stop(self, text: str, start: int, end: int) -> tuple[int, int]:
        """A turn without the space that a template puts behind the stop token: nothing is generated after it."""
        stripped = text[start:end].rstrip()
        return (start, start + len(stripped)) if stripped.endswith(self._added_texts) else (start, end)

    def _tokens(self, rendered: Sequence[Rendered]) -> list[tuple[Int64, Int64]]:
        """Ids int64[n] and offsets int64[n, 2], in characters, of each text."""
        whole = self._backend.encode_batch([text.text for text in rendered if not text.cuts], add_special_tokens=False)
        encodings = iter(whole)
        return [self._in_pieces(text) if text.cuts else _arrays(*_raw(next(encodings))) for text in rendered]

    def _in_pieces(self, rendered: Rendered) -> tuple[Int64, Int64]:
        """A text with cuts, in pieces, so that typed control tokens stay plain text."""
        ids: list[int] = []
        offsets: Offsets = []
        for start, piece in iterate_pieces(rendered):
            mine, within = self._piece(piece, first=start == 0)
            ids += mine
            offsets += [(start + a, start + b) for a, b in within]
        return _arrays(ids, offsets)

    def _piece(self, piece: str, *, first: bool) -> tuple[list[int], Offsets]:
        if first:
            return _raw(self._backend.encode(piece, add_special_tokens=False))
        # Some tokenizers put a space before whatever a text begins with: here it belongs to a newline, which is left out again.
        ids, offsets = _raw(self._backend.encode(ONE_NEWLINE + piece, add_special_tokens=False))
        kept = [index for index, (_, end) in enumerate(offsets) if end > 1]
        if not all(offsets[index][0] >= 1 for index in kept):  # the newline became one token with what follows
            return _raw(self._backend.encode(piece, add_special_tokens=False))
        return [ids[index] for index in kept], [(offsets[index][0] - 1, offsets[index][1] - 1) for index in kept]

    def _check(self, ids: Int64, starts: Int64, wanted: Spans, rendered: Rendered, where: str) -> None:
        if self._bos is not None and len(ids) > 1 and ids[0] == ids[1] == self._bos:
            raise InputError(f"{where}: the chat template {self.template.name} writes the beginning-of-text token twice; valid: once")
        for start, end in wanted if rendered.turns else []:
            last = int(np.searchsorted(starts, end)) - 1
            if last < 0 or ids[last] not in self._added:
                tail = rendered.text[max(start, end - 30) : end]
                raise InputError(
                    f"{where}: with the chat template {self.template.name} a turn of the assistant ends in {tail!r}, which is no control "
                    "token: the model would never learn to stop. Valid: a template that ends turns in a token of the tokenizer, such as "
                    "<|im_end|> or {{ eos_token }}, inside {% generation %}"
                )


def build_chat_encoder(config: DataConfig, tokenizer: Any) -> ChatEncoder:
    """The encoder of data.chat_template and data.loss_on."""
    return ChatEncoder(tokenizer, chat_template=config.chat_template, loss_on=config.loss_on, template_kwargs=config.chat_template_kwargs)


def _raw(encoding: Any) -> tuple[list[int], Offsets]:
    return encoding.ids, encoding.offsets


def _arrays(ids: list[int], offsets: Offsets) -> tuple[Int64, Int64]:
    return np.array(ids, dtype=np.int64), np.array(offsets, dtype=np.int64).reshape(-1, 2)


def _overlaps(starts: Int64, ends: Int64, spans: Spans) -> Bools:
    """Which tokens share a character with a span: bool[n]."""
    if not spans:
        return np.zeros(len(starts), dtype=np.bool_)
    begins, stops = np.array(spans, dtype=np.int64).T
    at = np.minimum(np.searchsorted(stops, starts, side="right"), len(stops) - 1)  # the first span that ends behind the token's start
    overlap: Bools = (begins[at] < ends) & (stops[at] > starts)
    return overlap


def _bytes(text: str, ends: Int64, counted: Bools) -> int:
    """UTF-8 bytes of the text that the counted tokens stand for."""
    reached: Int64 = np.concatenate([np.zeros(1, dtype=np.int64), np.maximum.accumulate(ends)])
    if not text.isascii():
        reached = np.concatenate([[0], np.cumsum([len(character.encode()) for character in text])])[reached]
    return int(np.diff(reached)[counted].sum())
