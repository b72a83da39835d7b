"""harness generate: what a model writes after prompts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from harness.cli import completion
from harness.cli.announce import announce
from harness.cli.arguments import AsJson, Overrides, Speaker, print_json
from harness.cli.side_by_side import show_side_by_side
from harness.cli.writing_bar import WritingBar
from harness.config.errors import InputError
from harness.config.terminal import say
from harness.runs.exit_codes import FAILED

STDIN = "-"


def generate(
    what: Speaker,
    overrides: Overrides = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Rows with prompt or messages (and tools), and perhaps an id; or a text file, a prompt a line; - is stdin."
        ),
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option(help="A prompt; several times for several.")] = None,
    draws: Annotated[int, typer.Option("-n", "--draws", min=1, help="Texts after each prompt.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="Where the rows go; default: FILE's name with .generations.jsonl, here; else stdout.")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Where a text ends at the latest.")] = 256,
    stop: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="A text ends before this; several times for several.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Rows at a time; default: as trainer.evaluation_batch_tokens has room for.")
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Prompts are text to go on from, also where the model has a chat template.")
    ] = False,
    beside: Annotated[
        str | None,
        typer.Option(
            metavar="reference|MODEL|RUN|TRIAL",
            help="Let another model write after the same prompts, with the same noise: the run's reference (where it has none, what it "
            "started from), or any other.",
            autocompletion=completion.runs,
        ),
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="Begin anew, whatever an earlier command has written.")] = False,
    as_json: AsJson = False,
) -> None:
    """What a model, or a run's last weights, write after prompts: jsonl with id, prompt, draw, text, tokens, token_ids, finish.

    Sampling is a part of the configuration: sampling=min_p sampling.temperature=0.8 sampling.seed=1. A command that was broken off goes on
    when it is given again. With --beside each row also has what the other model wrote, under beside.
    """
    if prompts is None and not prompt:
        if sys.stdin.isatty():
            raise InputError("nothing to go on from; valid: --prompts FILE, --prompt TEXT, or prompts on stdin")
        prompts = STDIN
    announce(f"reading the configuration; then the libraries, and {what}")
    from harness.generation.rows import Limits, NonFiniteLogitsError
    from harness.work.generate import Question
    from harness.work.generate import generate as write
    from harness.work.generate_beside import generate_beside

    if out is None and prompts not in (None, STDIN):
        assert prompts is not None
        out = Path(f"{_stem(Path(prompts))}.generations.jsonl")
    limits = Limits(max_new_tokens, tuple(stop or ()))
    question = Question(what, overrides or [], prompts, prompt or [], draws, limits, batch_size, plain)
    bar = WritingBar()
    try:
        if beside is None:
            rows = write(question, out, restart=restart, progress=bar.update, note=lambda text: say(text, err=True))
        else:
            rows = generate_beside(question, beside, out, restart=restart, progress=bar.update, note=lambda text: say(text, err=True))
    except KeyboardInterrupt:
        bar.stop()
        if out is not None and bar.done and beside is None:
            say(f"stopped: {bar.done:,} rows are in {out}.part; the same command goes on", err=True)
        else:
            say("stopped: no row has ended" if beside is None else "stopped: with --beside rows are kept when both have ended", err=True)
        raise typer.Exit(FAILED) from None
    except NonFiniteLogitsError as error:
        bar.stop()
        say(f"error: {what}: {error}: it writes nothing", err=True)
        raise typer.Exit(FAILED) from None
    except OSError:
        bar.stop()
        if out is not None and bar.done and beside is None:
            say(f"{bar.done:,} rows are in {out}.part; the same command goes on", err=True)
        raise
    finally:
        bar.stop()
    if bar.tokens:
        say(f"{bar.tokens:,} tokens, {bar.rate:,.0f} tokens/s", err=True)
    if as_json:
        print_json({"generations": rows} if out is None else {"out": str(out), **_counts(rows)})
    elif out is not None:
        say(out)
    else:
        _show(rows, (what, beside))


def _stem(file: Path) -> str:
    """A file's name without the endings of its format and of its compression."""
    return file.name.split(".")[0] or file.name


def _counts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "rows": len(rows),
        "tokens": sum(row["tokens"] for row in rows),
        "finish": {name: sum(row["finish"] == name for row in rows) for name in ("stop", "length")},
    }


def _show(rows: list[dict[str, Any]], names: tuple[str, str | None]) -> None:
    """Texts for people; with a line above each, where there are several. names: of the models whose texts they are."""
    for row in rows:
        if len(rows) > 1:
            say(f"── {row['prompt']!r}" + (f", {row['draw']}" if any(one["draw"] for one in rows) else ""))
        if names[1] is None:
            say(row["text"])
        else:
            show_side_by_side((names[0], row["text"]), (names[1], row["beside"]["text"]))
