"""Where a run of a configuration computes."""

from __future__ import annotations

from harness.config.schema import TrainerConfig


def computes_on_gpu(trainer: TrainerConfig) -> bool:
    """Whether the run computes on a CUDA device: where trainer.accelerator asks for it, or leaves it open and there is one."""
    import torch

    return trainer.accelerator in ("auto", "gpu") and torch.cuda.is_available()
