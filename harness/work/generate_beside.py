"""What two models write after the same prompts, side by side: a run and its reference, or any other."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.config.checks import check_writing
from harness.config.errors import InputError
from harness.config.schema import AdapterConfig, Config, MergeConfig, needs_reference
from harness.config.writable import check_output
from harness.models.hub import ask_for_models
from harness.runs.files import writing_output
from harness.work.evaluate import run_of, start_of
from harness.work.generate import STDIN, Progress, Question, write, writing_config

REFERENCE = "reference"
"""--beside reference: the model that the run's answers are compared with, or that it started from."""
COMPARED = ("text", "tokens", "token_ids", "finish")
"""What the other model's part of a row holds."""


def generate_beside(
    question: Question,
    beside: str,
    out: Path | None,
    *,
    restart: bool = False,
    progress: Progress | None = None,
    note: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Let both write, with one sampling and one noise, into `out` if given; the rows of `generate`, each with the other's under `beside`:
    {text, tokens, token_ids, finish}.

    The file is written when both have ended. Raises InputError for what cannot be used.
    """
    if out is not None:
        check_output("--out", out)
        if out.exists() and not restart:
            raise InputError(f"--out {out}: is there already; valid: another file, or --restart, which writes it anew")
    if question.prompts == STDIN:
        question = replace(question, stdin=sys.stdin.buffer.read())  # both read it
    config = writing_config(question.what, question.overrides)
    other = _other(question, beside, config)
    first = _Halves(progress)
    rows = write(config, question, None, progress=first.of_one, note=note)
    others = write(other, question, None, progress=first.of_other, note=lambda text: None)
    # By place: another tokenizer may name a prompt otherwise.
    found = [{**row, "beside": {name: its[name] for name in COMPARED}} for row, its in zip(rows, others, strict=True)]
    if out is not None:
        with writing_output(out) as stream:
            stream.write("".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in found).encode())
    return found


def _other(question: Question, beside: str, config: Config) -> Config:
    """The other model's configuration. It samples as the first one does, and a plain model reads prompts as the first one does."""
    run = run_of(beside)
    if beside == REFERENCE and run is None:
        found = _reference(question)
    else:
        found = writing_config(beside, question.overrides)
        if run is None:
            found = replace(found, data=config.data, objective=config.objective)
    return replace(found, sampling=config.sampling)


def _reference(question: Question) -> Config:
    run = run_of(question.what)
    if run is None:
        raise InputError(f"--beside {REFERENCE}: {question.what} is a model, which has none; valid: a run, or --beside MODEL|RUN|TRIAL")
    config = start_of(run, question.overrides, checked_by=check_writing)
    path = config.objective.reference if needs_reference(config.objective) else None
    if path is not None:
        tokenizer = replace(config.tokenizer, path=config.tokenizer.path or config.model.path, new_tokens=[])
        model = replace(config.model, path=path, checkpoint=None, merge=MergeConfig())
        config = replace(config, model=model, tokenizer=tokenizer, adapter=AdapterConfig())
    elif config.model.checkpoint is None:
        config = replace(config, adapter=AdapterConfig())  # what it adds is learnt
    ask_for_models(config)
    return config


class _Halves:
    """The progress of two that write one after the other, as one."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._tokens = progress, 0

    def of_one(self, done: int, rows: int, tokens: int, before: int) -> None:
        self._tokens = tokens
        if self._progress is not None:
            self._progress(done, 2 * rows, tokens, before)

    def of_other(self, done: int, rows: int, tokens: int, before: int) -> None:
        if self._progress is not None:
            self._progress(rows + done, 2 * rows, self._tokens + tokens, rows + before)
