"""The checkpoints of a run on disk: which there are, whether they can be read, and the weights in them."""

from __future__ import annotations

import hashlib
import logging
import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch

from harness.config.documents import DamagedError
from harness.config.errors import InputError
from harness.runs.directory import RunDirectory, StudyDirectory, find_run
from harness.runs.metrics import Row
from harness.runs.result import read_result
from harness.runs.trunks import Trunk, TrunkStore

log = logging.getLogger(__name__)
OF_A_STATE = ("step", "tokens", "lr", "train/loss")
"""What is logged of a step that tells its state from another's."""


def checkpoint_path(directory: Path, step: int) -> Path:
    return directory / f"step-{step:08d}.ckpt"


def checkpoints(directory: Path) -> dict[int, Path]:
    """The checkpoints of a run by step, the deepest last."""
    found = {int(match[1]): path for path in directory.glob("step-*.ckpt") if (match := re.fullmatch(r"step-(\d+)", path.stem))}
    return dict(sorted(found.items()))


def states(run: RunDirectory) -> dict[int, Path]:
    """What there is of a run's training by step, the deepest last: its checkpoints, and the states of its trunk (see `trunk_states`)."""
    return dict(sorted({**trunk_states(run), **checkpoints(run.checkpoints)}.items()))


def trunk_states(run: RunDirectory) -> dict[int, Path]:
    """The states that a trial's study has stored on the trial's path, by step, the deepest last; {} of a run that is no trial.

    A state is on its path where it was trained by the trial itself, or by a trial whose first steps it took over, in these; or where what
    was logged of the state's step is what the trial's metrics say of it.
    """
    if run.study is None:
        return {}
    trained_by = _tokens_on_path(run, run.study)
    rows = {row["step"]: row for row in run.metrics.rows()}
    stored = {
        trunk.info.step: trunk
        for trunk in TrunkStore(run.study.trunks).trunks()
        if trunk.info.tokens <= trained_by.get(trunk.info.run, -1) or _logged_alike(trunk, rows)
    }
    return {step: stored[step].checkpoint for step in sorted(stored)}


def _tokens_on_path(run: RunDirectory, study: StudyDirectory) -> dict[str, float]:
    """By the name of a trial, up to how many tokens its path is this run's: of the run itself, and of those whose steps it took over."""
    found: dict[str, float] = {}
    name, most = run.name, math.inf
    while name not in found and name.rpartition("/")[0] == study.name:
        found[name] = most
        result = read_result(RunDirectory(run.path.parent / name.rpartition("/")[2]))
        name, most = result.shared_from or "", min(most, result.tokens.shared)
    return found


def _logged_alike(trunk: Trunk, rows: Mapping[int, Row]) -> bool:
    own, stored = rows.get(trunk.info.step), trunk.rows
    return own is not None and bool(stored) and all(own.get(name) == stored[-1].get(name) for name in OF_A_STATE)


def last_good_checkpoint(directory: Path) -> tuple[int, Path | None]:
    """Step and path of the deepest checkpoint that can be read; (0, None) where there is none.

    The log tells of damaged ones, which are put aside as *.ckpt.damaged, so that no later checkpoint is deleted in favour of one. The
    caller holds the run's attempt lock: what killed attempts left half-written is deleted.
    """
    for half_written in directory.glob(".step-*.ckpt.*"):
        half_written.unlink(missing_ok=True)
    stored = checkpoints(directory)
    while stored:
        step, path = stored.popitem()
        problem = damage(path, step=step)
        if problem is None:
            return step, path
        path.replace(path.with_name(f"{path.name}.damaged"))
        instead = f"going on from the one before, step {max(stored)}" if stored else "there is none before it: starting over"
        log.warning("checkpoint %s is damaged (%s); %s", path, problem, instead)
    return 0, None


def drop_checkpoints(directory: Path) -> None:
    """Delete all checkpoints of a run."""
    for path in checkpoints(directory).values():
        path.unlink()


def damage(path: Path, *, step: int | None = None) -> str | None:
    """What is wrong with a checkpoint, or None. step: that its name says.

    torch writes zip archives with a checksum of every tensor, but never looks at them when it reads.
    """
    if not path.is_file():  # to open a pipe would wait for its writer
        return "it is no file"
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            return f"wrong checksum of {broken}"
        state = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # noqa: BLE001 - random bytes can upset a parser in any way
        return str(error).partition("\n")[0] or type(error).__name__
    if not isinstance(state, dict) or not isinstance(state.get("state_dict"), dict) or not isinstance(state.get("global_step"), int):
        return "it holds no state of training"
    return None if step in (None, state["global_step"]) else f"it is of step {state['global_step']}"


def trunk_problem(trunk: Trunk) -> str | None:
    """What is wrong with a stored state, or None."""
    try:
        rows, _ = trunk.rows, trunk.texts
    except DamagedError as error:
        return f"{error.path.name}: {error.problem}"
    if trunk.info.rows not in (None, len(rows)):
        return f"{trunk.metrics.name} has {len(rows)} of {trunk.info.rows} rows"
    return damage(trunk.checkpoint, step=trunk.info.step)


def last_weights(run: RunDirectory) -> dict[str, torch.Tensor]:
    """The weights in the run's deepest checkpoint, by the model's own names; those that were evaluated, where an average was kept.

    Raises InputError where there is none that can be read.
    """
    stored = checkpoints(run.checkpoints)
    if not stored:
        raise InputError(f"{run.path}: it has no checkpoint (trainer.final_checkpoint decides what a complete run keeps)")
    step = max(stored)
    path = stored[step]
    problem = damage(path, step=step)
    if problem is not None:
        raise InputError(f"{path}: the run's last checkpoint is damaged ({problem})")
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    prefix = "model."
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def load_checkpoint(model: torch.nn.Module, word: str) -> None:
    """Put the last weights of a run (model.checkpoint) in place of a model's. Raises InputError where they are another model's."""
    try:
        model.load_state_dict(last_weights(find_run(word)))
    except RuntimeError as error:
        problem = next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), str(error))
        raise InputError(f"model.checkpoint={word}: its weights are not those of this model and adapter: {problem[:300]}") from error


def checkpoint_fingerprint(word: str) -> str:
    """Of the last checkpoint of a run (model.checkpoint), see `archive_fingerprint`. Raises InputError where there is none."""
    run = find_run(word)
    stored = checkpoints(run.checkpoints)
    if not stored:
        raise InputError(f"model.checkpoint={word}: {run.path} has no checkpoint (trainer.final_checkpoint decides what a run keeps)")
    return archive_fingerprint(stored[max(stored)], key=f"model.checkpoint={word}")


def archive_fingerprint(path: Path, *, key: str) -> str:
    """Of a checkpoint: a hash of its size and of its archive's directory, which has a checksum of every tensor. key: where it was named.

    Raises InputError.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = [(entry.filename.partition("/")[2], entry.file_size, entry.CRC) for entry in archive.infolist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{key}: {path} is damaged: {error}") from None
    return hashlib.sha256(repr(sorted(parts)).encode()).hexdigest()
