"""harness show: the resolved configuration, and where each value came from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli.announce import announce
from harness.cli.arguments import AsJson, Overrides, print_json
from harness.config.terminal import say

if TYPE_CHECKING:
    from harness.config.schema import Config


SharedWith = Annotated[
    str | None,
    typer.Option(
        "--shared-with",
        metavar="RUN|OVERRIDES",
        help='How many steps of training are shared with a run or a configuration ("schedule=wsd optim.lr=1e-3"), and why no more.',
    ),
]


def show(overrides: Overrides = None, as_json: AsJson = False, shared_with: SharedWith = None) -> None:
    """Show the resolved, validated config, and where each value came from. With --shared-with, OVERRIDES may name a RUN as well."""
    if shared_with is not None:
        _show_shared(overrides or [], shared_with, as_json=as_json)
        return
    from harness.config.load import load
    from harness.config.validate import to_plain

    loaded = load(overrides or [])
    config = to_plain(loaded.config)
    if as_json:
        print_json({"config": config, "origins": loaded.composed.origins, "groups": loaded.composed.groups})
        return
    from harness.config.literal_console import LiteralConsole

    console = LiteralConsole(highlight=False)
    for line, origin in _lines(config, loaded.composed.origin):
        style = "dim" if origin is None else "bold cyan" if origin == "the command line" else "cyan"
        console.print(line, style=style, end="", markup=False, soft_wrap=True)
        console.print(f"  # {_short_path(origin)}" if origin else "", style="green", markup=False, soft_wrap=True)


def _show_shared(overrides: list[str], other: str, *, as_json: bool) -> None:
    import shlex

    from harness.config.checks.trainer import trains
    from harness.config.errors import InputError

    announce("reading both configurations; then the libraries and the data")
    first, second = _configuration(overrides), _configuration(shlex.split(other))
    if not (trains(first.trainer) and trains(second.trainer)):
        raise InputError("trainer.max_steps=0: a run that trains nothing shares no step of training; valid: runs that train")

    # Only now what takes seconds to import: a typo is answered at once.
    from harness.data.tokenization_progress import TokenizationProgress
    from harness.training.inputs import load_inputs

    prefixes = [load_inputs(config, progress=TokenizationProgress().update).prefix(config) for config in (first, second)]
    shared = prefixes[0].shared_with(prefixes[1])
    steps = [prefix.plan.steps for prefix in prefixes]
    if as_json:
        print_json({"shared_steps": shared.steps, "shared_tokens": shared.tokens, "steps": steps, "why_no_more": shared.why_no_more})
        return
    say(f"{shared.steps:,} steps ({shared.tokens:,} tokens) are shared, of {steps[0]:,} and {steps[1]:,}")
    say(f"they part at {shared.why_no_more}" if shared.why_no_more else "one is the beginning of the other")


def _configuration(words: list[str]) -> Config:
    """Of overrides, or of the one run that a word names."""
    from harness.config.load import load
    from harness.runs.directory import find_run
    from harness.runs.run_config import load_run_config

    if len(words) == 1 and "=" not in words[0] and not words[0].startswith("~"):
        return load_run_config(find_run(words[0]))
    return load(words).config


def _lines(values: dict[str, Any], origin: Any, prefix: str = "", depth: int = 0) -> list[tuple[str, str | None]]:
    from harness.config.user_yaml import in_one_line

    lines: list[tuple[str, str | None]] = []
    for key, value in values.items():
        if isinstance(value, dict) and value:
            lines.append(("  " * depth + f"{key}:", None))
            lines += _lines(value, origin, f"{prefix}{key}.", depth + 1)
        else:
            lines.append(("  " * depth + f"{key}: {in_one_line(value)}", origin(prefix + key)))
    return lines


def _short_path(origin: str) -> str:
    from harness.config.locations import shipped

    path = Path(origin)
    for ours in (shipped("conf"), shipped("conf").resolve()):
        if path.is_relative_to(ours):
            return f"harness:{path.relative_to(ours)}"
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else origin
