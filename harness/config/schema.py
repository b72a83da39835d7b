"""The configuration of one run: every key, its type, its range and its default. Each default lives here and nowhere else.

YAML files under conf/ hold deltas on these classes. The string under a field documents it (docs/config.md is generated from them);
`Annotated` bounds are checked by `harness.config.validate`; what several keys must agree on is checked by `harness.config.checks`.
A field that only some kinds read says so with `only_for`, e.g. the decay fraction of a WSD schedule.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
Count = Annotated[int, Ge(1)]
Name = Annotated[str, MinLen(1)]
ScheduleName = Literal["constant", "linear", "cosine", "wsd", "inverse_sqrt"]
DecayShape = Literal["linear", "cosine", "1-sqrt"]
ObjectiveName = Literal["cpt", "sft"]
DataFormat = Literal["auto", "sharegpt", "alpaca", "messages", "prompt_completion", "text"]


@dataclass(frozen=True)
class OnlyFor:
    """Marks a field that is read only when its group's `name`, or that of another group, is one of these kinds."""

    kinds: tuple[str, ...]
    group: str | None = None
    """The group whose kind decides; None: the field's own."""


class Section:
    """Base of all sections: no unknown keys, no NaN; `2e6` is an integer; numbers may stand for text (a project called 2024)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {
        "extra": "forbid",
        "allow_inf_nan": False,
        "coerce_numbers_to_str": True,
    }


@dataclass(kw_only=True)
class SourceConfig(Section):
    """Documents to train on."""

    path: Name
    """File, directory or glob of .jsonl, .jsonl.gz, .parquet, .txt or .md files; hidden files are left out."""
    field: Name = "text"
    """Where a jsonl or parquet row holds its text; plain text files are one document each."""
    weight: Positive = 1.0
    """Share in tokens among the sources of its kind (replay or not); weights need not add up to 1."""
    replay: bool = False
    """True for text of the model's base domain, drawn by data.replay_share to limit forgetting."""
    format: Annotated[DataFormat, OnlyFor(("sft",), group="objective")] = "auto"
    """What the rows hold. sharegpt: conversations of from and value; alpaca: instruction, input, output or response; messages: OpenAI's,
    with tool_calls and role tool; prompt_completion; text: plain text in `field`, every token of which is trained, e.g. for replay; auto:
    one of the formats of conversations, told from each file's first rows."""


@dataclass(kw_only=True)
class ValidationConfig(Section):
    """A fixed evaluation set, the same for every trial: from files of its own, or held out of a source by document."""

    path: Name | None = None
    """File, directory or glob with the validation documents; or name a source instead."""
    field: Name = "text"
    """Where a row of `path` holds its text."""
    format: Annotated[DataFormat, OnlyFor(("sft",), group="objective")] = "auto"
    """What the rows of `path` hold, see data.sources.<name>.format; of conversations only the tokens that data.loss_on names are scored."""
    source: Name | None = None
    """The source from which `share` of the documents is held out (by hash of their text: no document is on both sides)."""
    share: Annotated[float, Gt(0), Lt(1)] | None = None
    """Share of the source's documents that is held out."""
    max_tokens: Count | None = 65_536
    """Evaluate on at most this many tokens (whole documents, in the order of their hashes); null: on all of them."""


