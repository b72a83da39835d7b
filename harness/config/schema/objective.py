"""What is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Gt, Lt

from harness.config.schema.base import Count, Name, OnlyFor, Positive, Section, Share

ObjectiveName = Literal["cpt", "sft", "distill"]
DivergenceName = Literal["forward_kl", "reverse_kl", "jsd"]
Conversational = OnlyFor(("sft", "distill"), group="objective")
"""Objectives that learn from conversations; the others read every source as plain text."""
Distilled = OnlyFor(("distill",))


@dataclass(kw_only=True)
class ObjectiveConfig(Section):
    """What is learned."""

    name: ObjectiveName = "cpt"
    """cpt: next-token prediction on every token of a document; sft: on the tokens of conversations that data.loss_on names; distill: the
    distribution of a teacher on every token of a document, or on those tokens of conversations."""
    teacher: Annotated[Name | None, Distilled] = None
    """The model to learn from: a local directory or hub name. Its tokenizer must have the vocabulary of the student's."""
    divergence: Annotated[DivergenceName, Distilled] = "forward_kl"
    """How far the student is from the teacher, per token. forward_kl: KL(teacher || student), which covers all that the teacher may say;
    reverse_kl: KL(student || teacher), which keeps to what it is likely to say; jsd: in between, see beta."""
    beta: Annotated[float, Gt(0), Lt(1), Distilled] = 0.5
    """Of jsd: beta KL(teacher || m) + (1 - beta) KL(student || m) with m = beta teacher + (1 - beta) student (arXiv 2306.13649)."""
    temperature: Annotated[Positive, Distilled] = 1.0
    """Divides the logits of both. The divergence is multiplied by its square, so that the size of the gradient does not depend on it and
    the best learning rate stays where it is (arXiv 1503.02531)."""
    alpha: Annotated[Share, Distilled] = 1.0
    """Weight of the divergence: the loss is alpha * divergence + (1 - alpha) * cross-entropy on the data's tokens. 1: the teacher alone;
    0: the data alone."""
    teacher_samples: Annotated[Count | None, Distilled] = None
    """null: the teacher computes every batch beside the student. Otherwise the teacher reads the data once, and so many tokens drawn from
    its distribution at each position are kept in data.cache_dir (2 or 4 bytes each) and trained on: forward_kl without bias (arXiv
    2503.16870; the k most likely tokens would be biased)."""
