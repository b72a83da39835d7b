"""An explicit attention mask for packed documents, for models that do not derive one from position ids."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.utils.hooks import RemovableHandle
    from transformers import PreTrainedModel


def document_mask(position_ids: Tensor, *, dtype: torch.dtype, window: int | None = None) -> Tensor:
    """What is added to attention scores: 0 from a position to itself and the earlier ones of its document, of which it sees the last
    `window` at most; the lowest finite number of `dtype` elsewhere.

    Args: position_ids int64 [B, L], which begin anew with each document. One that begins at s > 0 shares the first s positions of the
    document before it (data.share_prompt). Returns [B, 1, L, L]: queries, then keys.
    """
    import torch

    begins = position_ids.diff(dim=1, prepend=position_ids[:, :1] - 1) != 1
    begins[:, 0] = True
    document = begins.cumsum(dim=1)
    # The first position of each document, at all of its positions.
    first = position_ids.gather(1, torch.where(begins, torch.arange(begins.shape[1], device=begins.device), 0).cummax(dim=1).values)
    queries, keys = document[:, None, :, None], document[:, None, None, :]
    at = position_ids[:, None, None, :]
    distance = position_ids[:, None, :, None] - at
    is_seen = (queries == keys) & (distance >= 0) | (queries == keys + 1) & (at < first[:, None, :, None])
    if window is not None:
        is_seen &= distance < window
    return torch.zeros(is_seen.shape, dtype=dtype, device=position_ids.device).masked_fill_(~is_seen, torch.finfo(dtype).min)


def add_document_mask(model: PreTrainedModel) -> list[RemovableHandle]:
    """From now on a forward pass that is given position ids masks other documents; without them it stays as it was.

    The decoder gets the mask, so that logits and hidden states agree and callers need not change. Returns the handles that remove it.
    """
    whole: Any = model
    windows = _windows(model.config)

    def with_mask(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        position_ids = kwargs.get("position_ids")
        if position_ids is None or kwargs.get("attention_mask") is not None:
            return args, kwargs
        dtype = whole.get_input_embeddings().weight.dtype
        masks = {kind: document_mask(position_ids, dtype=dtype, window=window) for kind, window in windows.items()}
        return args, {**kwargs, "attention_mask": masks if len(masks) > 1 else next(iter(masks.values()))}

    modules = [whole.get_decoder()]
    if "position_ids" not in inspect.signature(whole.forward).parameters:
        # Such a model has no positions to begin anew, and does not pass them on to its decoder.
        modules.append(whole)
    return [module.register_forward_pre_hook(with_mask, with_kwargs=True) for module in modules]


def _windows(config: Any) -> dict[str, int | None]:
    """How far back each kind of layer sees: a mask replaces the sliding window of a model, and must have it.

    transformers takes masks by kind where layers are of several kinds; of others than these two the model will not find one.
    """
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    if "sliding_attention" in kinds:
        return {"full_attention": None, "sliding_attention": window}
    # Without kinds of layers all of them slide, if any does.
    return {"all": None if kinds else window}