@dataclass(kw_only=True)
class DataConfig(Section):
    """What a run trains and evaluates on, and how documents become rows."""

    sources: dict[str, SourceConfig] = field(default_factory=dict)
    """Training text by name: data.sources.<name>.path=… on the command line."""
    replay_share: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the training tokens that is drawn from the sources marked `replay`."""
    validation: dict[str, ValidationConfig] = field(default_factory=dict)
    """Evaluation sets by domain name; each logs val/<domain>/loss, bits_per_byte (of conversations: per byte of trained text) and
    forgetting."""
    context_length: Annotated[int, Ge(2)] = 512
    """Tokens in a row."""
    packing: Literal["best_fit", "concat", "padded"] = "best_fit"
    """best_fit: whole documents, best-fit decreasing; concat: concatenate and chunk; padded: one document (piece) a row.
    Documents of one row never attend to each other."""
    overflow: Literal["split", "truncate", "drop"] = "split"
    """What happens to a document longer than a row (best_fit and padded; concat always splits)."""
    append_eos: bool = True
    """End every document with the tokenizer's end-of-text token, where it has one. (Turns of conversations end as the template says.)"""
    chat_template: Annotated[Name | None, OnlyFor(("sft",), group="objective")] = None
    """How conversations become text: chatml, llama3, alpaca, hermes_tools (ChatML with tools), tokenizer (its own), or the path of a .jinja
    file; null: the tokenizer's own if it has one, else chatml. What the assistant generates stands inside {% generation %}, its stop token
    included; for templates without such blocks it is found by rendering prefixes. Control tokens typed in a message become plain text."""
    loss_on: Annotated[Literal["all", "assistant", "last_assistant", "flagged", "spans"], OnlyFor(("sft",), group="objective")] = (
        "assistant"
    )
    """Which tokens of a conversation are trained. all; assistant: every turn of the assistant with its reasoning, tool calls and stop
    token, whatever its flag; last_assistant: the last such turn; flagged: those with train (or weight) true or 1 in the data, no others;
    spans: the characters in train_spans, [[start, end], …] of a message's content, and no others."""
    cache_dir: Name | None = None
    """Where tokenized text is kept; null: $HARNESS_CACHE, else ~/.cache/harness."""


@dataclass(kw_only=True)
class TokenizerConfig(Section):
    """The tokenizer."""

    path: Name | None = None
    """A local directory or hub name; null: the model's."""


@dataclass(kw_only=True)
class ModelConfig(Section):
    """A pretrained causal language model (`path`), or a new one of the given family and shape."""

    path: Name | None = None
    """A local directory or hub name of a pretrained model; when given, the shape below is not read."""
    family: Name = "llama"
    """The transformers model type of a model from scratch: llama, qwen3, mistral, olmo2, smollm3, …"""
    hidden_size: Count = 256
    """Width of the residual stream."""
    intermediate_size: Count | None = None
    """Width of the feed-forward layers; null: 8/3 of hidden_size, rounded up to a multiple of 32."""
    layers: Count = 4
    """Transformer blocks."""
    heads: Count = 4
    """Attention heads; must divide hidden_size."""
    kv_heads: Count | None = None
    """Key-value heads; null: as many as heads."""
    max_context: Count = 2048
    """Longest context, in tokens, of a model from scratch."""
    tie_embeddings: bool = True
    """Share the input and output embeddings of a model from scratch."""
    attention_dropout: Annotated[float, Ge(0), Lt(1)] | None = None
    """Dropout in attention; null: as the pretrained model's own configuration says (0 from scratch)."""
    attention: Literal["sdpa", "eager", "flash_attention_2", "flex_attention"] = "sdpa"
    """Attention implementation of transformers."""


@dataclass(kw_only=True)
class ObjectiveConfig(Section):
    """What is learned."""

    name: ObjectiveName = "cpt"
    """cpt: next-token prediction on every token of a document; sft: on the tokens of conversations that data.loss_on names."""


@dataclass(kw_only=True)
class AdapterConfig(Section):
    """Which weights are trained."""

    name: Literal["none"] = "none"
    """none: all weights of the model."""


@dataclass(kw_only=True)
class OptimConfig(Section):
    """The optimizer."""

    name: Literal["adamw"] = "adamw"
    """adamw: torch.optim.AdamW, with weight decay on matrices only (no biases, norms or embeddings)."""
    lr: Positive = 1e-3
    """Peak learning rate."""
    weight_decay: NonNegative = 0.1
    """Decoupled weight decay."""
    betas: tuple[Annotated[float, Ge(0), Lt(1)], Annotated[float, Ge(0), Lt(1)]] = (0.9, 0.95)
    """Adam's averaging coefficients."""
    eps: Positive = 1e-8
    """Adam's denominator offset."""
    gradient_clip_norm: Positive | None = 1.0
    """Clip the global gradient norm to this; null: no clipping."""


