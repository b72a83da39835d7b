"""What `harness generate` does: prompts read, rows written, a file that a repeated command goes on with."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.checks import check_writing
from harness.config.errors import InputError
from harness.config.locations import in_home
from harness.config.schema import Config
from harness.config.validate import to_plain
from harness.generation.part_file import PartFile, document_of
from harness.generation.rows import Draw, Limits, Prompt
from harness.models.hub import ask_for_models
from harness.work.evaluate import evaluation_of

if TYPE_CHECKING:
    from harness.generation.engine import Engine
    from harness.generation.prompts import PromptReader

STDIN = "-"
Progress = Callable[[int, int, int, int], None]
"""Told of rows that have ended, rows in all, tokens that this command wrote, and rows that were there before."""


@dataclass(frozen=True)
class Question:
    """What is to be written."""

    what: str
    """A model or a run."""
    overrides: list[str]
    prompts: str | None
    """A file, or "-" for stdin."""
    texts: Sequence[str]
    """Prompts of the command line."""
    draws: int
    limits: Limits
    batch_rows: int | None
    plain: bool
    """Whether prompts are text to go on from, also for a model that answers in conversations."""
    stdin: bytes | None = None
    """What stdin held, where it was read already."""


@dataclass(frozen=True)
class Answer:
    """What came of it."""

    rows: list[dict[str, Any]]
    """As they stand in the file, by prompt, then by draw."""
    notes: list[str]
    """What is worth a line."""


def writing_config(what: str, overrides: list[str]) -> Config:
    """The configuration of `what`, see `evaluation_of`, without data. Raises InputError."""
    config = evaluation_of(what, overrides, checked_by=check_writing, of_a_model=["data.context_length=2"]).config
    ask_for_models(config)
    return config


def generate(
    question: Question, out: Path | None, *, restart: bool = False, progress: Progress | None = None, note: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Write what is asked for, into `out` if given; the rows, by prompt, then by draw. note: told what is worth a line.

    Raises InputError for what cannot be used; KeyboardInterrupt and OSError leave the rows that have ended in OUT.part.
    """
    config = writing_config(question.what, question.overrides)
    return write(config, question, out, restart=restart, progress=progress, note=note)


def write(
    config: Config,
    question: Question,
    out: Path | None,
    *,
    restart: bool = False,
    progress: Progress | None = None,
    note: Callable[[str], None],
) -> list[dict[str, Any]]:
    """The same by the model of a configuration of `writing_config`."""
    if question.draws > 1 and config.sampling.temperature == 0:
        raise InputError(
            f"-n {question.draws}: with sampling.temperature=0 (sampling={config.sampling.name}) all would be the same; valid: 1"
        )
    from harness.generation.build import answers_turns
    from harness.models.tokenizer import load_tokenizer, tokenizer_fingerprint

    tokenizer = load_tokenizer(config)
    chat = answers_turns(config, tokenizer) and not question.plain
    prompts = read_prompts(question, config, tokenizer, chat=chat)
    if chat and config.data.chat_template is None and config.objective.name != "sft":
        note("prompts that are text are what a user says (the tokenizer's chat template); --plain: text to go on from")
    rows = [Draw(prompt, draw) for prompt in prompts for draw in range(question.draws)]
    with ExitStack() as stack:
        part = None
        if out is not None:
            header = _header(question, config, prompts, tokenizer_fingerprint(tokenizer))
            part = stack.enter_context(PartFile(out, header, restart=restart))
            if part.is_complete:
                note(f"{out}: all {len(rows):,} rows are there already; --restart writes them anew")
                return list(part.finished.values())
            if part.finished:
                note(f"{part.path}: {len(part.finished):,} of {len(rows):,} rows are there already")
        from harness.training.writer import writing

        engine = stack.enter_context(writing(config, tokenizer, batch_rows=question.batch_rows))
        for prompt in prompts:
            engine.refuse(f"the prompt {prompt.id}", prompt.token_ids)
        engine.refuse_endless(question.limits, "--stop")
        return _written(engine, rows, question.limits, part, progress)


def _written(
    engine: Engine, rows: Sequence[Draw], limits: Limits, part: PartFile | None, progress: Progress | None
) -> list[dict[str, Any]]:
    places = {(row.prompt.id, row.draw): row for row in rows}
    finished = part.finished if part is not None else {}
    before, tokens = len(finished), 0
    if progress is not None:
        progress(before, len(rows), 0, before)
    for shard in _left(engine, rows, finished):
        for text in engine.write(shard, limits):
            row = places[text.id, text.draw]
            if part is not None:
                part.append(row, text)
            else:
                finished[text.id, text.draw] = document_of(row, text)
            tokens += text.tokens
            if progress is not None:
                progress(len(finished), len(rows), tokens, before)
    if part is not None:
        part.finish(rows)
    return [finished[place] for place in places]


