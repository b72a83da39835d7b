"""A model to start from that is merged of others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Gt, Le

from harness.config.merge_methods import MergeMethod
from harness.config.schema.base import Count, Name, Section, Share


@dataclass(kw_only=True)
class IngredientConfig(Section):
    """A model that is merged."""

    path: Name
    """A local directory or hub name of a model, a run (its directory, its name under runs/, or STUDY/NUMBER; RUN@STEP for a checkpoint
    before its last), or a directory with a LoRA adapter; MODEL+ADAPTER for an adapter over another model than its own. Or several models,
    whose mean counts as one: study:NAME, the best trials of a study (`top`); confirm:NAME, its confirmed winner with every seed; run:NAME,
    the last checkpoints of a run (`last`); trunk:STUDY/NUMBER, the last states of a trial's trunk, before its decay (`last`)."""
    top: Count | None = None
    """Of study:NAME, how many of its best trials; null: 1."""
    last: Count | None = None
    """Of run:NAME and trunk:STUDY/NUMBER, how many of the last (trainer.keep_checkpoints says how many a run keeps); null: all."""
    weight: float = 1.0
    """How much of it; below 0 to take away what it learned. slerp: how far from the base to it, 0 to 1."""
    density: Share = 1.0
    """Share of its changes that are kept."""
    weights: dict[str, float] = field(default_factory=dict)
    """Weights in the tensors of a group, by the group's name; elsewhere `weight` holds."""


@dataclass(kw_only=True)
class TensorGroupConfig(Section):
    """Tensors with weights of their own. A tensor in several groups belongs to the first that an ingredient has a weight for."""

    part: Literal["any", "embeddings", "attention", "mlp"] = "any"
    """embeddings: those, the output layer, and the norm before it. attention, mlp: of the layers, by the tensors' names."""
    layers: tuple[Share, Share] | None = None
    """Which layers, as shares of the depth: [0, 0.25] is the first quarter; null: all, and what is outside of the layers."""


@dataclass(kw_only=True)
class MergeConfig(Section):
    """A merge: model=merge starts a run from it, harness merge writes it. Arithmetic is in float32, the result is rounded once."""

    method: MergeMethod | None = None
    """null: nothing is merged. linear: the mean, by weights. task_arithmetic: the base and a weighted sum of changes (arXiv 2212.04089).
    slerp: from the base to one ingredient on an arc; nuslerp: between two; multislerp, karcher: means of directions. model_stock: from the
    base to the mean, as far as changes agree (arXiv 2403.19522). ties: the largest changes, of the elected sign (arXiv 2306.01708).
    dare_linear, dare_ties: changes kept by chance (arXiv 2311.03099); della, della_linear: by a chance that grows with their rank (arXiv
    2406.11617). breadcrumbs, breadcrumbs_ties: without the largest (arXiv 2312.06795). sce: where ingredients differ most (arXiv
    2408.07990). passthrough: layers of several models, one above the other (in mergekit's recipes)."""
    base: Name | None = None
    """What changes are from: a directory, a hub name, or a run. The result has its configuration and tokenizer; of methods without a base
    those of the first ingredient, unless one is given."""
    ingredients: dict[str, IngredientConfig] = field(default_factory=dict)
    """The models that are merged, by names of your choice."""
    scale: float = 1.0
    """λ: what the merged change is multiplied by. Matters more than the method: search it."""
    normalize: bool | None = None
    """Whether sums are divided by the weights in them; null: as the method has it (true for linear, multislerp, ties and della)."""
    groups: dict[str, TensorGroupConfig] = field(default_factory=dict)
    """Groups of tensors for which ingredients have weights of their own."""
    scope: Literal["tensor", "model"] = "tensor"
    """ties: the largest changes of each tensor (mergekit), or of the whole model (the paper)."""
    gamma: Share = 0.01
    """breadcrumbs: share of the largest changes that is dropped."""
    epsilon: Share = 0.15
    """della: by how much the chance to be kept may be below or above the density."""
    topk: Annotated[float, Gt(0), Le(1)] = 1.0
    """sce: share of the positions at which ingredients differ."""
    rescale: Literal["l1", "density", "none"] = "l1"
    """dare, della: what is kept is scaled up to the sum of magnitudes before (mergekit), by 1 / density (the paper), or not."""
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    """What the result is rounded to; null: as the base (or the first ingredient) is stored."""
