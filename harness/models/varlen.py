"""Attention within the documents of packed rows, by their bounds (model.attention=varlen).

A mask of [B, 1, L, L] keeps documents apart as well, but is computed for every position that it hides, and keeps a GPU from its fastest
kernels. Here rows stay [B, L]; within attention they are laid end to end, [B * L], with the bounds of their documents, as torch's
varlen_attn wants them on a CUDA device (since torch 2.10; float16 and bfloat16 only; no dropout). On a CPU one document comes after the
other. Versions of torch and of GPUs differ in what their kernel can do, so it is compared with the CPU's way before it is used, see
`kernel_problem`; tests/training/test_gpu.py looks at it on a GPU.
"""

from __future__ import annotations

from functools import cache
from inspect import signature
from typing import TYPE_CHECKING, Any, Protocol

from harness.models.pretrained import first_line

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.utils.hooks import RemovableHandle
    from transformers import PreTrainedModel

NAME = "harness_varlen"
"""What transformers calls it."""
TOLERANCES = {"float32": 1e-5, "float16": 5e-3, "bfloat16": 4e-2}
"""Of outputs and gradients of order 1, between kernels."""


Bounds = tuple["Tensor", "Tensor"]
"""Where documents begin, and where the last one ends, among queries and among keys: two of int32 [n + 1], see `document_bounds`."""


class Kernel(Protocol):
    """Causal attention within documents laid end to end."""

    def __call__(
        self, query: Tensor, key: Tensor, value: Tensor, bounds: Bounds, *, longest: int, scale: float | None, window: int | None
    ) -> Tensor:
        """Args: query [T, H, D]; key and value [K, G, D], H a multiple of G; bounds, of queries and of keys, of which a document may have
        more: the last query sees all of them, the one before it one less; longest, no document has more keys; window, how many tokens each
        sees at most, itself included. Returns [T, H, D]."""


def document_bounds(position_ids: Tensor) -> Tensor:
    """Where the documents begin in rows laid end to end, and where the last one ends: int32 [n + 1].

    Args: position_ids int64 [B, L], which begin anew with each document; a row begins one, too.
    """
    import torch

    begins = position_ids.diff(dim=1, prepend=position_ids[:, :1] - 1) != 1
    begins[:, 0] = True
    ends = torch.tensor([position_ids.numel()], device=position_ids.device)
    return torch.cat([begins.flatten().nonzero().flatten(), ends]).int()


def shared_keys(position_ids: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor] | None:
    """Which positions of rows laid end to end the documents see as keys, one document after the other, and where those of each begin:
    int64 [K], int32 [n + 1]. None where each sees its own alone.

    One that begins at position s > 0 shares the first s positions of the document before it in its row (data.share_prompt).
    Args: position_ids int64 [B, L]; bounds, see `document_bounds`.
    """
    import torch

    starts, lengths = bounds[:-1].long(), bounds.diff().long()
    shared = torch.where(starts % position_ids.shape[1] == 0, 0, position_ids.flatten()[starts])
    if not shared.any():
        return None
    counts = torch.stack([shared, lengths], dim=1).flatten()
    begins = torch.stack([starts.roll(1), starts], dim=1).flatten()
    ends = counts.cumsum(0)
    index = torch.arange(int(ends[-1]), device=bounds.device) + (begins - ends + counts).repeat_interleave(counts)
    return index, torch.cat([bounds[:1], ends[1::2].int()])


def cuda_kernel(
    query: Tensor, key: Tensor, value: Tensor, bounds: Bounds, *, longest: int, scale: float | None, window: int | None
) -> Tensor:
    """See `Kernel`."""
    from torch.nn.attention.varlen import varlen_attn

    back = -1 if window is None else window - 1
    grouped: dict[str, Any] = {"enable_gqa": True} if query.shape[1] != key.shape[1] and _asks_for_groups() else {}
    found = varlen_attn(query, key, value, *bounds, longest, longest, scale=scale, window_size=(back, 0), **grouped)
    assert not isinstance(found, tuple), "nothing else was asked for"
    return found


@cache
def _asks_for_groups() -> bool:
    """Whether torch needs an argument for fewer key heads than query heads; 2.11 does not."""
    from torch.nn.attention.varlen import varlen_attn

    return "enable_gqa" in signature(varlen_attn).parameters


