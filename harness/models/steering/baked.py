"""A direction as a part of a model's own weights: added by a bias, or taken out of the matrices that write (arXiv 2406.11717).

Whether the result is the steered model depends on the family (a norm behind the MLP, a factor on what blocks add): it is compared with it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.config.errors import InputError
from harness.models.adapters.ablation import writers_of
from harness.models.adapters.steering import Steering
from harness.models.blocks import hidden_of, residual_blocks
from harness.models.vocabulary import vocabulary_size

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOLERANCE = 1e-5
"""Of logits, relative to their range: rounding makes 1e-6 at most, another computation more than 1e-2."""
VALID = "valid for it: --format vector"


def bake(model: PreTrainedModel, steering: Steering) -> PreTrainedModel:
    """The model, which nothing steers, with what `steering` does in its weights; the model given is used up.

    Raises InputError where the family has no weights that do the same.
    """
    if steering.operation == "ablate":
        ((block, share),) = steering.coefficients.items()
        return _ablated(model, steering.units[block], share)
    if steering.positions != "all":
        raise InputError(f"adapter.positions={steering.positions}: a bias acts at every token; valid: all, or --format vector")
    return _biased(model, {block: steering.added(block) for block in steering.units})


def refuse_unequal(baked: PreTrainedModel, steered: PreTrainedModel) -> float:
    """The largest difference of logits, relative to their range, between the two. Raises InputError where it is no rounding."""
    ids = torch.randint(vocabulary_size(baked), (2, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, wanted = (_logits(model, ids) for model in (baked, steered))
    difference = float((found - wanted).abs().max() / (wanted.max() - wanted.min()))
    if difference > TOLERANCE:
        raise InputError(
            f"--format baked: not for this model ({baked.config.model_type}): with the direction in its weights, its logits differ from "
            f"those of the steered model by {difference:.1%} of their range; {VALID}"
        )
    return difference


def _logits(model: Any, ids: Tensor) -> Tensor:
    logits: Tensor = model.eval()(input_ids=ids, use_cache=False).logits
    return logits.float()


def _biased(model: PreTrainedModel, added: Mapping[int, Tensor]) -> PreTrainedModel:
    writers = _writing_layers(model)
    if any(writers[block][1].bias is None for block in added):
        model = _with_biases(model)
        writers = _writing_layers(model)
    with torch.no_grad():
        for block, vector in added.items():
            bias: Any = writers[block][1].bias
            bias += vector
    return model


def _with_biases(model: PreTrainedModel) -> PreTrainedModel:
    """The same model whose MLPs have biases, of 0. Raises InputError for a family that has no such setting."""
    if getattr(model.config, "mlp_bias", None) is not False:
        raise _refused(model, "its blocks end in a matrix without a bias, and its configuration has no setting for one (mlp_bias)")
    config = copy.deepcopy(model.config)
    config.mlp_bias = True
    biased: Any = type(model)(config)
    missing = biased.load_state_dict(model.state_dict(), strict=False).missing_keys
    with torch.no_grad():
        for name in missing:
            biased.get_parameter(name).zero_()
    biased.generation_config = model.generation_config
    whole: PreTrainedModel = biased
    return whole


def _ablated(model: PreTrainedModel, unit: Tensor, share: float) -> PreTrainedModel:
    whole: Any = model
    head, embedding = whole.get_output_embeddings(), whole.get_input_embeddings()
    if head is not None and head.weight is embedding.weight:
        # Tied, the direction would be taken out of the head as well, which reads.
        head.weight = nn.Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False
    with torch.no_grad():
        for layer in (layer for layers in _writing_layers(model) for layer in layers):
            weight = layer.weight if _is_transposed(layer) else layer.weight.T  # [in, H]
            _take_out(weight, unit, share)
            if layer.bias is not None:
                _take_out(layer.bias[None], unit, share)
        for module in model.modules():
            # Of tokens, and of positions where they are learned.
            if isinstance(module, nn.Embedding) and module.embedding_dim == len(unit):
                _take_out(module.weight, unit, share)
    return model


def _take_out(rows: Tensor, unit: Tensor, share: float) -> None:
    """Take a share of the direction out of rows [N, H] in place."""
    rows -= share * torch.outer(rows @ unit, unit)


def _is_transposed(layer: nn.Module) -> bool:
    """Whether a matrix is [in, out], as GPT-2 keeps them."""
    return type(layer).__name__ == "Conv1D"


def _writing_layers(model: PreTrainedModel) -> list[list[Any]]:
    """Of each block the linear layers whose outputs are what its two writers return: attention's, and the MLP's last. Raises InputError."""
    blocks = residual_blocks(model)
    found: list[list[Any]] = []
    of_blocks = writers_of(model, blocks)
    if of_blocks is None:
        raise _refused(model, "what its blocks add is no sum of what two of their parts return")
    for writers in of_blocks:
        layers = [_last_layer(model, writer) for writer in writers]
        if None in layers:
            raise _refused(model, "what its blocks add comes out of a norm, or of several matrices")
        found.append(layers)
    return found


def _last_layer(model: PreTrainedModel, writer: nn.Module) -> nn.Module | None:
    """The linear layer of a writer that returns what the writer returns."""
    outputs: dict[nn.Module, Any] = {}
    wanted: list[Tensor] = []
    layers = [part for part in writer.modules() if isinstance(part, nn.Linear) or _is_transposed(part)]
    handles = [layer.register_forward_hook(lambda part, args, output: outputs.__setitem__(part, output)) for layer in layers]
    handles.append(writer.register_forward_hook(lambda part, args, output: wanted.append(hidden_of(output))))
    try:
        with torch.no_grad():
            _logits(model, torch.arange(8)[None] % vocabulary_size(model))
    finally:
        for handle in handles:
            handle.remove()
    # A router among experts may be a linear layer that returns several values (PhiMoE).
    found = (layer for layer, output in outputs.items() if isinstance(output, Tensor) and torch.equal(output, wanted[0]))
    return next(found, None)


def _refused(model: PreTrainedModel, why: str) -> InputError:
    return InputError(f"--format baked: not for this model ({model.config.model_type}): {why}; {VALID}")
