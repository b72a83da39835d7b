"""Export of adapters: merged into a plain model, or in peft's own format."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from harness.config.errors import InputError
from harness.models.adapters.build import AdaptedModel
from harness.models.adapters.lora import layer_name
from harness.models.tokenizer import add_control_tokens
from harness.models.vocabulary import add_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOLERANCE = 1e-5
"""Tolerance, relative to the largest entry, between two decompositions of a matrix, perhaps on different machines."""


def prompt_names(tokenizer: Any, tokens: int) -> list[str]:
    """Names for the tokens of a soft prompt that the tokenizer does not have yet."""
    vocabulary = tokenizer.get_vocab()
    free = (name for index in itertools.count() if (name := f"<|prompt_{index}|>") not in vocabulary)
    return list(itertools.islice(free, tokens))


def merge(adapted: AdaptedModel, tokenizer: Any) -> PreTrainedModel:
    """The model without adapters: updates are part of its matrices, the soft prompt of its embedding.

    The tokenizer gets the prompt's tokens. Both are changed in place.
    """
    rows = _take_prompt_out(adapted)
    model: PreTrainedModel = adapted.model if adapted.peft is None else adapted.peft.merge_and_unload()
    if rows is not None:
        ids = add_prompt_tokens(tokenizer, len(rows))
        add_rows(model, ids, seed=0)  # an output layer of its own has a place for them, too
        embedding: Any = model.get_input_embeddings()
        with torch.no_grad():
            embedding.weight[ids] = rows.to(embedding.weight)
    return model


def add_prompt_tokens(tokenizer: Any, tokens: int) -> list[int]:
    """Add the tokens of a soft prompt to the tokenizer. Returns their ids."""
    return add_control_tokens(tokenizer, prompt_names(tokenizer, tokens), key="adapter.tokens")


def initial_factors(adapted: AdaptedModel) -> dict[str, Tensor]:
    """Copies of LoRA's initial factors and of the matrices beside them, from which PiSSA's change of the base follows."""
    layers = dict(adapted.model.named_parameters())
    return {name: layers[name].detach().clone() for name in layers if "lora_" in name or name.endswith(".base_layer.weight")}


def write_adapter(adapted: AdaptedModel, tokenizer: Any, out: Path, *, base: str, initial: dict[str, Tensor] | None) -> None:
    """Write adapter_config.json and adapter_model.safetensors into the directory `out`, for peft over the model `base`.

    A soft prompt alone is one of peft's prompt tuning. Beside LoRA, it is trained rows of the embedding, whose tokens the tokenizer gets.
    Of PiSSA, which changed the base, the update alone is written, as a plain LoRA of twice the rank; `initial` is what it began with.
    Raises InputError if that cannot be made again.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    rows = _take_prompt_out(adapted)
    config: Any
    if adapted.peft is None:
        assert rows is not None, "checked: there is something to write"
        config, tensors = _prompt_tuning(adapted.model, rows), {"prompt_embeddings": _scaled(adapted.model, rows)}
    else:
        config = adapted.peft.peft_config["default"]
        tensors = get_peft_model_state_dict(adapted.peft, save_embedding_layers=False)
        if initial is not None:
            _refuse_another_decomposition(adapted.model, initial)
            tensors = {name: _doubled(name, tensor, initial) for name, tensor in tensors.items()}
            config.r, config.lora_alpha, config.init_lora_weights = 2 * config.r, 2 * config.lora_alpha, True
        if rows is not None:
            tensors |= _prompt_rows(adapted, rows, add_prompt_tokens(tokenizer, len(rows)), tensors)
    config.base_model_name_or_path, config.inference_mode = base, True
    config.save_pretrained(out)
    save_file({name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}, out / "adapter_model.safetensors")


def _take_prompt_out(adapted: AdaptedModel) -> Tensor | None:
    """The rows of the soft prompt [N, D]; the model gets its own embedding back."""
    if adapted.prompt is None:
        return None
    adapted.model.set_input_embeddings(adapted.prompt.base)
    rows: Tensor = adapted.prompt.prompt.weight.detach()
    return rows


def _scaled(model: PreTrainedModel, rows: Tensor) -> Tensor:
    """What the rows are after the embedding, which scales them in some families: peft puts its prompt behind it."""
    scale = getattr(model.get_input_embeddings(), "embed_scale", None)
    return rows if scale is None else rows * scale


def _prompt_tuning(model: PreTrainedModel, rows: Tensor) -> Any:
    from peft import PromptTuningConfig

    shape: Any = model.config.get_text_config()
    return PromptTuningConfig(
        task_type="CAUSAL_LM",
        num_virtual_tokens=len(rows),
        token_dim=rows.shape[1],
        num_transformer_submodules=1,
        num_attention_heads=shape.num_attention_heads,
        num_layers=shape.num_hidden_layers,
    )


def _prompt_rows(adapted: AdaptedModel, rows: Tensor, ids: list[int], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The prompt as further trained rows of the embedding, in the adapter's configuration and tensors."""
    assert adapted.peft is not None
    embedding = adapted.model.get_input_embeddings()
    path = next(path for path, module in adapted.peft.named_modules() if module is embedding)
    key, name = f"{path}.token_adapter.trainable_tokens_delta", layer_name(adapted.model, embedding)
    config: Any = adapted.peft.peft_config["default"]
    before = dict(config.trainable_token_indices or {})
    config.trainable_token_indices = {**before, name: [*before.get(name, []), *ids]}
    return {key: torch.cat([tensors[key], rows.to(tensors[key])]) if key in tensors else rows}


def _refuse_another_decomposition(model: PreTrainedModel, initial: dict[str, Tensor]) -> None:
    """Check that `initial` is what this run's PiSSA began with: the matrices that it left behind are the same."""
    for name, parameter in model.named_parameters():
        if name.endswith(".base_layer.weight") and name in initial:
            difference = float((parameter - initial[name]).abs().max())
            if difference > TOLERANCE * float(parameter.abs().max()):
                raise InputError(
                    f"adapter.variant=pissa: the decomposition of {name} comes out otherwise here than when the run was trained (by "
                    f"{difference:.2g}), so that its update cannot be told from it; valid: export without --adapter"
                )


def _doubled(name: str, tensor: Tensor, initial: dict[str, Tensor]) -> Tensor:
    """B·A - B0·A0 as [B, -B0]·[A; A0]; `name` is peft's name of a factor."""
    for factor, sign, dimension in (("lora_A", 1, 0), ("lora_B", -1, 1)):
        if f".{factor}." in name:
            begun = initial[name.removeprefix("base_model.model.").replace(f".{factor}.", f".{factor}.default.")]
            return torch.cat([tensor, sign * begun.to(tensor)], dim=dimension)
    return tensor
