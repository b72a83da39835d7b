"""Blocks compiled by torch.compile, where training asks for it."""

from __future__ import annotations

import os
import shutil
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from harness.config.errors import InputError
from harness.models.blocks import blocks_of
from harness.models.varlen import NAME, uses_varlen, varlen_attention

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KEY = "trainer.compile=true"
CPP_COMPILERS = ("g++", "clang++")


def compile_blocks(model: PreTrainedModel, *, on_gpu: bool) -> None:
    """From now on the model's blocks are compiled for each shape of a micro-batch, when they first meet it.

    Blocks and not the whole: they are alike, so that one of them is compiled for all, and FSDP2 and gradient checkpointing, which go block
    by block, stay outside. To be called last, when probes have run and adapters and checkpointing are in place; names of weights do not
    change. Raises InputError for a model without blocks, and where the machine has no compiler.
    """
    import torch
    from transformers import AttentionInterface

    blocks = blocks_of(model)
    if not blocks:
        raise InputError(f"{KEY}: a model of the family {model.config.model_type} does not name its blocks. Valid for it: false")
    missing = _missing_compiler(on_gpu)
    if missing is not None:
        raise InputError(f"{KEY}: {missing}. Valid here: false")
    if uses_varlen(model):
        AttentionInterface.register(NAME, torch.compiler.disable(varlen_attention))  # type: ignore[no-untyped-call]
        decoder: Any = model.get_decoder()  # type: ignore[no-untyped-call]
        decoder.register_forward_pre_hook(_let_bounds_vary, with_kwargs=True)
    for block in blocks:
        block.compile(dynamic=False)


def _let_bounds_vary(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
    """The number of documents differs in every batch: blocks, which only pass the bounds on, are compiled for any."""
    import torch

    for name in ("cu_seq_lens_q", "cu_seq_lens_k", "shared_key_index"):
        if kwargs.get(name) is not None:
            torch._dynamo.maybe_mark_dynamic(kwargs[name], 0)


def uncompiled() -> AbstractContextManager[None]:
    """Within it, compiled blocks run eagerly: for shapes that would each be compiled."""
    import torch

    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


def _missing_compiler(on_gpu: bool) -> str | None:
    """What torch.compile needs and does not find."""
    if on_gpu:
        from torch.utils._triton import has_triton

        return None if has_triton() else "torch.compile needs Triton on a GPU, which is not installed or does not know this one"
    named = os.environ.get("CXX")
    if any(shutil.which(compiler) for compiler in ([named] if named else CPP_COMPILERS)):
        return None
    return f"torch.compile needs a C++ compiler on a CPU, and there is none ({named or ', '.join(CPP_COMPILERS)})"
