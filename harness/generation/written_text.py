"""The text of tokens as they are written, and where a stop string ends it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from harness.data.chat.conversation import TOOL_CALL_MARKS

Decode = Callable[[Sequence[int]], str]
"""Token ids to text, control tokens left out."""

CONTEXT_TOKENS = 6
"""Of the prompt, before what is written: some tokenizers drop the space that a text begins with, and characters may span tokens."""
UNFINISHED = "\ufffd"
"""What bytes become that are no whole character yet."""


def decoder_of(tokenizer: Any) -> Decode:
    """Ids to text without control tokens, but for those around tool calls, as it is: no spaces are tidied up."""
    backend = tokenizer.backend_tokenizer
    added = backend.get_added_tokens_decoder()
    hidden = {index for index, token in added.items() if token.special and token.content not in TOOL_CALL_MARKS}

    def decode(ids: Sequence[int]) -> str:
        text: str = backend.decode([index for index in ids if index not in hidden], skip_special_tokens=False)
        return text

    return decode


def can_write(tokenizer: Any, string: str) -> bool:
    """Whether there are tokens whose text holds the string."""
    try:
        string.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return False
    encode, decode = tokenizer.backend_tokenizer.encode, decoder_of(tokenizer)
    return any(string in decode(encode(before + string, add_special_tokens=False).ids) for before in ("", "a", "a "))


class WrittenText:
    """What a model has written so far, token by token.

    The time that a token takes does not grow with the text: only the tokens behind the last whole character are decoded again.
    """

    def __init__(self, decode: Decode, before: Sequence[int], stop: Sequence[str] = ()) -> None:
        """Args: before: the prompt's tokens; stop: strings of at least one character."""
        self.text = ""
        """Whole characters, without a stop string and what follows it."""
        self.is_stopped = False
        self._decode, self._stop = decode, tuple(stop)
        self._longest = max(map(len, self._stop), default=0)
        self._ids = list(before[-CONTEXT_TOKENS:])
        self._known = decode(self._ids)
        """Of the tokens in `_ids` before `_read`: their text is in `text`, or is the prompt's."""
        self._read = len(self._ids)

    def add(self, token: int) -> None:
        """One more token. `is_stopped` tells whether the text holds a stop string now."""
        self._ids.append(token)
        whole = self._decode(self._ids)
        if len(whole) > len(self._known) and not whole.endswith(UNFINISHED):
            self._append(whole[len(self._known) :])
            self._ids = self._ids[self._read :]
            self._known, self._read = self._decode(self._ids), len(self._ids)

    def end(self) -> None:
        """No token follows: what is no whole character stays as it is."""
        if not self.is_stopped:
            self._append(self._decode(self._ids)[len(self._known) :])

    @property
    def shown(self) -> int:
        """How many characters of `text` stay, whatever follows: its end may be the beginning of a stop string."""
        if self.is_stopped:
            return len(self.text)
        for length in range(min(self._longest - 1, len(self.text)), 0, -1):
            tail = self.text[-length:]
            if any(string.startswith(tail) for string in self._stop):
                return len(self.text) - length
        return len(self.text)

    def _append(self, piece: str) -> None:
        start = max(0, len(self.text) - self._longest + 1)
        self.text += piece
        found = [at for string in self._stop if (at := self.text.find(string, start)) >= 0]
        if found:
            self.text, self.is_stopped = self.text[: min(found)], True


def text_of(decode: Decode, before: Sequence[int], ids: Sequence[int]) -> str:
    """The text of the tokens `ids`, as it stands behind those of `before`."""
    context = list(before[-CONTEXT_TOKENS:])
    return decode([*context, *ids])[len(decode(context)) :]
