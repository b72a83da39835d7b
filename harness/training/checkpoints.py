"""Checkpoints: written atomically, checked before they are used, and complete enough that a resumed run ends with the same bits."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Trainer

from harness.config.errors import causes
from harness.models.checkpoint_files import checkpoint_path, checkpoints
from harness.runs.files import replacing
from harness.training.ranks import is_main
from harness.training.run_errors import CheckpointError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's files, but a reader or a crash never meets half a one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        run = Path(path).parent.parent
        if not run.is_dir():
            raise FileNotFoundError(errno.ENOENT, "was moved or removed while it was worked on", str(run))
        with replacing(Path(path)) as stream:
            torch.save(checkpoint, stream)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Whoever asks, however: tensors and plain values, no pickle."""
        return super().load_checkpoint(path, map_location, weights_only=True)


def save(trainer: Trainer, directory: Path, *, keep: int, weights_only: bool = False) -> Path:
    """Save the state after the trainer's current step, then delete all but the `keep` deepest checkpoints.

    Raises CheckpointError when it cannot be written; the others then stay.
    """
    path = checkpoint_path(directory, trainer.global_step)
    try:
        trainer.save_checkpoint(path, weights_only=weights_only)
    except (OSError, RuntimeError) as error:
        # torch answers a failed write with a RuntimeError about positions.
        cause = next((one for one in causes(error) if isinstance(one, OSError)), None)
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
