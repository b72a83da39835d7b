"""harness chat: a conversation in the terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.announce import announce
from harness.cli.arguments import Overrides, Speaker
from harness.config.errors import InputError
from harness.config.locations import in_home
from harness.config.terminal import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.config.schema import SamplingConfig
    from harness.work.chat import Chat

COMMANDS = {
    "/reset": "forget what was said",
    "/undo": "take the last exchange back",
    "/system TEXT": "what the model is told before all else; without TEXT: nothing",
    "/sampling KEY=VALUE …": "temperature=0.7, or sampling=top_p top_p=0.8; without: how it samples",
    "/save FILE": "the conversation as a row of training data",
    "/exit": "leave (Ctrl-D); Ctrl-C stops an answer",
}


def chat(
    what: Speaker,
    overrides: Overrides = None,
    system: Annotated[str | None, typer.Option(help="What the model is told before all else.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Where an answer ends at the latest.")] = 512,
    stop: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="An answer ends before this; several times for several.")] = None,
) -> None:
    """Talk to a model, or to a run's last weights, with its chat template; a model without one goes on with your text.

    /help tells what else can be done. Lines are read from stdin where that is no terminal.
    """
    announce(f"reading the configuration; then the libraries, and {what}")
    from harness.generation.rows import Limits, NonFiniteLogitsError
    from harness.work.chat import chatting

    with chatting(what, overrides or [], Limits(max_new_tokens, tuple(stop or ())), system) as (talk, sample):
        if not talk.answers:
            say("the model has no chat template: it goes on with what you write", err=True)
        if sys.stdin.isatty():
            import readline  # noqa: F401  line editing and history of input()

            _show_sampling(sample(""))
            say("/help: what else can be done", err=True)
        while (line := _line()) is not None:
            if line.strip() == "/exit":
                break
            if not line.strip():
                continue
            try:
                _take(line, talk, sample)
            except (InputError, NonFiniteLogitsError) as error:
                say(f"error: {error}", err=True)


def _line() -> str | None:
    """The next line; None at the end."""
    while True:
        try:
            return input("> " if sys.stdin.isatty() else "")
        except EOFError:
            return None
        except KeyboardInterrupt:
            say("")


def _take(line: str, talk: Chat, sample: Callable[[str], SamplingConfig]) -> None:
    """One line: a command, or what is said."""
    from harness.work.chat import save

    word, _, rest = line.strip().partition(" ")
    match word:
        case "/reset":
            talk.reset()
        case "/undo":
            say("taken back" if talk.undo() else "nothing was said", err=True)
        case "/system":
            if not talk.answers:
                raise InputError("/system: the model has no chat template")
            talk.system = rest.strip() or None
        case "/sampling":
            _show_sampling(sample(rest.strip()))
        case "/save":
            if not rest.strip():
                raise InputError("/save: valid: /save FILE")
            save(talk, in_home(rest.strip()))
            say(rest.strip(), err=True)
        case "/help":
            for name, meaning in COMMANDS.items():
                say(f"{name:22} {meaning}")
        case _ if word.startswith("/") and word[1:].isalpha():
            raise InputError(f"{word}: no such command; valid: {', '.join(name.split()[0] for name in COMMANDS)}, /help")
        case _:
            talk.ask(line, lambda piece: say(piece, nl=False), lambda text: say(f"\n({text})", err=True))
            say("")


def _show_sampling(sampling: SamplingConfig) -> None:
    from harness.config.schema import SamplingConfig
    from harness.config.validate import to_plain

    defaults = to_plain(SamplingConfig())
    changed = {key: value for key, value in to_plain(sampling).items() if value != defaults[key]}
    say("  ".join(f"{key}={value}" for key, value in changed.items()) or "temperature=1.0", err=True)
