"""Rows of files to prompts: texts as they are, conversations by the chat template, as training reads them."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from harness.config.errors import InputError
from harness.config.schema import DataConfig
from harness.data.chat.conversation import Conversation, MalformedError, Message, instructed
from harness.data.chat.encoder import ChatEncoder, build_chat_encoder
from harness.data.chat.formats import READ, unchecked_conversation
from harness.data.row import Row, described
from harness.data.rows import VALID_ROW_ENDINGS, holds_rows, nothing_in, read_rows
from harness.data.text_encoder import TextEncoder
from harness.data.text_files import Document
from harness.generation.rows import Prompt

MESSAGES_FIELDS = ("messages", "conversations")
TEXT_FIELDS = ("prompt", "question", "query", "instruction", "text")
"""Where a row holds a prompt that is text; the first that it has."""
ID_FIELD = "id"
PLACE = re.compile(r"\{\{|\}\}|\{(\w+)\}")
"""A row's field in a prompt that is put together, {question}; or a brace that is text: {{ or }}."""


def fields_in(prompt: str | None) -> list[str]:
    """The row's fields in a prompt that is put together; [] for one that is no such text."""
    return [name for name in PLACE.findall(prompt or "") if name]


class PromptRow(NamedTuple):
    """A prompt with the row that it was read from."""

    prompt: Prompt
    row: Row
    answer: Message | None
    """The turn that follows the prompt in the row; None where the row ends with the prompt, or is no conversation."""


