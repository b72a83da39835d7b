"""A conversation as text: Jinja chat templates, rendered as transformers renders them, with what the loss needs to know about the text.

Places in the text are found by marks, private-use characters that the templates' output carries and that are taken out again:

    CUT            inside a control token that somebody typed, e.g. <|im_end|> in a user's text. It must become plain tokens: the text is
                   tokenized in two parts there.
    TURN           around what stands inside {% generation %}: a turn of the assistant, with its stop token
    SPAN           around the spans of a message's content that the data wants trained; in a rendering of its own
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import pairwise
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro

from harness.config.documents import DamagedError, read_text
from harness.config.errors import InputError, did_you_mean
from harness.config.locations import in_home
from harness.data.chat.conversation import Conversation, MalformedError, Message, with_ids
from harness.data.chat.template_limits import (
    MEMORY_BYTES,
    MOST_CHARACTERS,
    MOST_SOURCE_BYTES,
    LimitedEnvironment,
    TemplateLimitError,
    limits,
)
from harness.data.text_encoder import CONTROL_LITERAL

CUT, TURN_START, TURN_END, SPAN_START, SPAN_END = (chr(0xF0000 + i) for i in range(5))
MARKS = re.compile(f"[{CUT}-{SPAN_END}]")
GENERATION_TAG = re.compile(r"\{%([-+]?)\s*(?:end)?generation\s*([-+]?)%\}")
GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
SHIPPED = ("chatml", "llama3", "alpaca", "hermes_tools")
Spans = list[tuple[int, int]]


@dataclass(frozen=True)
class Rendered:
    """A conversation as text; positions count its characters."""

    text: str
    cuts: list[int]
    """Where the text is to be cut before it is tokenized, so that typed control tokens stay plain text."""
    turns: Spans
    """[start, end) of what the assistant generates, stop token included, in each of the turns that were asked for."""
    spans: Spans
    """[start, end) of the train_spans of all messages, in order. Empty when not asked for."""


class ChatTemplate:
    """A chat template with the tokenizer's special tokens."""

    def __init__(self, source: str, name: str, *, variables: Mapping[str, Any], control_tokens: Iterable[str]) -> None:
        """Args: variables, e.g. {"bos_token": "<s>", "enable_thinking": False};
        control_tokens, which are no longer control tokens where they stand in a message.

        Raises InputError, naming data.chat_template, for a template that Jinja cannot read.
        """
        self.source, self.name, self.variables = source, name, dict(variables)
        self.has_generation = GENERATION.search(source) is not None
        # One character cannot be cut in two.
        typed = sorted((re.escape(token) for token in control_tokens if len(token) > 1), key=lambda token: (-len(token), token))
        self._control = re.compile("|".join(typed)) if typed else None
        try:
            with limits():
                self._template = _environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise InputError(f"data.chat_template={name}: not a Jinja template: {error.message} (line {error.lineno})") from error
        except Exception as error:
            # What Jinja computes, and Python compiles, before anything is rendered.
            raise InputError(f"data.chat_template={name}: not a Jinja template that can be used: {_words(error)}") from error

    def render(self, conversation: Conversation, *, turns: Sequence[int], spans: bool) -> Rendered:
        """The conversation as text. turns: indices of the assistant's messages that are to be located.

        Raises MalformedError when the template cannot render it, or turns or spans cannot be located in it."""
        conversation = replace(conversation, messages=with_ids(conversation.messages))
        text, marks = _unmarked(self._marked(conversation.messages, conversation))
        _refuse_losses(conversation, text, self.name)
        return Rendered(
            text,
            marks.get(CUT, []),
            self._turns(conversation, turns, text, marks) if turns else [],
            self._spans(conversation, text) if spans else [],
        )

    def render_prompt(self, conversation: Conversation) -> Rendered:
        """The conversation as text that the assistant's next turn goes on from. Raises MalformedError when it cannot be rendered."""
        conversation = replace(conversation, messages=with_ids(conversation.messages))
        text, marks = _unmarked(self._marked(conversation.messages, conversation, add_generation_prompt=True))
        _refuse_losses(conversation, text, self.name)
        return Rendered(text, marks.get(CUT, []), [], [])

    def _turns(self, conversation: Conversation, turns: Sequence[int], text: str, marks: dict[str, list[int]]) -> Spans:
        expected = len(conversation.assistant_turns)
        if not self.has_generation:
            return [self._turn_by_prefix(conversation, index, text) for index in turns]
        found = list(zip(marks.get(TURN_START, []), marks.get(TURN_END, []), strict=False))
        if len(found) != expected:
            raise MalformedError(
                f"the chat template {self.name} has {len(found)} {{% generation %}} blocks for {expected} turns of the assistant; "
                "valid: one block around all that the assistant generates in a turn, its stop token included"
            )
        return [span for index, span in zip(conversation.assistant_turns, found, strict=True) if index in turns]

    def _turn_by_prefix(self, conversation: Conversation, index: int, text: str) -> tuple[int, int]:
        """What message `index` adds to the text after the prompt for it: for templates without {% generation %}."""
        messages = conversation.messages
        before, _ = _unmarked(self._marked(messages[:index], conversation, add_generation_prompt=True))
        after, _ = _unmarked(self._marked(messages[: index + 1], conversation))
        if not (text.startswith(after) and after.startswith(before)):
            raise MalformedError(
                f"the chat template {self.name} renders the first {index + 1} messages differently when others follow, or differently from "
                "its own generation prompt, and has no {% generation %} blocks: what the assistant generates cannot be told from it. "
                "Valid: data.loss_on=last_assistant, which asks for the last turn alone, or all; or a .jinja file with such blocks, or "
                f"data.chat_template={', '.join(SHIPPED)}"
            )
        return len(before), len(after)

    def _spans(self, conversation: Conversation, text: str) -> Spans:
        """Where the train_spans are in the text: rendered once more with marks at their edges."""
        if not any(message.train_spans for message in conversation.messages):
            return []
        for keep_edges in (True, False):
            # A template may trim contents, which a mark at their very edge would stop it from doing.
            messages = tuple(_with_spans(message, keep_edges) for message in conversation.messages)
            plain, marks = _unmarked(self._marked(messages, conversation))
            starts, ends = marks.get(SPAN_START, []), marks.get(SPAN_END, [])
            if plain == text and len(starts) == sum(len(message.train_spans) for message in messages):
                return list(zip(starts, ends, strict=True))
        raise MalformedError(f"train_spans cannot be found again in what the chat template {self.name} makes of the message")

    def _marked(self, messages: Sequence[Message], conversation: Conversation, *, add_generation_prompt: bool = False) -> str:
        """The messages as text with marks in it."""
        chat = [self._plain(message) for message in messages]
        tools = self._cut(list(conversation.tools)) or None
        try:
            variables = {**self.variables, **self._cut(conversation.template_kwargs), "add_generation_prompt": add_generation_prompt}
            with limits():
                text = self._template.render({**variables, "messages": chat, "tools": tools})
            if len(text) > MOST_CHARACTERS:
                raise TemplateLimitError(f"it makes {len(text):,} characters of it")
            text.encode()
        except Exception as error:  # noqa: BLE001 - it is a program of its author, who may have made any mistake
            raise MalformedError(f"the chat template {self.name} cannot render it: {_words(error)}") from None
        return text

    def _plain(self, message: Message) -> dict[str, Any]:
        """A message as templates expect it."""
        plain: dict[str, Any] = {"role": message.role, "content": self._cut(message.content)}
        if message.reasoning is not None:
            plain["reasoning_content"] = self._cut(message.reasoning)
        if message.tool_calls:
            plain["tool_calls"] = [
                {"id": self._cut(call.id), "type": "function", "function": self._cut({"name": call.name, "arguments": call.arguments})}
                for call in message.tool_calls
            ]
        for key, value in (("tool_call_id", message.tool_call_id), ("name", message.name)):
            if value is not None:
                plain[key] = self._cut(value)
        return plain

    def _cut(self, value: Any) -> Any:
        """The value with a mark in every control token that stands in its texts."""
        if isinstance(value, str):
            return value if self._control is None else self._control.sub(lambda found: f"{found[0][0]}{CUT}{found[0][1:]}", value)
        if isinstance(value, dict):
            return {self._cut(key): self._cut(item) for key, item in value.items()}
        return [self._cut(item) for item in value] if isinstance(value, list | tuple) else value


