"""harness quickstart: from text to a reused configuration, by the commands that a user would type."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from harness.config.errors import InputError
from harness.config.terminal import say
from harness.runs.exit_codes import DONE

HOME = Path("quickstart")
"""Text, tokenizer and base model; the next quickstart uses them again."""
VOCABULARY = 2048
STUDY = "quickstart"


def quickstart(
    workers: Annotated[int, typer.Option(min=1, help="Trials at a time.")] = 2,
    trials: Annotated[int, typer.Option(min=1, help="Budget of the sweep and of its confirmation, in trials of full length.")] = 16,
) -> None:
    """Go the whole way in minutes, offline: text, tokenizer, base model, a sweep that confirms its winner, comparison, best configuration,
    run again."""
    stages = Stages()
    with stages("text and tokenizer"):
        _text_and_tokenizer()
    with stages("base model"):
        _base_model()
    with stages("sweep"):
        _harness("sweep", "quickstart", f"budget.tokens={trials * _trial_tokens()}", "--workers", str(workers))
    page = Path("quickstart") / "compare.html"
    with stages("compare and export"):
        _harness("compare", STUDY, "--html", str(page))
        _harness("best", STUDY, "--export", "quickstart")
    with stages("best, once more"):
        again = _harness("train", "experiment=best/quickstart", "seed=1").strip()
    number = _winner()
    with stages("side by side"):
        _harness("compare", f"{STUDY}/{number}", again)
    stages.report()
    say(f"The page: {page.resolve()}")
    say("The best configuration: conf/experiment/best/quickstart.yaml")


class Stages:
    """Times the stages of a quickstart."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        typer.secho(f"\n== {name} ==", bold=True)
        yield
        self._seconds[name] = time.perf_counter() - began

    def report(self) -> None:
        typer.secho("\nSeconds by stage", bold=True)
        for name, seconds in {**self._seconds, "together": sum(self._seconds.values())}.items():
            say(f"  {name:20} {seconds:6.1f}")


def _text_and_tokenizer() -> None:
    """English reference text and Python source, which are on every machine with Python; a byte-level BPE over both."""
    from harness.data.byte_bpe import train_byte_bpe
    from harness.data.sources import read_documents
    from harness.data.stdlib_corpus import write_corpus

    text, tokenizer = HOME / "text", HOME / "tokenizer"
    if not (text / "python.jsonl").exists():
        write_corpus(text)
    if not (tokenizer / "tokenizer.json").exists():
        documents = (
            document for name in ("english", "python") for document in read_documents(str(text / f"{name}.jsonl"), "text", key=name)
        )
        train_byte_bpe(documents, VOCABULARY, tokenizer)
    for name in ("english", "python"):
        lengths = [len(document) for document in read_documents(str(text / f"{name}.jsonl"), "text", key=name)]
        say(f"{text / name}.jsonl: {len(lengths)} documents, {sum(lengths):,} characters")


def _trial_tokens() -> int:
    from harness.config.load import load

    tokens = load(["experiment=quickstart"]).config.trainer.max_tokens
    assert tokens is not None, "it says how long a trial is"
    return tokens


def _base_model() -> None:
    base = HOME / "base"
    if (base / "config.json").exists():
        say(f"{base}: there already")
        return
    run = HOME / "base-run"
    if run.exists():
        shutil.rmtree(run)
    _harness("train", "experiment=quickstart_base", "--dir", str(run))
    partial = HOME / "base.partial"
    shutil.rmtree(partial, ignore_errors=True)
    _harness("export", str(run), str(partial))
    partial.rename(base)


def _harness(*arguments: str) -> str:
    """Run a harness command as a user would; its standard output is shown, and returned."""
    typer.secho(f"$ harness {' '.join(arguments)}", fg="cyan")
    command = [sys.executable, "-m", "harness", *arguments]
    if arguments[0] == "train":
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        say(done.stdout, nl=False)
        output = done.stdout
    else:
        # Straight to the terminal: the live view needs one.
        done, output = subprocess.run(command, check=False, text=True), ""
    if done.returncode != DONE:
        raise typer.Exit(done.returncode)
    return output


def _winner() -> int:
    from harness.runs.directory import find_study
    from harness.runs.record import load_study

    best = load_study(find_study(STUDY)).best
    if best is None or best.number is None:
        raise InputError(f"{STUDY}: no best trial")
    return best.number
