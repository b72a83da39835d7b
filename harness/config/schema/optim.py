"""The optimizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from harness.config.schema.base import Count, NonNegative, OnlyFor, Positive, Section

OptimName = Literal["adamw", "muon", "soap", "lion", "schedule_free"]


@dataclass(kw_only=True)
class OptimConfig(Section):
    """The optimizer. Weight decay is decoupled, and on matrices only: the output layer's too, but no biases, norms or embeddings (tied
    ones neither). All but adamw come from pytorch_optimizer: pip install 'harness[optimizers]'."""

    name: OptimName = "adamw"
    """adamw: torch.optim.AdamW. muon: orthogonalised momentum for the two-dimensional weights between embeddings and output layer, AdamW
    for all others (arXiv 2502.16982). soap: Adam in Shampoo's eigenbases for the same weights, Adam for all others (arXiv 2409.11321); its
    first step only looks. lion: sign of the momentum (arXiv 2302.06675), at about a tenth of AdamW's rate. schedule_free: AdamW that
    averages instead of decaying (arXiv 2405.15682); schedule.name must be constant, and its average is what is evaluated and exported."""
    lr: Positive = 1e-3
    """Peak learning rate. Of muon, an update has the root mean square of AdamW's (0.2): a rate that suits AdamW suits it."""
    adamw_lr_ratio: Annotated[Positive, OnlyFor(("muon",))] = 1.0
    """The rate of the weights that AdamW updates, as a multiple of optim.lr, in every step."""
    weight_decay: NonNegative = 0.1
    """Decoupled weight decay, per step times the learning rate."""
    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.95)
    """Averaging coefficients of the gradient and of its square. Of muon: in its AdamW part; of lion: for the update and for the momentum;
    of schedule_free: the weight of the average in the weights that gradients are taken at (> 0), and of the squared gradient."""
    momentum: Annotated[float, Ge(0), Lt(1), OnlyFor(("muon",))] = 0.95
    """Averaging coefficient of the momentum (Nesterov's) that is orthogonalised."""
    eps: Annotated[Positive, OnlyFor(("adamw", "muon", "soap", "schedule_free"))] = 1e-8
    """Adam's denominator offset."""
    precondition_every_steps: Annotated[Count, OnlyFor(("soap",))] = 10
    """Renew the eigenbases every so many steps."""
    max_preconditioned_size: Annotated[Count, OnlyFor(("soap",))] = 10_000
    """Longer sides of a matrix are left as they are: a preconditioner takes the square of it."""
    implementation: Annotated[Literal["fused", "foreach", "single"], OnlyFor(("adamw",))] = "fused"
    """fused: one kernel over all weights; foreach: a few; single: a loop over weights, the least memory. The update is the same."""
    gradient_clip_norm: Positive | None = 1.0
    """Clip the global gradient norm, over all micro-batches of the step, to this; null: no clipping."""
    ema_decay: Annotated[float, Gt(0), Lt(1)] | None = None
    """Keep an exponential moving average of the weights, in float32, with this decay a step (lower at first: (1 + t) / (10 + t) after t
    steps). The average is then what is evaluated (val/…) and exported; train/… stays that of the weights under training. null: none."""
