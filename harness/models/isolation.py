"""Probe whether a model keeps packed documents apart: several families silently do not."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from harness.config.errors import InputError
from harness.config.schema import Config
from harness.models.attention import attention_dtype, varlen_mode
from harness.models.device import computes_on_gpu
from harness.models.document_mask import add_document_mask
from harness.models.pretrained import first_line
from harness.models.varlen import add_varlen, cuda_kernel, kernel_problem, uses_varlen
from harness.models.vocabulary import vocabulary_size

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

log = logging.getLogger("harness")

TOLERANCE = 1e-4
"""Logits of an isolated document move by rounding only (about 1e-7); a leak moves them by more than 1e-3."""
LENGTH = 8
"""Tokens of each of the two documents that the probe packs."""


def isolate_documents(model: PreTrainedModel, config: Config, *, which: str = "this model") -> None:
    """Make sure that packed documents do not see each other in this model, as data.isolation says. which: its name in messages.

    Varlen attention knows where they begin (model.attention, see `choose_varlen`). Otherwise position ids that restart are enough for most
    models; others are given an explicit mask from now on. To be called when the model has its adapters. Raises InputError where nothing
    helps, or where what is asked for does not.
    """
    data, mode = config.data, varlen_mode(config)
    if mode != "no":
        problem = _varlen(model, config)
        if problem is None:
            log.info("documents of a row are kept apart within attention (varlen) in %s (%s)", which, _family(model))
            return
        if mode == "must":
            raise InputError(f"model.attention=varlen: not for {which} ({_family(model)}): {problem}. Valid for it: auto, sdpa, eager")
        log.warning("varlen attention is not used for %s (%s): %s", which, _family(model), problem)
    if data.packing == "padded":
        return
    problems = []
    if data.isolation in ("auto", "position_ids"):
        leak = document_leak(model)
        if leak <= TOLERANCE:
            return
        problems.append(f"by position ids replacing one document moves the next one's logits by {leak:.2g}")
    if data.isolation in ("auto", "mask"):
        problem = _mask(model)
        if problem is None:
            if problems:
                log.warning("documents of a row are kept apart by an explicit mask in %s (%s): %s", which, _family(model), problems[0])
            return
        problems.append(problem)
    valid = "data.packing=padded" if data.isolation == "auto" else "data.isolation=auto, data.packing=padded"
    raise InputError(
        f"data.packing={data.packing}, data.isolation={data.isolation}: documents of a row see each other in {which} ({_family(model)}: "
        f"{'; '.join(problems)}). Valid for it: {valid}"
    )


def document_leak(model: PreTrainedModel) -> float:
    """The largest change of document 2's logits in a packed row when document 1 is replaced; 0 up to rounding where packing isolates.

    As in training: position ids that restart, no cache, no attention mask but the model's own.
    """
    rows = _two_documents(model)
    logits = _packed_logits(model, rows)[:, LENGTH:]
    return float((logits[0] - logits[1]).abs().max())


def _varlen(model: PreTrainedModel, config: Config) -> str | None:
    """Switch the model to varlen attention; returns why not, if it stays as it was."""
    if getattr(model.config.get_text_config(), "attention_dropout", 0.0):
        return "its attention has dropout (model.attention_dropout)"
    if computes_on_gpu(config.trainer):
        problem = kernel_problem(model, cuda_kernel, device="cuda", dtype=attention_dtype(config))
        if problem is not None:
            return problem
    before = model.config._attn_implementation
    handles = []
    try:
        handles.append(add_varlen(model))
        problem = _deviation(model)
    # What families make of an attention that they do not know.
    except (ValueError, KeyError, IndexError, AttributeError, TypeError, RuntimeError) as error:
        problem = f"{type(error).__name__}: {first_line(error)}"
    if problem is not None:
        for handle in handles:
            handle.remove()
        if uses_varlen(model):
            model.set_attn_implementation(before)
    return problem


def _mask(model: PreTrainedModel) -> str | None:
    """Give the model an explicit mask; returns why not, if it does not keep documents apart."""
    handles = add_document_mask(model)
    try:
        deviation = _deviation(model)
        problem = None if deviation is None else f"under an explicit mask {deviation}"
    # What a family makes of a mask of four dimensions, or of one for each kind of layer.
    except (ValueError, KeyError, IndexError, AttributeError, TypeError, RuntimeError) as error:
        problem = f"it takes no explicit mask ({type(error).__name__}: {first_line(error)})"
    if problem is not None:
        for handle in handles:
            handle.remove()
    return problem


def _deviation(model: PreTrainedModel) -> str | None:
    """What is wrong with a document behind another, compared with itself alone: besides leaks, positions that went on."""
    rows = _two_documents(model)
    packed, alone = _packed_logits(model, rows)[0, LENGTH:], _packed_logits(model, rows[:, LENGTH:])[0]
    deviation = float((packed - alone).abs().max())
    if deviation <= TOLERANCE * max(1.0, float(alone.abs().max())):
        return None
    return f"a document's logits differ by {deviation:.2g} from those it has alone"


def _two_documents(model: PreTrainedModel) -> Tensor:
    """Two rows of two documents each; the second one is the same: int64 [2, 2 * LENGTH]."""
    import torch

    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(vocabulary_size(model), (2, 2 * LENGTH), generator=generator)
    rows[1, LENGTH:] = rows[0, LENGTH:]
    return rows


def _packed_logits(model: PreTrainedModel, rows: Tensor) -> Tensor:
    """Logits of rows [B, n * LENGTH] of packed documents, as training computes them: float32 [B, n * LENGTH, V]."""
    import torch

    positions = torch.arange(LENGTH).repeat(rows.shape[1] // LENGTH).expand(len(rows), -1)
    training = model.training
    model.train(False)
    try:
        with torch.no_grad():
            logits: Tensor = model(input_ids=rows.to(model.device), position_ids=positions.to(model.device), use_cache=False).logits
            return logits.float()
    finally:
        model.train(training)


def _family(model: PreTrainedModel) -> str:
    return str(model.config.model_type)
