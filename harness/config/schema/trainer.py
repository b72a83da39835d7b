"""Length, batch, precision and rhythm."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from harness.config.schema.base import Count, MultipleOfKeys, Positive, Section
from harness.config.schema.objective import Preferred


@dataclass(kw_only=True)
class TrainerConfig(Section):
    """Length, batch, precision and rhythm of a run."""

    max_tokens: Count | None = None
    """Train on at most this many tokens (padding not counted; those that objective.kind=kto reads besides are). This, max_steps or
    max_epochs is required; of several, what ends first counts."""
    max_steps: Annotated[int, Ge(0)] | None = None
    """Train for at most this many optimizer steps. 0: nothing is trained, the model is evaluated as it is; such a run needs no sources, no
    length and no optimizer, and costs the tokens that its evaluation sets have."""
    max_epochs: Positive | None = None
    """Train for whole steps until a source has been gone through this often; sources marked replay do not count. A sweep, which reserves
    tokens before it looks at data, takes it beside max_tokens or max_steps. (data.max_epochs refuses a run that would be longer.)"""
    batch_tokens: Annotated[
        Count, MultipleOfKeys(("data.context_length", "trainer.micro_batch_size", "trainer.devices", "trainer.nodes"))
    ] = 16_384
    """Positions in one optimizer step: a multiple of data.context_length."""
    batch_pairs: Annotated[Count | None, Preferred] = None
    """Pairs of answers (with objective.kind=kto: answers) in one optimizer step, in place of batch_tokens: as many rows as hold so many on
    average, in whole micro-batches. (A step's loss is divided by the pairs that it really has.) A sweep gives max_tokens beside it. null:
    batch_tokens counts."""
    initial_batch_tokens: Annotated[Count, MultipleOfKeys(("data.context_length",))] | None = None
    """Positions in the first step; the batch then grows linearly to batch_tokens, in whole rows. The number of micro-batches stays, their
    size grows. null: no warm-up of the batch."""
    batch_warmup: int | float | str = 0.1
    """How long the batch grows where initial_batch_tokens is given: a fraction of the run, steps of the full batch, or tokens (padding
    counted)."""
    micro_batch_size: Count | None = None
    """Rows in one forward pass of one device; null: the whole batch at once. Smaller ones accumulate to the same gradient."""
    loss_chunk_tokens: Count | None = None
    """Compute the loss so many trained tokens at a time, from hidden states, and once more for the gradient: logits of a whole micro-batch
    (tokens x vocabulary) are never held. null: all at once, which is faster where memory allows."""
    gradient_checkpointing: bool = False
    """Keep only what goes into each block for the backward pass, and compute the rest once more: less memory, more time,
    the same gradients."""
    compile: bool = False
    """Compile the model's blocks (torch.compile): the first step takes seconds to minutes longer, the others less, where kernels are what
    costs. Losses differ by rounding from those without. Evaluations, whose batches have many shapes, run uncompiled. Needs a C++ compiler
    on a CPU, Triton on a GPU."""
    precision: Literal["32-true", "bf16-mixed", "bf16-true", "16-mixed"] = "32-true"
    """Lightning's precision."""
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    """Lightning's accelerator."""
    devices: Count = 1
    """Devices of each node that train the run together, one process (rank) each; on a CPU, processes. They divide the rows of a batch:
    losses and data do not depend on their number. Started from rank 0, unless torchrun or srun has started them all."""
    nodes: Count = 1
    """Machines with `devices` devices each; more than one are started by torchrun or srun."""
    strategy: Literal["auto", "ddp", "fsdp2"] = "auto"
    """auto: ddp where there are several ranks; ddp: every rank holds the whole model; fsdp2: weights, gradients and the optimizer's state
    are spread over the ranks (torch's fully_shard), for models that do not fit. Checkpoints are the same files."""
    threads: Count | None = None
    """CPU threads of torch; null: torch's own choice for a single run, an equal share of the cores for the workers of a sweep."""
    log_every_steps: Count = 10
    """Write a row of metrics every so many steps (and at every evaluation)."""
    evaluate_every_steps: Count | None = None
    """Evaluate every so many steps; null: at step 0 and at the end only."""
    evaluation_batch_tokens: Count = 16_384
    """Positions in one forward pass of an evaluation."""
    warn_evaluation_share: Annotated[float, Gt(0), Le(1)] = 0.2
    """Warn when evaluation is going to take more than this share of the run's time (and more than ten seconds)."""
    checkpoint_every_steps: Count | None = None
    """Save a checkpoint every so many steps; null: only when the run is stopped, and final_checkpoint."""
    final_checkpoint: Literal["full", "weights", "none"] = "full"
    """What is kept of a complete run: full can be trained on, weights can be exported, none saves the disk space of a large sweep."""
    keep_checkpoints: Count = 1
    """How many of the latest checkpoints stay on disk."""
    non_finite: Literal["stop", "skip"] = "stop"
    """What happens at a loss or gradients that are NaN or infinite. stop: the run fails, naming the step and its documents; skip: that
    step's update is left out, the optimizer and averages stay as they were, and train/skipped_steps counts it. To skip, the loss of
    every step is waited for, which costs a GPU a little. (16-mixed leaves out updates by itself, while it looks for its scale.)"""
    max_skipped_steps: Count = 10
    """With non_finite=skip: the run fails when more steps in a row would be skipped, or, at its end, more than half of all were."""
    callbacks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Further Lightning callbacks by name: {_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/target/loss, patience: 3}.
    Built are DeviceStatsMonitor, EarlyStopping, LearningRateMonitor, ModelSummary, RichModelSummary and Timer, with plain values as
    arguments. EarlyStopping looks at each row that holds its metric. A run that EarlyStopping or Timer ends is evaluated and saved where it
    ends, and its state is pruned, not complete: it is shorter than planned, its schedule did not come to its end, and no study calls it
    best."""
