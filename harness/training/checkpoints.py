"""Checkpoints: written atomically, checked before they are used, and complete enough that a resumed run ends with the same bits."""

from __future__ import annotations

import logging
import re
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Trainer

from harness.runs.files import replacing
from harness.training.errors import CheckpointError
from harness.training.ranks import is_main

log = logging.getLogger(__name__)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's files, but a reader or a crash never meets half a one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with replacing(Path(path)) as stream:
            torch.save(checkpoint, stream)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Whoever asks, however: tensors and plain values, no pickle."""
        return super().load_checkpoint(path, map_location, weights_only=True)


def checkpoint_path(directory: Path, step: int) -> Path:
    return directory / f"step-{step:08d}.ckpt"


def checkpoints(directory: Path) -> dict[int, Path]:
    """The checkpoints of a run by step, the deepest last."""
    found = {int(match[1]): path for path in directory.glob("step-*.ckpt") if (match := re.fullmatch(r"step-(\d+)", path.stem))}
    return dict(sorted(found.items()))


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
        problem = damage(path)
        if problem is None:
            return step, path
        path.replace(path.with_name(f"{path.name}.damaged"))
        instead = f"going on from the one before, step {max(stored)}" if stored else "there is none before it: starting over"
        log.warning("checkpoint %s is damaged (%s); %s", path, problem, instead)
    return 0, None


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or None.

    torch writes zip archives with a checksum of every tensor, but never looks at them when it reads.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            return f"wrong checksum of {broken}"
        torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except Exception as error:  # noqa: BLE001 - random bytes can upset a parser in any way
        return str(error).partition("\n")[0] or type(error).__name__
    return None


def save(trainer: Trainer, directory: Path, *, keep: int, weights_only: bool = False) -> Path:
    """Save the state after the trainer's current step, then delete all but the `keep` deepest checkpoints.

    Raises CheckpointError when it cannot be written; the others then stay.
    """
    path = checkpoint_path(directory, trainer.global_step)
    try:
        trainer.save_checkpoint(path, weights_only=weights_only)
    except (OSError, RuntimeError) as error:
        cause = _os_error(error)
        if cause is None:
            raise
        last = max(checkpoints(directory), default=None)
        stands = "no earlier one exists" if last is None else f"the one of step {last} stands"
        raise CheckpointError(
            f"the checkpoint of step {trainer.global_step} cannot be saved to {path}: {cause.strerror}; {stands}"
        ) from error
    if is_main():
        for old in list(checkpoints(directory).values())[:-keep]:
            old.unlink()
    return path


def _os_error(error: BaseException | None) -> OSError | None:
    """The operating system's complaint behind an error: torch answers a failed write with a RuntimeError about positions."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error
