"""harness generate: what a model writes after prompts."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import completion
from harness.cli.announce import announce
from harness.cli.arguments import AsJson, Overrides, Speaker, print_json
from harness.config.errors import InputError
from harness.config.terminal import say
from harness.runs.exit_codes import FAILED

if TYPE_CHECKING:
    from rich.progress import Progress

STDIN = "-"
COLUMNS_FROM = 72
"""Characters that a terminal needs for two texts side by side."""


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
    bar = _Bar()
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
            _show_beside((names[0], row["text"]), (names[1], row["beside"]["text"]))


def _show_beside(*texts: tuple[str, str]) -> None:
    """Texts under the names of their models: in columns where the terminal has room for them, else one below the other."""
    from rich.table import Table
    from rich.text import Text

    from harness.config.literal_console import LiteralConsole

    console = LiteralConsole()
    if not console.is_terminal or console.width < COLUMNS_FROM:
        for name, text in texts:
            say(f"┌ {name}")
            say(text)
        return
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), expand=True)
    for name, _ in texts:
        table.add_column(Text(name), ratio=1)
    table.add_row(*(Text(text) for _, text in texts))
    console.print(table)


class _Bar:
    """Rows, tokens/s and the time that is left, on stderr."""

    def __init__(self) -> None:
        self.done = self.tokens = 0
        self._began = time.perf_counter()
        self._bar: Progress | None = None
        self._seconds = 0.0

    @property
    def rate(self) -> float:
        return self.tokens / max(1e-9, self._seconds)

    def update(self, done: int, rows: int, tokens: int, before: int) -> None:
        if done == before and not tokens:  # reading the model took its time
            self._began = time.perf_counter()
        self.done, self.tokens = done, tokens
        self._seconds = time.perf_counter() - self._began
        if self._bar is None:
            self._bar = self._made(rows)
        if self._bar.live.is_started:
            self._bar.update(self._bar.task_ids[0], completed=done, rate=f"{self.rate:,.0f} tokens/s")

    def _made(self, rows: int) -> Progress:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        from harness.config.literal_console import LiteralConsole

        columns = (
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        bar = Progress(TextColumn("[bold]writing"), *columns, console=LiteralConsole(stderr=True))
        bar.add_task("writing", total=rows, rate="")
        if bar.console.is_terminal:
            bar.start()
        return bar

    def stop(self) -> None:
        if self._bar is not None and self._bar.live.is_started:
            self._bar.stop()
