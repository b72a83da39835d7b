"""A merge as a model to start from: made in memory, nothing is written. It is, to the last bit, what `harness merge` would write."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from harness.config.schema import MergeConfig, ModelConfig
from harness.config.validate import to_plain
from harness.merging.from_config import recipe_of
from harness.merging.merge import merged_tensors, refuse_other_buffers
from harness.merging.plan import Plan, plan_merge
from harness.merging.source import rounded
from harness.models.attention import transformers_name
from harness.models.ingredients import ingredient, sources_of
from harness.models.pretrained import loading, whole_model
from harness.models.several import models_of, one_by_one

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

KEY = "model.merge"


def merge_plan(merge: MergeConfig, *, seed: int) -> Plan:
    """What a configuration's merge is made of. seed: of random masks. Raises InputError for models that cannot be merged."""
    recipe = recipe_of(one_by_one(merge), seed=seed)
    return plan_merge(recipe, sources_of(recipe))


def merge_fingerprint(merge: MergeConfig) -> str:
    """A hash of the recipe and of the models that it merges, wherever they lie."""
    merge = one_by_one(merge)
    recipe = recipe_of(merge, seed=0)
    models = {name: source.fingerprint for name, source in sources_of(recipe).items()}
    values = to_plain(merge)
    values["base"] = None
    for one in values["ingredients"].values():
        del one["path"]
    return hashlib.sha256(json.dumps([values, models], sort_keys=True).encode()).hexdigest()


def ingredient_fingerprints(merge: MergeConfig, known: dict[str, str] | None = None) -> dict[str, str]:
    """Of every model that is merged, by the configuration key that names it (without .path); of the base, too.

    known: fingerprints by word, of models that were looked at already; the others are added.
    """
    recipe = recipe_of(one_by_one(merge), seed=0)
    known = {} if known is None else known
    for name, word in recipe.words.items():
        if word not in known:
            known[word] = ingredient(word, key=recipe.keys[name]).fingerprint
    return {recipe.keys[name].removesuffix(".path"): known[word] for name, word in recipe.words.items()}


def frame_folder(model: ModelConfig) -> tuple[str, str] | None:
    """Key and path of the model whose configuration and tokenizer this one has, as transformers loads it; None of one from scratch."""
    frame = model.frame
    if frame is None or model.path is not None:
        return frame
    key, word = frame
    if model.merge.base is None:
        word = next(iter(models_of(next(iter(model.merge.ingredients.values())), key=key.removesuffix(".path")).values()))
    folder = ingredient(word, key=key).folder
    return key, word if folder is None else str(folder)


def merged_model(config: ModelConfig, *, seed: int) -> PreTrainedModel:
    """The merge in float32. Raises InputError for models that cannot be merged."""
    import numpy as np
    import torch

    plan = merge_plan(config.merge, seed=seed)
    refuse_other_buffers(plan)
    state: dict[str, torch.Tensor] = {}
    with np.errstate(all="ignore"):  # what is not finite is found and named
        for target, blocks in merged_tensors(plan):
            values = np.concatenate([rounded(block, target.dtype).reshape(-1) for block in blocks])
            state[target.name] = torch.from_numpy(values.reshape(target.dimensions))
    return _loaded(plan, state, config)


def _loaded(plan: Plan, state: dict[str, torch.Tensor], config: ModelConfig) -> PreTrainedModel:
    """A model of the plan's config.json with these weights, by the names that files have them under."""
    import torch
    from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, GenerationConfig

    label = plan.frame.label
    family = plan.config.get("model_type")
    dropout = {} if config.attention_dropout is None else {"attention_dropout": config.attention_dropout}
    with loading(KEY, label, "causal language model", attention=config.attention):
        values: Any = CONFIG_MAPPING[str(family)].from_dict({**plan.config, **dropout})
        of_family: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(values)]
        loaded: Any = of_family.from_pretrained(
            None,
            config=values,
            state_dict=state,
            dtype=torch.float32,
            attn_implementation=transformers_name(config.attention),
            output_loading_info=True,
        )
    model = whole_model(loaded, KEY, label)
    if plan.frame.folder is not None and (plan.frame.folder / "generation_config.json").is_file():
        with loading(KEY, label, "generation configuration"):
            model.generation_config = GenerationConfig.from_pretrained(plan.frame.folder)
    return model