class PromptNames:
    """Ids that are there once: the second prompt of an id is called ID#2, or by the next number that is free."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def named(self, prompt: Prompt) -> Prompt:
        """The prompt, under an id that none before it has."""
        own, number = prompt.id, self.seen[prompt.id] + 1
        while number > 1 and f"{own}#{number}" in self.seen:
            number += 1
        self.seen[own] = number
        if number == 1:
            return prompt
        self.seen[f"{own}#{number}"] = 1
        return replace(prompt, id=f"{own}#{number}")


class PromptReader:
    """A tokenizer and a chat template as they are used for prompts."""

    def __init__(self, data: DataConfig, tokenizer: Any, *, chat: bool = False, instruction: str | None = None) -> None:
        """chat: whether a prompt that is text is what a user says in a conversation; instruction: put before each prompt, of a conversation
        as its system message."""
        self._data, self._tokenizer, self._chat, self._instruction = data, tokenizer, chat, instruction

    @cached_property
    def _conversations(self) -> ChatEncoder:
        return build_chat_encoder(self._data, self._tokenizer)

    @cached_property
    def _texts(self) -> TextEncoder:
        return TextEncoder(self._tokenizer, append_eos=False, split_special_tokens=self._data.split_special_tokens)

    def of_text(self, text: str, *, prompt_id: str | None = None) -> Prompt:
        """A text that the model goes on from, or, with `chat`, that it answers. prompt_id: None: a hash of what the model reads.

        Raises MalformedError for one without any token.
        """
        if self._chat:
            return self.of_conversation(Conversation((Message("user", text),)), prompt_id=prompt_id)
        text = (self._instruction or "") + text
        _refuse_surrogates(text)
        ids: list[int] = self._texts.encode([Document(text, 0)], self._texts.dtype()).ids.tolist()
        # What a tokenizer adds at the end of a text, such as its end-of-text token, would end what is only to begin.
        if ids and ids[-1] == self._tokenizer.eos_token_id and not text.endswith(str(self._tokenizer.eos_token)):
            ids.pop()
        return _prompt(text, ids, prompt_id)

    def of_conversation(self, conversation: Conversation, *, prompt_id: str | None = None) -> Prompt:
        """A conversation whose next turn is the assistant's, see `of_text`. Raises MalformedError for one that cannot be rendered."""
        return _prompt(*self._conversations.encode_prompt(instructed(conversation, self._instruction)), prompt_id)

    def of_rows(
        self, files: Sequence[Path], *, key: str, prompt: str | None = None, also: Sequence[str] = (), to_call: bool = False
    ) -> Iterator[PromptRow]:
        """The prompts of the files, in order. An id is the row's own, else a hash of what the model reads; the second prompt of an id is
        called ID#2.

        prompt: the field that holds it, or a text with fields in it, "Question: {question}\\nAnswer:"; None: messages or conversations,
        else the first of TEXT_FIELDS that a row has. Of a conversation that ends with the assistant all before its last turn is the prompt;
        to_call: all before its first turn that calls a tool, where there is one. also: further fields of the rows to read.
        Raises InputError, naming the configuration `key`, the file and the place, for the first row that is no prompt, and where none is.
        """
        named = [] if prompt is None else fields_in(prompt) or [prompt]
        columns = list(dict.fromkeys([ID_FIELD, *READ, *TEXT_FIELDS, *named, *also]))
        names = PromptNames()
        for file in files:
            if not holds_rows(file):
                raise InputError(f"{key}: {file}: a text file holds no prompts; valid: {VALID_ROW_ENDINGS}")
            for row in read_rows(file, columns, key=key):
                read, answer = self.of_row(row, prompt, to_call=to_call)
                yield PromptRow(names.named(read), row, answer)
        if not names.seen:
            raise nothing_in(files, "prompt", key=key)

    def of_row(self, row: Row, prompt: str | None, *, to_call: bool) -> tuple[Prompt, Message | None]:
        """The prompt of a row and the turn that follows it, see `of_rows`. Raises InputError for a row that is no prompt."""
        try:
            return self._of_row(row, prompt, fields_in(prompt), to_call=to_call)
        except MalformedError as error:
            raise InputError(f"{row.where}: {error}") from None

    def _of_row(self, row: Row, prompt: str | None, places: list[str], *, to_call: bool) -> tuple[Prompt, Message | None]:
        own = row.values.get(ID_FIELD)
        prompt_id = str(own) if isinstance(own, str | int) and not isinstance(own, bool) and str(own).strip() else None
        name = prompt or next((field for field in (*MESSAGES_FIELDS, *TEXT_FIELDS) if row.values.get(field) is not None), None)
        if name is None:
            fields, valid = ", ".join(row.fields) or "none", ", ".join((*MESSAGES_FIELDS, *TEXT_FIELDS))
            raise MalformedError(f"no prompt; fields there: {fields}; valid: {valid}, or another field as .prompt")
        value: Any = PLACE.sub(lambda found: str(_field(row, found[1])) if found[1] else found[0][0], name) if places else _field(row, name)
        if isinstance(value, str) and name not in MESSAGES_FIELDS:
            more = row.values.get("input") if name == "instruction" else None
            text = f"{value}\n\n{more}" if isinstance(more, str) and more.strip() else value
            if not self._chat:
                return self.of_text(text, prompt_id=prompt_id), None
            value = [{"role": "user", "content": text}]
        elif not isinstance(value, list | str):
            raise MalformedError(f"{name!r} is {described(value)}; valid: a text, or an array of messages")
        conversation = unchecked_conversation(_with_messages(row, value), "messages", lambda _: None)
        before, answer = _parted(conversation, to_call=to_call)
        return self.of_conversation(before, prompt_id=prompt_id), answer


def _parted(conversation: Conversation, *, to_call: bool) -> tuple[Conversation, Message | None]:
    """What comes before the turn that the model is to write, and that turn, where the conversation has it."""
    messages, turns = conversation.messages, conversation.assistant_turns
    calling = [index for index in turns if messages[index].tool_calls]
    if to_call and calling:
        end = calling[0]
    elif turns and turns[-1] == len(messages) - 1:
        end = turns[-1]
    else:
        return conversation, None
    return replace(conversation, messages=messages[:end]), messages[end]


def _with_messages(row: Row, messages: Any) -> dict[str, Any]:
    """The row with these messages in place of its own."""
    return {**{name: value for name, value in row.values.items() if name not in MESSAGES_FIELDS}, "messages": messages}


def _field(row: Row, name: str) -> Any:
    if row.values.get(name) is None:
        raise MalformedError(f"no field {name!r}; fields there: {', '.join(row.fields) or 'none'}")
    return row.values[name]


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise MalformedError("it holds half a surrogate pair, which is not Unicode text") from None


def _prompt(text: str, ids: list[int], prompt_id: str | None) -> Prompt:
    if not ids:
        raise MalformedError("the prompt has no token; valid: at least one, for the model to go on from")
    return Prompt(prompt_id or hashlib.blake2b(text.encode(), digest_size=8).hexdigest(), text, tuple(ids))