def cpu_kernel(
    query: Tensor, key: Tensor, value: Tensor, bounds: Bounds, *, longest: int, scale: float | None, window: int | None
) -> Tensor:
    """See `Kernel`."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    grouped = query.shape[1] != key.shape[1]
    queries, keys = (part.diff().tolist() for part in bounds)
    found = []
    for q, k, v in zip(*(torch.split(part, sizes) for part, sizes in ((query, queries), (key, keys), (value, keys))), strict=True):
        before, mask = len(k) - len(q), None
        if before or (window is not None and window < len(k)):
            mask = torch.ones(len(q), len(k), dtype=torch.bool, device=q.device).tril(before)
            mask = mask if window is None else mask.triu(before + 1 - window)
        q, k, v = (part.transpose(0, 1)[None] for part in (q, k, v))
        one = scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=grouped)
        found.append(one[0].transpose(0, 1))
    return torch.cat(found)


def varlen_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: Tensor | None = None,
    cu_seq_lens_k: Tensor | None = None,
    shared_key_index: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers asks for it: query [B, H, L, D], key and value [B, G, L, D]; returns [B, L, H, D], and no weights.

    cu_seq_lens_q: the bounds of documents; None: every row is one. cu_seq_lens_k, shared_key_index: see `shared_keys`.
    Raises ValueError for what the kernels have no notion of.
    """
    import torch

    unknown = [name for name in ("softcap", "s_aux", "position_bias") if others.get(name) is not None]
    if attention_mask is not None:
        unknown.append("attention_mask")
    if dropout > 0:
        unknown.append("dropout")
    if unknown or query.shape[2] != key.shape[2]:
        raise ValueError(f"varlen attention knows no {', '.join(unknown) or 'cache'}")
    rows, length = query.shape[0], query.shape[2]
    own, of_keys = cu_seq_lens_q, cu_seq_lens_k
    if own is None:
        own = torch.arange(0, (rows + 1) * length, length, device=query.device, dtype=torch.int32)
    device = query.device.type
    # Norms and rotations within attention may have left half precision.
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else value.dtype
    q, k, v = (part.transpose(1, 2).flatten(0, 1).to(dtype) for part in (query, key, value))
    if shared_key_index is not None:
        k, v = k[shared_key_index], v[shared_key_index]
    kernel: Kernel = cuda_kernel if query.is_cuda else cpu_kernel
    found = kernel(q, k, v, (own, own if of_keys is None else of_keys), longest=length, scale=scaling, window=sliding_window)
    return found.view(rows, length, *found.shape[1:]), None


def add_varlen(model: PreTrainedModel) -> RemovableHandle:
    """From now on the model uses `varlen_attention`, with bounds of documents from the position ids of a forward pass.

    Returns the handle that removes the bounds. Raises ValueError for a model that attends in a way of its own.
    """
    from transformers import AttentionInterface

    whole: Any = model
    AttentionInterface.register(NAME, varlen_attention)
    whole.set_attn_implementation(NAME)
    if not uses_varlen(model):
        raise ValueError("its attention cannot be replaced")

    def with_bounds(module: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        position_ids = kwargs.get("position_ids")
        if position_ids is None:
            return args, kwargs
        # Once a forward pass, not once a layer: a GPU is waited for here.
        bounds, longest = document_bounds(position_ids), position_ids.shape[1]
        shared = shared_keys(position_ids, bounds)
        told = {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest}
        if shared is not None:
            told["shared_key_index"], told["cu_seq_lens_k"] = shared
        return args, {**kwargs, **told}

    handle: RemovableHandle = whole.get_decoder().register_forward_pre_hook(with_bounds, with_kwargs=True)
    return handle


def uses_varlen(model: PreTrainedModel) -> bool:
    """Whether the model uses `varlen_attention`."""
    return bool(model.config._attn_implementation == NAME)


def kernel_problem(model: PreTrainedModel, kernel: Kernel, *, device: str, dtype: torch.dtype, shares: bool = False) -> str | None:
    """What is wrong with a kernel for heads like this model's, in comparison with `cpu_kernel` in float32; None where nothing is.

    Outputs and gradients of a few short documents; shares: of which some have more keys than queries.
    """
    import torch

    shape: Any = model.config.get_text_config()
    heads = shape.num_attention_heads
    groups = getattr(shape, "num_key_value_heads", None) or heads
    head_size = getattr(shape, "head_dim", None) or shape.hidden_size // heads
    generator = torch.Generator().manual_seed(0)
    bounds = torch.tensor([0, 5, 6, 39, 64], dtype=torch.int32)
    more = torch.tensor([0, 0, 3, 3, 10], dtype=torch.int32) if shares else torch.zeros(5, dtype=torch.int32)
    keys = int((bounds + more)[-1])
    sizes = [(64, heads, head_size), (keys, groups, head_size), (keys, groups, head_size)]
    given = [torch.randn(size, generator=generator) for size in sizes]
    direction = torch.randn(sizes[0], generator=generator)

    def measured(kernel: Kernel, device: str, dtype: torch.dtype) -> list[Tensor]:
        q, k, v = (part.to(device, dtype).requires_grad_() for part in given)
        out = kernel(q, k, v, (bounds.to(device), (bounds + more).to(device)), longest=64, scale=None, window=None)
        gradients = torch.autograd.grad(out, (q, k, v), direction.to(out))
        return [part.detach().float().cpu() for part in (out, *gradients)]

    try:
        found = measured(kernel, device, dtype)
    # Whatever a kernel answers to a size, a type or a device that it does not know, or another torch to our way of asking.
    except (RuntimeError, ValueError, TypeError, NotImplementedError, ImportError) as error:
        return f"the kernel does not run: {first_line(error)}"
    expected = measured(cpu_kernel, "cpu", torch.float32)
    deviation = max(
        float((one - other).abs().max()) / max(1.0, float(other.abs().max())) for one, other in zip(found, expected, strict=True)
    )
    if deviation <= TOLERANCES[str(dtype).removeprefix("torch.")]:
        return None
    return f"the kernel is off by {deviation:.2g}"