def _words(error: Exception) -> str:
    match error:
        case TemplateLimitError() | jinja2.TemplateError():
            return str(error)
        case MemoryError():
            return f"it takes more than {MEMORY_BYTES / 1e9:.1f} GB of memory"
        case _:
            return f"{type(error).__name__}: {error}"


def refuse_marks(conversation: Conversation) -> None:
    """Raise MalformedError if a conversation holds characters that stand for marks here."""
    texts = json.dumps([*map(message_texts, conversation.messages), *conversation.tools, conversation.template_kwargs], ensure_ascii=False)
    found = MARKS.search(texts)
    if found:
        raise MalformedError(f"it holds the private-use character U+{ord(found[0]):X}, which is reserved; take it out")
    try:
        texts.encode()
    except UnicodeEncodeError:
        raise MalformedError("it holds half a surrogate pair, which is not Unicode text") from None


def message_texts(message: Message) -> list[Any]:
    """All that a template may write of a message."""
    calls = [[call.name, call.arguments, call.id] for call in message.tool_calls]
    return [message.content, message.reasoning, calls, message.name, message.tool_call_id]


def _refuse_losses(conversation: Conversation, text: str, template: str) -> None:
    """Refuse templates that silently ignore fields."""
    calls = [call.name for message in conversation.messages for call in message.tool_calls]
    tools = [tool["function"]["name"] for tool in conversation.tools]
    reasoning = [message.reasoning.strip() for message in conversation.messages if message.reasoning]
    # Templates may leave out earlier reasoning on purpose.
    for what, wanted in (("tools", tools), ("tool calls", calls), ("reasoning", reasoning[-1:])):
        if any(part not in text for part in wanted):
            raise MalformedError(
                f"the chat template {template} leaves out its {what}; valid: a template that has a place for them, e.g. "
                "data.chat_template=hermes_tools, or data without them"
            )


