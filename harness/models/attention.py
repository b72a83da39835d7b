"""The attention of a run, chosen from the configuration, the device and the precision before the model is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from harness.config.errors import wrong_value
from harness.config.schema import Config
from harness.models.device import computes_on_gpu

if TYPE_CHECKING:
    import torch

Varlen = Literal["no", "try", "must"]
"""Whether varlen attention is used: never; if model and kernel allow it; or always, else the run is refused."""
VARLEN_CAPABILITY = (8, 0)
"""The first NVIDIA GPUs with the kernel: Ampere."""


def varlen_mode(config: Config) -> Varlen:
    """See `choose_varlen`; looks for a GPU."""
    import torch

    on_gpu = computes_on_gpu(config.trainer)
    return choose_varlen(config, capability=torch.cuda.get_device_capability() if on_gpu else None)


def refuse_attention(config: Config) -> None:
    """Raise InputError for an attention that cannot train on this machine's device."""
    if config.model.attention == "flex_attention" and not computes_on_gpu(config.trainer):
        raise wrong_value(
            "model.attention", "flex_attention", "has no backward pass on a CPU, and there is no GPU; valid: auto, varlen, sdpa"
        )


def choose_varlen(config: Config, *, capability: tuple[int, int] | None) -> Varlen:
    """Whether varlen attention is used on a GPU of this compute capability; None: on a CPU.

    There for preferences: answers are short beside the rows that they lie in, and a mask would have attention computed over whole rows.
    """
    if config.model.attention == "varlen":
        return "must"
    packed = config.data.packing != "padded" and config.data.isolation != "mask"
    if capability is None:
        fits = config.objective.name == "preference"
    else:
        fits = capability >= VARLEN_CAPABILITY and config.trainer.precision != "32-true"
    return "try" if config.model.attention == "auto" and packed and fits else "no"


def attention_dtype(config: Config) -> torch.dtype:
    """The type that attention computes in under trainer.precision."""
    import torch

    match config.trainer.precision:
        case "32-true":
            return torch.float32
        case "bf16-mixed" | "bf16-true":
            return torch.bfloat16
        case "16-mixed":
            return torch.float16


def transformers_name(attention: str) -> str | None:
    """transformers' attn_implementation; None: its default. varlen is set later."""
    return None if attention in ("auto", "varlen") else attention
