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
    With data.share_prompt also make sure that a document sees what it shares with the one before it: position ids alone do not say that.
    """
    data, mode = config.data, varlen_mode(config)
    if mode != "no":
        problem = _varlen(model, config)
        if problem is None:
            said = logging.INFO if mode == "must" or computes_on_gpu(config.trainer) else logging.DEBUG
            log.log(said, "documents of a row are kept apart within attention (varlen) in %s (%s)", which, _family(model))
            return
        if mode == "must":
            raise InputError(f"model.attention=varlen: not for {which} ({_family(model)}): {problem}. Valid for it: auto, sdpa, eager")
        log.warning("varlen attention is not used for %s (%s): %s", which, _family(model), problem)
    if data.packing == "padded":
        return
    problems = []
    if data.isolation in ("auto", "position_ids") and not data.share_prompt:
        leak = document_leak(model)
        if leak <= TOLERANCE:
            return
        problems.append(f"by position ids replacing one document moves the next one's logits by {leak:.2g}")
    if data.isolation in ("auto", "mask"):
        problem = _mask(model, config)
        if problem is None:
            if problems:
                log.warning("documents of a row are kept apart by an explicit mask in %s (%s): %s", which, _family(model), problems[0])
            return
        problems.append(problem)
    if data.share_prompt:
        raise InputError(
            f"data.share_prompt=true: a prompt cannot be shared in {which} ({_family(model)}: {'; '.join(problems)}). Valid for it: false"
        )
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
    logits = _packed_logits(model, rows, [0, 0])[:, LENGTH:]
    return float((logits[0] - logits[1]).abs().max())


def _varlen(model: PreTrainedModel, config: Config) -> str | None:
    """Switch the model to varlen attention; returns why not, if it stays as it was."""
    if computes_on_gpu(config.trainer):
        dtype, shares = attention_dtype(config), config.data.share_prompt
        problem = kernel_problem(model, cuda_kernel, device="cuda", dtype=dtype, shares=shares)
        if problem is not None:
            return problem
    before = model.config._attn_implementation
    handles = []
    try:
        handles.append(add_varlen(model))
        problem = _deviation(model, config)
        if problem is None:
            _train_once(model)
    # What families make of an attention that they do not know.
    except (ValueError, KeyError, IndexError, AttributeError, TypeError, RuntimeError) as error:
        problem = f"{type(error).__name__}: {first_line(error)}"
    if problem is not None:
        for handle in handles:
            handle.remove()
        if uses_varlen(model):
            model.set_attn_implementation(before)
    return problem


def _mask(model: PreTrainedModel, config: Config) -> str | None:
    """Give the model an explicit mask; returns why not, if it does not keep documents apart."""
    handles = add_document_mask(model)
    try:
        deviation = _deviation(model, config)
        problem = None if deviation is None else f"under an explicit mask {deviation}"
    # What a family makes of a mask of four dimensions, or of one for each kind of layer.
    except (ValueError, KeyError, IndexError, AttributeError, TypeError, RuntimeError) as error:
        problem = f"it takes no explicit mask ({type(error).__name__}: {first_line(error)})"
    if problem is not None:
        for handle in handles:
            handle.remove()
    return problem


def _train_once(model: PreTrainedModel) -> None:
    """Raise what the attention raises in training alone, for dropout, which each family calls otherwise. Draws nothing."""
    import torch

    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        _packed_logits(model, _two_documents(model), [0, 0], training=True)


def _deviation(model: PreTrainedModel, config: Config) -> str | None:
    """What is wrong with a document behind another, compared with itself alone: besides leaks, positions that went on. With
    data.share_prompt, also with one that shares the first half of the other."""
    import torch

    rows = _two_documents(model)
    for shared in (0, LENGTH // 2) if config.data.share_prompt else (0,):
        packed = _packed_logits(model, rows, [0, shared])[0, LENGTH:]
        alone = _packed_logits(model, torch.cat([rows[:, :shared], rows[:, LENGTH:]], dim=1), [0])[0, shared:]
        deviation = float((packed - alone).abs().max())
        if deviation > TOLERANCE * max(1.0, float(alone.abs().max())):
            behind = " behind a beginning that it shares" if shared else ""
            return f"a document's logits{behind} differ by {deviation:.2g} from those it has alone"
    return None


def _two_documents(model: PreTrainedModel) -> Tensor:
    """Two rows of two documents each; the second one is the same: int64 [2, 2 * LENGTH]."""
    import torch

    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(vocabulary_size(model), (2, 2 * LENGTH), generator=generator)
    rows[1, LENGTH:] = rows[0, LENGTH:]
    return rows


def _packed_logits(model: PreTrainedModel, rows: Tensor, begins: list[int], *, training: bool = False) -> Tensor:
    """Logits of rows [B, L] of packed documents, as training computes them: float32 [B, L, V]. begins: the first position of each document;
    all but the last have LENGTH tokens. training: with dropout."""
    import torch

    lengths = [LENGTH] * (len(begins) - 1) + [rows.shape[1] - LENGTH * (len(begins) - 1)]
    positions = torch.cat([torch.arange(begin, begin + length) for begin, length in zip(begins, lengths, strict=True)])
    positions = positions.expand(len(rows), -1)
    before = model.training
    model.train(training)
    try:
        with torch.no_grad():
            logits: Tensor = model(input_ids=rows.to(model.device), position_ids=positions.to(model.device), use_cache=False).logits
            return logits.float()
    finally:
        model.train(before)


def _family(model: PreTrainedModel) -> str:
    return str(model.config.model_type)
