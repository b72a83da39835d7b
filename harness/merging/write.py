"""A merge on disk: a directory that plain `from_pretrained` loads. Headers first, then rows: no tensor is ever whole in memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from harness.config.errors import InputError
from harness.merging.ahead import ahead
from harness.merging.card import merge_card
from harness.merging.merge import merged_tensors, refuse_other_buffers
from harness.merging.operands import Floats
from harness.merging.plan import Plan, Target
from harness.merging.safetensors_files import header_of
from harness.merging.source import Source, from_float32
from harness.merging.union import add_to_files
from harness.runs.files import give_umask_rights, replacing_directory, write_json, write_text
from harness.runs.machine_faults import machine_fault

SHARD_BYTES = 5_000_000_000
"""Of a weight file, as transformers has long had it."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "chat_template.jinja",
    "chat_template.json",
)
MODEL_FILES = ("generation_config.json",)

Progress = Callable[[int, int], None]
"""Bytes written, of how many."""


def write_merge(plan: Plan, out: Path, *, progress: Progress | None = None, scores: Sequence[str] = ()) -> None:
    """Write the result of a plan to the directory `out`, all of it or nothing. scores: what is known of how good it is, for the card.

    Raises InputError where `out` is in use, the disk has no room, or a model holds what cannot be merged.
    """
    refuse_used(out)
    refuse_full_disk(plan, out)
    refuse_other_buffers(plan)
    with new_directory(out) as directory:
        _write_weights(plan, directory, progress)
        write_json(directory / "config.json", dict(plan.config))
        copy_tokenizer(plan, directory)
        _copy(plan.frame, MODEL_FILES, directory)
        write_text(directory / "README.md", merge_card(plan, scores=scores))


@contextmanager
def new_directory(out: Path) -> Iterator[Path]:
    """A directory that becomes `out` when all is written, with the rights that the umask gives. Raises InputError for a disk's faults."""
    try:
        with replacing_directory(out) as directory, np.errstate(all="ignore"):  # what is not finite is found and named
            yield directory
            give_umask_rights(*directory.rglob("*"))
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {machine_fault(error, out) or error}") from error


def copy_tokenizer(plan: Plan, directory: Path) -> None:
    """The tokenizer's files, with the chat template."""
    _copy(plan.tokens, TOKENIZER_FILES, directory)
    if plan.added_tokens:
        add_to_files(directory, plan.added_tokens)
    if plan.recipe.chat_template is not None:
        write_text(directory / "chat_template.jinja", plan.recipe.chat_template)


def refuse_used(out: Path) -> None:
    """Raise InputError for a place where something is already."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is not empty")


def refuse_full_disk(plan: Plan, out: Path) -> None:
    """Raise InputError where the disk of `out` has no room for the weights."""
    place = next(parent for parent in (out.absolute(), *out.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(place).free
    if plan.bytes > free:
        raise InputError(f"{out}: the merge takes {plan.bytes / 1e6:,.0f} MB, and its disk has {free / 1e6:,.0f} MB left")


def _shards(targets: Sequence[Target]) -> list[list[Target]]:
    """Targets by file, in their order; a file has more than `SHARD_BYTES` only where one tensor has."""
    shards: list[list[Target]] = [[]]
    size = 0
    for target in targets:
        if shards[-1] and size + target.bytes > SHARD_BYTES:
            shards.append([])
            size = 0
        shards[-1].append(target)
        size += target.bytes
    return shards


def _write_weights(plan: Plan, directory: Path, progress: Progress | None) -> None:
    shards = _shards(plan.targets)
    names = (
        ["model.safetensors"] if len(shards) == 1 else [f"model-{n + 1:05d}-of-{len(shards):05d}.safetensors" for n in range(len(shards))]
    )
    merged, done = merged_tensors(plan), 0
    for name, targets in zip(names, shards, strict=True):
        with (directory / name).open("xb") as stream, closing(ahead(_parts(targets, merged))) as parts:
            stream.write(header_of((target.name, target.dtype, target.dimensions, target.bytes) for target in targets))
            for part in parts:
                stream.write(part)
                done += len(part)
                if progress is not None:
                    progress(done, plan.bytes)
    if len(shards) > 1:
        weight_map = {target.name: name for name, targets in zip(names, shards, strict=True) for target in targets}
        index = {"metadata": {"total_size": plan.bytes}, "weight_map": dict(sorted(weight_map.items()))}
        write_json(directory / "model.safetensors.index.json", index)


def _parts(targets: Sequence[Target], merged: Iterator[tuple[Target, Iterator[Floats]]]) -> Iterator[bytes]:
    """What a file holds behind its header."""
    for target in targets:
        yield from _copied(target) if target.operands is None else _stored(target, next(merged))


def _copied(target: Target) -> Iterator[bytes]:
    _, tensor = target.sources[0]
    return tensor.raw()


def _stored(target: Target, merged: tuple[Target, Iterator[Floats]]) -> Iterator[bytes]:
    made, blocks = merged
    assert made is target, "targets are merged in the order in which they are written"
    return (from_float32(block, target.dtype).tobytes() for block in blocks)


def _copy(source: Source, names: Sequence[str], directory: Path) -> None:
    for name in names:
        file = source.folder / name if source.folder is not None else None
        if file is not None and file.is_file():
            shutil.copyfile(file, directory / name)
