"""Checkpoints: written atomically, found by step, and complete enough that a resumed run ends with the same bits."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Trainer

from harness.runs.files import replacing


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's files, but a reader or a crash never meets half a one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        with replacing(Path(path)) as stream:
            torch.save(checkpoint, stream)


def checkpoint_path(directory: Path, step: int) -> Path:
    return directory / f"step-{step:08d}.ckpt"


def checkpoints(directory: Path) -> dict[int, Path]:
    """The checkpoints of a run by step, the deepest last."""
    found = {int(match[1]): path for path in directory.glob("step-*.ckpt") if (match := re.fullmatch(r"step-(\d+)", path.stem))}
    return dict(sorted(found.items()))


def save(trainer: Trainer, directory: Path, *, keep: int, weights_only: bool = False) -> Path:
    """Save the state after the trainer's current step, then delete all but the `keep` deepest checkpoints."""
    path = checkpoint_path(directory, trainer.global_step)
    trainer.save_checkpoint(path, weights_only=weights_only)
    if trainer.is_global_zero:
        for old in list(checkpoints(directory).values())[:-keep]:
            old.unlink()
    return path


def random_state() -> dict[str, Any]:
    """The state of every global random generator, as plain containers and tensors."""
    name, numbers, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": [str(name), numbers.tolist(), int(position), int(has_gauss), float(gauss)],  # type: ignore[union-attr]
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, words, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(words, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"]:
        torch.cuda.set_rng_state_all([part.cpu() for part in state["cuda"]])
