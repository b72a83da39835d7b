"""The device of a run."""

from __future__ import annotations

from harness.config.errors import wrong_value
from harness.config.schema import TrainerConfig


def computes_on_gpu(trainer: TrainerConfig) -> bool:
    """Whether the run computes on a CUDA device: where trainer.accelerator asks for it, or leaves it open and there is one."""
    import torch

    return trainer.accelerator in ("auto", "gpu") and torch.cuda.is_available()


def device_of(trainer: TrainerConfig, local_rank: int) -> str:
    """The device of a rank: "cpu", "mps", "cuda:1"; the one that Lightning would take for trainer.accelerator."""
    import torch

    if computes_on_gpu(trainer):
        return f"cuda:{local_rank}"
    on_mps = trainer.accelerator == "mps" or (trainer.accelerator == "auto" and torch.backends.mps.is_available())
    return "mps" if on_mps else "cpu"


def refuse_missing_devices(trainer: TrainerConfig) -> None:
    """Raise InputError if the machine lacks what trainer.accelerator, trainer.devices and trainer.precision ask for."""
    import torch

    if trainer.accelerator == "gpu" and not torch.cuda.is_available():
        raise wrong_value("trainer.accelerator", "gpu", f"this machine has no GPU that torch {torch.__version__} can use; valid: auto, cpu")
    if trainer.accelerator == "mps" and not torch.backends.mps.is_available():
        raise wrong_value("trainer.accelerator", "mps", "this machine has none; valid: auto, cpu")
    if trainer.precision == "16-mixed" and not (computes_on_gpu(trainer) or trainer.accelerator == "mps"):
        # Lightning would train in bf16-mixed and only warn, and results would say otherwise.
        raise wrong_value(
            "trainer.precision", "16-mixed", "only on a GPU, and this run computes on a CPU; valid: 32-true, bf16-mixed, bf16-true"
        )
    if computes_on_gpu(trainer) and trainer.devices > torch.cuda.device_count():
        raise wrong_value("trainer.devices", trainer.devices, f"this machine has {torch.cuda.device_count()} GPUs")
