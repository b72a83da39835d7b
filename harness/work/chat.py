"""A conversation with a model: its turns, what of them fits into the context, and its next answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.errors import InputError
from harness.config.schema import SamplingConfig
from harness.data.chat.conversation import Conversation, MalformedError, Message
from harness.generation.rows import Draw, Limits, Prompt
from harness.work.generate import writing_config

if TYPE_CHECKING:
    from harness.generation.engine import Engine
    from harness.generation.prompts import PromptReader
    from harness.generation.writing import Writing

DEFAULT = "sampling=min_p"
"""How it samples where nobody says how: of all that a small model holds possible, the tail spoils an answer."""
ROOM_SHARE = 1 / 4
"""Of the context, that is kept for an answer when turns are dropped."""


class Chat:
    """A conversation, or, with a model that was made for none, a text that both write on."""

    def __init__(self, engine: Engine, reader: PromptReader, *, answers: bool, limits: Limits, system: str | None) -> None:
        """answers: whether turns are put into the chat template."""
        self._engine, self._reader, self._limits = engine, reader, limits
        self.answers = answers
        self.system = system
        self.turns: list[tuple[str, str]] = []
        """What was said, and what was answered."""
        self._asked = 0

    def reset(self) -> None:
        self.turns = []

    def undo(self) -> bool:
        """Take the last exchange back; whether there was one."""
        return bool(self.turns and self.turns.pop())

    def choose(self, engine: Engine) -> None:
        """From now on another engine answers, of the same model."""
        self._engine = engine

    def ask(self, said: str, show: Callable[[str], None], note: Callable[[str], None]) -> None:
        """Have it answered. show: told of every piece of the answer; an interrupt ends it. note: told of what is worth a line.

        Raises InputError for what cannot be asked: then nothing has changed.
        """
        prompt, dropped = self._prompt(said)
        if dropped:
            note(f"the context is full: the oldest {f'{dropped} exchanges are' if dropped > 1 else 'exchange is'} no longer read")
        answer = _Answer(show)
        self._asked += 1
        try:
            for _ in self._engine.write([Draw(prompt, self._asked)], self._limits, answer.add):
                pass
        except KeyboardInterrupt:
            note("stopped")
        answer.end()
        if answer.text.strip() or not self.answers:
            self.turns = [*self.turns[dropped:], (said, answer.text)]
        else:
            note("no answer: it ended at once, and the turn is taken back")

    def document(self) -> dict[str, Any]:
        """The conversation as a row of training data: messages, or text."""
        if not self.answers:
            return {"text": "".join(said + answer for said, answer in self.turns)}
        return {"messages": [{"role": message.role, "content": message.content} for message in self._messages(self.turns)]}

    def _prompt(self, said: str) -> tuple[Prompt, int]:
        """What the model reads, and how many of the oldest exchanges are left out of it."""
        most = self._engine.longest_prompt
        room = None if most is None else most - min(self._limits.max_new_tokens, round(most * ROOM_SHARE))
        try:
            for dropped in range(len(self.turns) + 1):
                kept = self.turns[dropped:]
                prompt = self._of(kept, said)
                if room is None or len(prompt.token_ids) <= room:
                    return prompt, dropped
        except MalformedError as error:
            raise InputError(str(error)) from None
        assert most is not None, "else all would fit"
        if len(prompt.token_ids) > most:
            raise InputError(f"{len(prompt.token_ids):,} tokens are more than the model reads; valid: at most {most:,}")
        return prompt, len(self.turns)

    def _of(self, turns: list[tuple[str, str]], said: str) -> Prompt:
        if not self.answers:
            return self._reader.of_text("".join(one + answer for one, answer in turns) + said)
        return self._reader.of_conversation(Conversation((*self._messages(turns), Message("user", said))))

    def _messages(self, turns: list[tuple[str, str]]) -> Iterator[Message]:
        if self.system:
            yield Message("system", self.system)
        for said, answer in turns:
            yield Message("user", said)
            yield Message("assistant", answer)


class _Answer:
    """Shows what is written as far as it is sure."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self.text = ""
        self._show = show
        self._written: Writing | None = None

    def add(self, writing: Writing) -> None:
        self._written = writing
        assert writing.text is not None, "followed"
        self._upto(writing.text.text[: writing.text.shown])

    def end(self) -> None:
        if self._written is not None and self._written.text is not None:
            self._upto(self._written.text.text)

    def _upto(self, text: str) -> None:
        if len(text) > len(self.text):
            self._show(text[len(self.text) :])
            self.text = text


@contextmanager
def chatting(what: str, overrides: list[str], limits: Limits, system: str | None) -> Iterator[tuple[Chat, Callable[[str], SamplingConfig]]]:
    """A conversation with a model or a run's last weights; and what takes overrides of how it samples, of one line, and says how.

    Raises InputError for what cannot be used.
    """
    config = writing_config(what, overrides)
    given = list(overrides)
    if config.sampling == SamplingConfig() and not any(override.startswith("sampling") for override in overrides):
        given.append(DEFAULT)
        config = writing_config(what, given)
    from harness.generation.build import answers_turns
    from harness.generation.prompts import PromptReader
    from harness.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(config)
    answers = answers_turns(config, tokenizer)
    if system is not None and not answers:
        raise InputError("--system: the model has no chat template, and reads plain text; valid: a model with one, or data.chat_template=…")
    reader = PromptReader(config.data, tokenizer)
    from harness.training.writer import writing

    with writing(config, tokenizer, batch_rows=1) as engine:
        engine.refuse_endless(limits, "--stop")
        chat = Chat(engine, reader, answers=answers, limits=limits, system=system)

        def sample(line: str) -> SamplingConfig:
            nonlocal config
            keys = [key for key in re.split(r"\s+(?=[\w.]+=)", line) if key]
            more = [key if re.match(r"sampling[.=]", key) else f"sampling.{key}" for key in keys]
            if more:
                config = writing_config(what, [*given, *more])
                given.extend(more)
                chat.choose(engine.with_sampling(config.sampling))
            return config.sampling

        yield chat, sample


def save(chat: Chat, path: Path) -> None:
    """Write the conversation as a row of jsonl. Raises InputError where the file is there already, or cannot be written."""
    import json

    from harness.runs.files import write_text

    if path.exists():
        raise InputError(f"{path}: is there already; valid: a new file")
    try:
        write_text(path, json.dumps(chat.document(), ensure_ascii=False) + "\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