def _with_spans(message: Message, keep_edges: bool) -> Message:
    content, at = "", 0
    for start, end in message.train_spans:
        if not keep_edges:
            stripped = message.content[start:end]
            start, end = start + len(stripped) - len(stripped.lstrip()), end - (len(stripped) - len(stripped.rstrip()))
        content += message.content[at:start] + SPAN_START + message.content[start:end] + SPAN_END
        at = end
    return replace(message, content=content + message.content[at:])


def _unmarked(marked: str) -> tuple[str, dict[str, list[int]]]:
    """The text without marks; and for each kind of mark the positions in it."""
    parts: list[str] = []
    marks: dict[str, list[int]] = {}
    at = length = 0
    for found in MARKS.finditer(marked):
        parts.append(marked[at : found.start()])
        length += found.start() - at
        marks.setdefault(found[0], []).append(length)
        at = found.end()
    parts.append(marked[at:])
    return "".join(parts), marks


class _Generation(Extension):
    """{% generation %} … {% endgeneration %}: what the assistant generates."""

    tags = {"generation"}  # noqa: RUF012 jinja2's own declaration

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Macro) -> str:
        return f"{TURN_START}{caller()}{TURN_END}"


def _environment() -> LimitedEnvironment:
    """As in transformers, except that the date is fixed: the same data must become the same tokens tomorrow."""
    environment = LimitedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _fixed_date
    return environment


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _fixed_date(form: str) -> str:
    """26 July 2024: the default date of Llama 3's templates."""
    from datetime import date

    return date(2024, 7, 26).strftime(form)


def control_literals(source: str) -> list[str]:
    """What a template itself writes in the form of a control token, <|…|>, sorted."""
    return sorted(set(CONTROL_LITERAL.findall(re.sub(r"\{#.*?#\}", "", source, flags=re.DOTALL))))


def template_source(chosen: str | None, own: Any) -> tuple[str, str]:
    """The text and the name of data.chat_template.

    Args: chosen, the key's value; own, the tokenizer's chat template, if it has one (of several, the one named default).
    Raises InputError for one that does not exist.
    """
    if isinstance(own, dict):
        own = own.get("default")
    name = chosen or ("tokenizer" if own is not None else "chatml")
    if name == "tokenizer":
        if own is None:
            raise InputError(
                f"data.chat_template=tokenizer: the tokenizer has none of its own; valid: {', '.join(SHIPPED)}, or a .jinja file"
            )
        if not isinstance(own, str) or len(own) > MOST_SOURCE_BYTES:
            what = f"has {len(own):,} characters" if isinstance(own, str) else f"is a {type(own).__name__}"
            raise InputError(
                f"data.chat_template=tokenizer: the tokenizer's own {what}; valid: text of at most {MOST_SOURCE_BYTES:,} characters, or "
                f"{', '.join(SHIPPED)}, or a .jinja file"
            )
        return own, name
    if name in SHIPPED:
        return files("harness.data.chat").joinpath("templates", f"{name}.jinja").read_text("utf-8"), name
    path = in_home(name)
    if path.suffix != ".jinja":
        hint = did_you_mean(name, [*SHIPPED, "tokenizer"])
        raise InputError(f"data.chat_template={name}: unknown.{hint} Valid: tokenizer, {', '.join(SHIPPED)}, or a .jinja file")
    try:
        return read_text(path, most_bytes=MOST_SOURCE_BYTES), name
    except (OSError, DamagedError) as error:
        raise InputError(f"data.chat_template={name}: cannot be read ({error})") from error


def template_fingerprint(chosen: str | None, own: str | dict[str, str] | None, kwargs: Mapping[str, Any]) -> str:
    """Hex digest of the chat template, see `template_source`, and of its further variables."""
    source, _ = template_source(chosen, own)
    return hashlib.sha256((source + (json.dumps(kwargs, sort_keys=True) if kwargs else "")).encode()).hexdigest()


def plain_jinja(source: str, kwargs: Mapping[str, Any]) -> str:
    """A chat template for others: with `kwargs` as defaults, and without {% generation %}, which says nothing at inference and which plain
    Jinja does not know. A comment takes its place, and removes white space as the tag did."""
    defaults = [f"{{%- if {name} is not defined %}}{{%- set {name} = {value!r} %}}{{% endif %}}" for name, value in kwargs.items()]
    return "".join(defaults) + GENERATION_TAG.sub(r"{#\1 \2#}", source)


def iterate_pieces(rendered: Rendered) -> Iterator[tuple[int, str]]:
    """The parts of the text that are tokenized each by itself, with the position of each."""
    edges = [0, *rendered.cuts, len(rendered.text)]
    for start, end in pairwise(edges):
        if end > start:
            yield start, rendered.text[start:end]
