"""Which weights are trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Lt

from harness.config.schema.base import Count, Name, OnlyFor, Positive, Section

SteeringMethod = Literal["mean_difference", "pca", "random"]
SteeringReading = Literal["last", "answer"]
SteeringOperation = Literal["add", "ablate"]
SteeringControl = Literal["nothing", "prompt", "random"]
SteeringPositions = Literal["all", "not_first", "answer", "prompt"]
Steering = OnlyFor(("steering",))


@dataclass(kw_only=True)
class AdapterConfig(Section):
    """Which weights are trained: all of the model's, or a few added ones over a frozen model."""

    name: Literal["none", "lora", "soft_prompt", "steering"] = "none"
    """none: all weights of the model. lora: low-rank updates of its matrices (arXiv 2106.09685), through peft; their best learning rate is
    commonly about 10 times that of full training. soft_prompt: `tokens` embeddings before every document, nothing else (arXiv
    2104.08691). steering: a direction is added behind chosen blocks, or taken out (arXiv 2312.06681, 2406.11717); with trainer.max_steps=0
    it is evaluated as it was found, with steps it is trained."""
    variant: Annotated[Literal["plain", "rslora", "dora", "pissa"], OnlyFor(("lora",))] = "plain"
    """plain: the update is alpha / rank · B·A. rslora: scaled by alpha / sqrt(rank) (arXiv 2312.03732), so that what an alpha means depends
    on the rank. dora: direction and magnitude apart (arXiv 2402.09353). pissa: B·A begins as the principal components of each matrix,
    which are taken out of it (arXiv 2404.02948; by a randomised SVD of 16 iterations)."""
    rank: Annotated[Count, OnlyFor(("lora",))] = 16
    """Rank of the updates. Weight decay (optim.weight_decay) is on A and B: it pulls the update, not the model, towards zero."""
    alpha: Annotated[Positive, OnlyFor(("lora",))] = 32.0
    """Scale of the updates, see variant."""
    dropout: Annotated[float, Ge(0), Lt(1), OnlyFor(("lora",))] = 0.0
    """Dropout before A."""
    target_modules: Annotated[list[Name] | None, OnlyFor(("lora",))] = None
    """Names of the layers that are updated, such as [q_proj, v_proj]; null: all linear layers but the output layer."""
    train_tokens: Annotated[list[Name], OnlyFor(("lora",))] = field(default_factory=list)
    """Tokens whose embeddings are trained besides those of tokenizer.new_tokens (and their rows of the output layer): control tokens that a
    model has, but was never trained on."""
    tokens: Annotated[int, Ge(0), OnlyFor(("lora", "soft_prompt"))] = 0
    """Length of the soft prompt: trained embeddings that every document begins with, or, where it is split, every piece of it. They take
    room in the rows (and in the model's context: data.context_length + tokens must fit into it, since evaluation puts them before whole
    windows), but are never predicted, nor counted as tokens; a document's first own token is not predicted either, so that losses are of
    the same tokens as without. With lora they are trained beside it."""
    init_text: Annotated[Name | None, OnlyFor(("lora", "soft_prompt"))] = None
    """The soft prompt begins as this text's embeddings, repeated or cut to its length; null: as those of random tokens."""
    pairs: Annotated[Name | None, Steering] = None
    """Contrast pairs that the direction is found from: a jsonl file of rows {prompt, positive, negative}, two continuations of each prompt
    that differ in what is steered. All blocks, methods and readings are extracted in one pass, and kept in data.cache_dir."""
    vector: Annotated[Name | None, Steering] = None
    """In place of pairs: the directory that `harness steer` wrote."""
    method: Annotated[SteeringMethod | None, Steering] = None
    """How the direction of a block follows from the pairs. mean_difference: the mean of positive minus negative (arXiv 2312.06681). pca:
    the first principal component of these differences, not centred, in the direction of their mean (arXiv 2310.01405). random: a random
    direction instead, for a control of the same length (`draw`). null: mean_difference, or the vector file's own."""
    reading: Annotated[SteeringReading | None, Steering] = None
    """Which hidden states of a pair are compared. last: at the last token; answer: the mean over the continuation's tokens. null: last, or
    the vector file's own."""
    draw: Annotated[int, Ge(0), Steering] = 0
    """Of method=random and control=random: which of the random directions. They depend on it and on the block alone, not on the seed. Of
    others: 0, the pairs as they are; above, as many of them drawn anew, with replacement (a bootstrap): how much the direction owes to
    these very pairs. `harness confirm` gives each seed a draw of its own."""
    control: Annotated[SteeringControl | None, Steering] = None
    """In place of steering, what it has to beat (arXiv 2501.17148). nothing: the model as it is. prompt: the model as it is, after the
    instruction of each set of data.contrast and data.generation. random: as method=random, with the same block and coefficient. null:
    steering itself. A study that searches it with search.warm_start=baselines tries each of them, random directions in the place of its
    best trial."""
    operation: Annotated[SteeringOperation | None, Steering] = None
    """add: coefficient times the direction is added behind `block`. ablate: what is written into the residual stream, from the embedding
    on, loses its part in the direction that was read at `block` (arXiv 2406.11717). null: add, or the vector file's own."""
    block: Annotated[int | None, Ge(0), Steering] = None
    """Behind which block, counted from 0. null: the vector file's own, else the middle one."""
    width: Annotated[int, Ge(0), Steering] = 0
    """Of add: blocks on either side of `block` that take part, each with its own direction: the coefficient is shared out among them, less
    with every block of distance (a triangle)."""
    coefficient: Annotated[float | None, Steering] = None
    """How much. add: in units of the mean norm of the block's output, so that it means the same in every block; usual are 0.03 to 0.5;
    below 0 it steers away. ablate: the share that is taken out, 1 is all. 0 changes nothing. null: 0.2 of add and 1 of ablate, or the
    vector file's own. Without `block` and `width`, the blocks of a vector file share it as they share their own."""
    sign: Annotated[Literal[1, -1], Steering] = 1
    """Of add: times the coefficient. -1 steers away from the positive continuations, also along a vector file, and in a search whose
    coefficients are on a log scale."""
    positions: Annotated[SteeringPositions | None, Steering] = None
    """Of add: at which tokens. all; not_first: at all but the first of each document, whose state is often an outlier. answer: at those
    that are written, and where a text is read at those that are predicted: continuations, answers, what data.loss_on names; of plain text
    all but the first. prompt: at all others, so that plain text says little of what it costs. null: all, or the vector file's own."""


def left_when_off(adapter: AdapterConfig) -> str | None:
    """The key and value by which the model with its adapter off is not the model that it was put on; None: it is that model."""
    if adapter.name == "none":
        return "adapter.name=none"
    if adapter.variant == "pissa":
        return "adapter.variant=pissa"
    if adapter.tokens:
        return f"adapter.tokens={adapter.tokens}"
    return f"adapter.train_tokens={adapter.train_tokens}" if adapter.train_tokens else None
