"""Low-rank updates, through peft."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.config.errors import InputError, wrong_value
from harness.config.schema import AdapterConfig
from harness.models.pretrained import first_line
from harness.models.vocabulary import vocabulary_layers

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from torch import nn
    from transformers import PreTrainedModel

PISSA = "pissa_niter_16"
"""The exact SVD of all matrices takes minutes on a model of 7 B parameters. What a few iterations get wrong stays in the frozen part: the
function that training starts from is the model's in either case."""


def add_lora(model: PreTrainedModel, config: AdapterConfig, token_ids: list[int]) -> PeftModel:
    """Freeze the model and put updates beside its layers, in place; the rows `token_ids` of its embedding are trained as well.

    B begins at zero, or with A as the principal components (PiSSA), and A as torch's random numbers say. Raises InputError for layers
    that do not exist or that are too small.
    """
    from peft import get_peft_model

    if config.variant == "pissa":
        _refuse_high_rank(model, config)
    _refuse_unknown_layers(model, config)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # what peft asks transformers for is theirs to settle
            wrapped: PeftModel = get_peft_model(model, _peft_config(model, config, token_ids))
    except ValueError as error:
        raise _wrong_layers(model, config, first_line(error)) from error
    return wrapped


@contextmanager
def without_lora(model: nn.Module) -> Iterator[None]:
    """Within it the updates do nothing: the model is the one below them (not of PiSSA, which takes its updates out of the matrices)."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def _peft_config(model: PreTrainedModel, config: AdapterConfig, token_ids: list[int]) -> LoraConfig:
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # peft only ever divides it
        lora_dropout=config.dropout,
        target_modules="all-linear" if config.target_modules is None else list(config.target_modules),
        bias="none",
        fan_in_fan_out=any(type(module).__name__ == "Conv1D" for module in model.modules()),  # GPT-2 keeps its matrices transposed
        use_rslora=config.variant == "rslora",
        use_dora=config.variant == "dora",
        init_lora_weights=PISSA if config.variant == "pissa" else True,  # type: ignore[arg-type]
        trainable_token_indices=_rows(model, token_ids),
    )


def _rows(model: PreTrainedModel, token_ids: list[int]) -> dict[str, list[int]] | None:
    """Rows that are trained, by the name of their layer: of a tied output layer peft trains the same ones by itself."""
    return {layer_name(model, layer): token_ids for layer in vocabulary_layers(model)} if token_ids else None


def layer_name(model: PreTrainedModel, layer: Any) -> str:
    """The last part of a layer's name: embed_tokens, lm_head, …"""
    path: str = next(path for path, module in model.named_modules() if module is layer)
    return path.rpartition(".")[2]


def _linear_layers(model: PreTrainedModel) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the layers that peft knows how to update, the output layer left out; of one name the smallest."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    output = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    layers: dict[str, tuple[int, ...]] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear | Conv1D) and module is not output:
            name, shape = path.rpartition(".")[2], tuple(module.weight.shape)
            layers[name] = min(layers.get(name, shape), shape, key=min)
    return layers


def _refuse_unknown_layers(model: PreTrainedModel, config: AdapterConfig) -> None:
    """Refuse names that do not exist: peft ignores them if others do."""
    layers = _linear_layers(model)
    missing = [name for name in config.target_modules or [] if name.rpartition(".")[2] not in layers]
    if missing:
        raise _wrong_layers(model, config, f"no linear layer is called {', '.join(missing)}")
    if not layers:
        raise InputError(f"adapter=lora: a model of the family {model.config.model_type} has no linear layers that could be updated")


def _refuse_high_rank(model: PreTrainedModel, config: AdapterConfig) -> None:
    for name, shape in _linear_layers(model).items():
        if (config.target_modules is None or name in config.target_modules) and config.rank > min(shape):
            problem = f"adapter.variant=pissa has as many components as the smaller side of a matrix at most, {min(shape)} of {name}"
            raise wrong_value("adapter.rank", config.rank, problem)


def _wrong_layers(model: PreTrainedModel, config: AdapterConfig, problem: str) -> InputError:
    valid = ", ".join(_linear_layers(model))
    shown = "null" if config.target_modules is None else config.target_modules
    return wrong_value("adapter.target_modules", shown, f"{problem}. Valid for {model.config.model_type}: {valid}")