@dataclass(kw_only=True)
class ScheduleConfig(Section):
    """The learning rate over the steps of a run, as a multiple of optim.lr."""

    name: ScheduleName = "linear"
    """linear, cosine: decay from the end of the warm-up to the end of the run; wsd: warm up, stay, decay; inverse_sqrt: 1/sqrt(step)."""
    warmup: int | float | str = 0.1
    """Length of the linear warm-up: a fraction of the run (0.1), steps (100), or tokens ("2e6 tokens")."""
    decay_fraction: Annotated[float, Gt(0), Le(1), OnlyFor(("wsd",))] = 0.2
    """The last part of the run, in which the rate decays, as a fraction of the run."""
    decay_shape: Annotated[DecayShape, OnlyFor(("wsd",))] = "1-sqrt"
    """Shape of the decay (1-sqrt: arXiv 2405.18392)."""
    floor: Annotated[Share, OnlyFor(("linear", "cosine", "wsd", "inverse_sqrt"))] = 0.0
    """The rate at the end of the run, as a share of optim.lr."""


@dataclass(kw_only=True)
class TrainerConfig(Section):
    """Length, batch, precision and rhythm of a run."""

    max_tokens: Count | None = None
    """Train on at most this many tokens (padding not counted). Either this or max_steps is required; of both, what ends first counts."""
    max_steps: Count | None = None
    """Train for at most this many optimizer steps."""
    batch_tokens: Count = 16_384
    """Positions in one optimizer step: a multiple of data.context_length."""
    micro_batch_size: Count | None = None
    """Rows in one forward pass; null: the whole batch at once. Smaller ones accumulate to the same gradient."""
    precision: Literal["32-true", "bf16-mixed", "bf16-true", "16-mixed"] = "32-true"
    """Lightning's precision."""
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    """Lightning's accelerator."""
    threads: Count | None = None
    """CPU threads of torch; null: torch's own choice for a single run, an equal share of the cores for the workers of a sweep."""
    log_every_steps: Count = 10
    """Write a row of metrics every so many steps (and at every evaluation)."""
    evaluate_every_steps: Count | None = None
    """Evaluate every so many steps; null: at step 0 and at the end only."""
    evaluation_batch_tokens: Count = 16_384
    """Positions in one forward pass of an evaluation."""
    checkpoint_every_steps: Count | None = None
    """Save a checkpoint every so many steps; null: only when the run is stopped, and final_checkpoint."""
    final_checkpoint: Literal["full", "weights", "none"] = "full"
    """What is kept of a complete run: full can be trained on, weights can be exported, none saves the disk space of a large sweep."""
    keep_checkpoints: Count = 1
    """How many of the latest checkpoints stay on disk."""
    callbacks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Further Lightning callbacks by name: {_target_: lightning.pytorch.callbacks.…, …}."""


@dataclass(kw_only=True)
class TrackingConfig(Section):
    """Where metrics go besides metrics.jsonl."""

    name: Literal["wandb", "none"] = "wandb"
    """wandb: the real client, one W&B run per run, whatever its attempts; none: own files only."""
    mode: Annotated[Literal["offline", "online"] | None, OnlyFor(("wandb",))] = None
    """offline: into the run's wandb/ directory, to be uploaded later; null: $WANDB_MODE, else offline."""
    project: Annotated[Name | None, OnlyFor(("wandb",))] = None
    """W&B project; null: $WANDB_PROJECT, else "harness"."""
    entity: Annotated[Name | None, OnlyFor(("wandb",))] = None
    """W&B entity; null: $WANDB_ENTITY, else the account's default."""
    tags: Annotated[list[str], OnlyFor(("wandb",))] = field(default_factory=list)
    """Tags of the W&B run."""
    system_metrics: Annotated[bool, OnlyFor(("wandb",))] = False
    """Let W&B sample CPU, GPU and memory."""


@dataclass(kw_only=True)
class Config(Section):
    """A run."""

    seed: Annotated[int, Ge(0), Lt(2**32)] = 0
    """Seed of everything random: initial weights, data order, dropout."""
    model: ModelConfig = field(default_factory=ModelConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    data: DataConfig = field(default_factory=DataConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
