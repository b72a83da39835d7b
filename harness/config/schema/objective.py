"""What is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Lt

from harness.config.schema.base import Count, Name, NonNegative, OnlyFor, Positive, Section, Share

ObjectiveName = Literal["cpt", "sft", "distill", "preference"]
DivergenceName = Literal["forward_kl", "reverse_kl", "jsd"]
PairLossName = Literal["dpo", "robust", "dpo_norm", "ipo", "simpo", "orpo", "apo_zero", "apo_down", "dpop"]
"""Losses of two answers to one prompt."""
PreferenceName = Literal[PairLossName, "kto"]
Conversational = OnlyFor(("sft", "distill", "preference"), group="objective")
"""Objectives that learn from conversations; the others read every source as plain text."""
Distilled = OnlyFor(("distill",))
Preferred = OnlyFor(("preference",), group="objective")

JSD_BETA = 0.5
PREFERENCE_BETA: dict[PreferenceName, float] = {"dpo_norm": 5.0, "simpo": 2.0}
"""objective.beta where it is null, of kinds that take another than OTHER_BETA."""
OTHER_BETA = 0.1
PREFERENCE_GAMMA: dict[PreferenceName, float] = {"simpo": 1.0, "dpop": 50.0}
"""objective.gamma where it is null; the other kinds have none."""
WITHOUT_REFERENCE: tuple[PreferenceName, ...] = ("simpo", "orpo")
SMOOTHED: tuple[PreferenceName, ...] = ("dpo", "robust")


@dataclass(kw_only=True)
class ObjectiveConfig(Section):
    """What is learned."""

    name: ObjectiveName = "cpt"
    """cpt: next-token prediction on every token of a document; sft: on the tokens of conversations that data.loss_on names; distill: the
    distribution of a teacher on every token of a document, or on those tokens of conversations; preference: to find one answer more likely
    than another, from pairs of them."""
    teacher: Annotated[Name | None, Distilled] = None
    """The model to learn from: a local directory or hub name. Its tokenizer must have the vocabulary of the student's."""
    divergence: Annotated[DivergenceName, Distilled] = "forward_kl"
    """How far the student is from the teacher, per token. forward_kl: KL(teacher || student), which covers all that the teacher may say;
    reverse_kl: KL(student || teacher), which keeps to what it is likely to say; jsd: in between, see beta."""
    beta: Annotated[Positive | None, OnlyFor(("distill", "preference"))] = None
    """Of divergence=jsd: beta KL(teacher || m) + (1 - beta) KL(student || m) with m = beta teacher + (1 - beta) student (arXiv 2306.13649),
    below 1; null: 0.5. Of preferences: how much a nat weighs by which an answer has become more likely than under the reference (simpo: is
    more likely, per token), so that a larger one keeps the model closer to it; of orpo the weight of its odds. null: 0.1, of dpo_norm 5, of
    simpo 2."""
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
    kind: Annotated[PreferenceName, Preferred] = "dpo"
    """The loss of a pair, by the log-probabilities of its answers. dpo: the logistic loss of how much more the chosen answer has gained
    over the reference than the rejected one; robust: the same without the bias of labels that are wrong as often as label_smoothing says;
    dpo_norm: by gains per token; ipo: the squared distance of the gain per token from 1 / (2 beta); simpo: per token, without a reference;
    orpo: odds beside the chosen answer's cross-entropy, without a reference; apo_zero: raises chosen and lowers rejected answers; apo_down:
    lowers both, the rejected more; dpop: dpo with a penalty where a chosen answer becomes less likely. kto: the loss of one answer by
    itself, which a label calls good or bad; it learns from prompt, completion and label, and from the answers of pairs."""
    gamma: Annotated[NonNegative | None, Preferred] = None
    """Of simpo: the margin by which the chosen answer has to be ahead, after beta; null: 1. Of dpop: the weight of its penalty; null: 50.
    The other kinds have none."""
    label_smoothing: Annotated[float, Ge(0), Lt(0.5), Preferred] = 0.0
    """Of dpo (then called cDPO) and robust: how often the rejected answer is taken to be the better one."""
    nll_weight: Annotated[NonNegative | None, Preferred] = None
    """Weight of the cross-entropy of the chosen answer (of kto: of each good one), in nats per token, that is added to its loss: it keeps
    such answers likely. null: 1 of orpo, 0 of the others."""
    desirable_weight: Annotated[Positive, Preferred] = 1.0
    """Of kto: the weight of answers with label true. Where there are more of one label, the other one's may be larger."""
    undesirable_weight: Annotated[Positive, Preferred] = 1.0
    """Of kto: the weight of answers with label false."""
    reference: Annotated[Name | None, Preferred] = None
    """The model that gains are measured against: a local directory or hub name, with the vocabulary of the model that is trained. null: the
    model that training starts from. It reads every pair once, in the precision and the rows of training; the sums are kept in
    data.cache_dir (16 bytes a pair, of kto an answer) and shared by all runs with the same data and model. simpo and orpo have none."""
    precompute_reference: Annotated[bool, Preferred] = True
    """false: nothing is read beforehand or kept; in each step the model reads its micro-batches once more with its adapter off, which costs
    a forward pass (of kto a second one, for the mismatched answers). For one run over so many pairs that their reference is not worth
    keeping. Only where the model with its adapter off is what training started from: lora (plain, rslora, dora) and steering."""


def beta_of(objective: ObjectiveConfig) -> float:
    """objective.beta, or what it is where it is null."""
    if objective.beta is not None:
        return objective.beta
    return PREFERENCE_BETA.get(objective.kind, OTHER_BETA) if objective.name == "preference" else JSD_BETA


def gamma_of(objective: ObjectiveConfig) -> float:
    """objective.gamma, or what it is where it is null."""
    return PREFERENCE_GAMMA.get(objective.kind, 0.0) if objective.gamma is None else objective.gamma


def nll_weight_of(objective: ObjectiveConfig) -> float:
    """objective.nll_weight, or what it is where it is null."""
    if objective.nll_weight is not None:
        return objective.nll_weight
    return 1.0 if objective.kind == "orpo" else 0.0


def needs_reference(objective: ObjectiveConfig) -> bool:
    """Whether the loss of a pair compares with a reference."""
    return objective.name == "preference" and objective.kind not in WITHOUT_REFERENCE
