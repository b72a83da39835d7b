"""Liger's Triton kernels in place of transformers' own layers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from harness.config.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KEY = "model.liger=true"
OUR_LOSS = {"cross_entropy": False, "fused_linear_cross_entropy": False}
"""Losses are summed and divided by us; a model whose `forward` is Liger's would make no logits."""


@contextmanager
def liger_kernels(model: PreTrainedModel, *, on_gpu: bool) -> Iterator[None]:
    """While in it, the model's norms, rotary embeddings and gated feed-forward layers are Liger's, and those that are made of its family.

    Enter it when neither this model nor another of its family computes on a CPU any more. What Liger replaces in transformers' module
    of the family is restored afterwards, for the next run of the process; the model itself keeps Liger's norms and feed-forward layers.
    Raises InputError where Liger is not installed, there is no GPU, or Liger has nothing for the family.
    """
    if find_spec("liger_kernel") is None:
        raise InputError(f"{KEY}: needs liger-kernel, which is not installed: pip install 'harness[liger]'")
    if not on_gpu:
        raise InputError(f"{KEY}: its kernels run on a GPU only, and this run computes on a CPU. Valid here: false")
    # By name: it is optional, and importing it needs Triton.
    patch: Any = import_module("liger_kernel.transformers.monkey_patch")
    family = model.config.model_type
    known = patch.MODEL_TYPE_TO_APPLY_LIGER_FN
    if family not in known:
        raise InputError(f"{KEY}: Liger has no kernels for the family {family}; it has for {', '.join(sorted(known))}. Valid for it: false")
    names = vars(sys.modules[type(model).__module__])
    before = dict(names)
    try:
        patch._apply_liger_kernel_to_instance(model=model, **OUR_LOSS)
        yield
    finally:
        names.update(before)