def _left(engine: Engine, rows: Sequence[Draw], finished: dict[tuple[str, int], Any]) -> Iterator[list[Draw]]:
    """The lots that are not written yet; where rows depend on each other, whole ones."""
    for shard in engine.shards(rows):
        left = [row for row in shard if (row.prompt.id, row.draw) not in finished]
        if left:
            yield left if engine.is_exact else shard


def read_prompts(question: Question, config: Config, tokenizer: Any, *, chat: bool) -> list[Prompt]:
    """All prompts, each with an id of its own. Raises InputError for those that cannot be read, and where there are none."""
    from harness.generation.prompts import PromptReader

    reader = PromptReader(config.data, tokenizer, chat=chat)
    found = list(_texts(reader, question.texts, lambda number: "--prompt" + (f" {number}" if len(question.texts) > 1 else "")))
    if question.prompts == STDIN:
        with tempfile.TemporaryDirectory() as folder:
            content = sys.stdin.buffer.read() if question.stdin is None else question.stdin
            file = Path(folder) / ("stdin.jsonl" if content.lstrip().startswith(b"{") else "stdin.txt")
            file.write_bytes(content)
            try:
                found += _of_file(reader, file)
            except InputError as error:
                raise InputError(str(error).replace(str(file), "stdin").replace(file.name, "stdin")) from None
    elif question.prompts is not None:
        found += _of_file(reader, in_home(question.prompts))
    seen = set()
    for prompt in found:
        if prompt.id in seen:
            raise InputError(f"--prompts: two prompts have the id {prompt.id!r}; valid: an id a prompt (-n writes several texts after one)")
        seen.add(prompt.id)
    return found


def _of_file(reader: PromptReader, file: Path) -> list[Prompt]:
    from harness.data.row import decoded
    from harness.data.rows import holds_rows, nothing_in, reported
    from harness.data.text_rows import opened

    key = "--prompts"
    if not file.is_file():
        raise InputError(
            f"{key} {file}: {'no such file' if not file.exists() else 'no file'}; valid: rows (.jsonl, …), or a prompt a line (.txt)"
        )
    if holds_rows(file):
        read = list(reader.of_rows([file], key=key))
        own: dict[str, str] = {}
        for row in read:
            given = row.row.values.get("id")
            if given is None:
                continue
            if str(given) in own:
                raise InputError(f"{row.row.where}: the id {given!r} is that of {own[str(given)]}, too; valid: an id of its own, or none")
            own[str(given)] = row.row.where.removeprefix(f"{key}: ")
        return [row.prompt for row in read]
    with reported(file, key), opened(file) as (stream, _):
        lines = decoded(stream.read(), f"{key}: {file}").splitlines()
    texts = [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]
    if not texts:
        raise nothing_in([file], "prompt", key=key)
    return list(_texts(reader, [line for _, line in texts], lambda at: f"{key}: {file}, line {texts[at - 1][0]}"))


def _texts(reader: PromptReader, texts: Sequence[str], where: Callable[[int], str]) -> Iterator[Prompt]:
    from harness.data.chat.conversation import MalformedError
    from harness.generation.prompts import PromptNames

    names = PromptNames()
    for number, text in enumerate(texts, start=1):
        try:
            prompt = reader.of_text(text)
        except MalformedError as error:
            raise InputError(f"{where(number)}: {error}") from None
        # As of rows without ids: a second text that is the same has noise of its own.
        yield names.named(prompt)


def _header(question: Question, config: Config, prompts: Sequence[Prompt], tokenizer: str) -> dict[str, Any]:
    """What the rows of a file depend on."""
    read = json.dumps([[prompt.id, prompt.token_ids] for prompt in prompts])
    precision = config.trainer.precision
    batch = {} if precision == "32-true" else {"batch": [config.trainer.evaluation_batch_tokens, question.batch_rows]}
    return {
        **model_identity(config, tokenizer),
        "sampling": to_plain(config.sampling),
        "prompts": hashlib.sha256(read.encode()).hexdigest(),
        "draws": question.draws,
        "max_new_tokens": question.limits.max_new_tokens,
        "stop": list(question.limits.stop),
        **batch,
    }


def model_identity(config: Config, tokenizer: str) -> dict[str, Any]:
    """What a model's texts depend on, prompts and sampling aside. tokenizer: its fingerprint."""
    from harness.models.checkpoint_files import checkpoint_fingerprint
    from harness.models.language_model import model_fingerprint

    return {
        "model": model_fingerprint(config.model),
        "checkpoint": None if config.model.checkpoint is None else checkpoint_fingerprint(config.model.checkpoint),
        "tokenizer": tokenizer,
        # What is not in a checkpoint has its first values, by the seed.
        "adapter": to_plain(config.adapter),
        "seed": config.seed,
        "precision": config.trainer.precision,
    }
