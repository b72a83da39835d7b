"""The configuration of a recipe for synthetic data: a file that `harness synth` makes a data set of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from harness.config.schema import Count, Name, NonNegative, Paths, Positive, Section
from harness.config.schema.data import VerifierName

Finish = Literal["stop", "length"]
EngineName = Literal["openai", "vllm", "llama_cpp"]


@dataclass(kw_only=True)
class SeedConfig(Section):
    """Rows to begin with: prompts, documents, personas. A template says {{ NAME.FIELD }} for a field of the row."""

    path: Paths
    """Files of rows, see data.sources.<name>.path; a relative one is looked for in the working directory. Plain texts hold no rows."""
    split: Name | None = None
    """Which split of `path`, see data.sources.<name>.split; null: the only one."""
    subset: Name | None = None
    """Which subset (configuration) of a data set of the hub; null: its only or default one."""


@dataclass(kw_only=True)
class TeacherConfig(Section):
    """A model that writes: a local one, by our own engine, or one behind an OpenAI-compatible endpoint."""

    model: Name
    """A model's directory or hub name, or a run; with `endpoint`, the model's name there."""
    overrides: list[str] = field(default_factory=list)
    """Of a local model's configuration, e.g. [trainer.precision=bf16-true, trainer.evaluation_batch_tokens=65536]."""
    chat: bool | None = None
    """Whether it is asked as a user in a conversation; false: it goes on from the text. null: where its tokenizer has a chat template, and
    at an endpoint."""
    endpoint: Name | None = None
    """http://HOST:PORT/v1, below which chat/completions answers; null: the model is a local one."""
    engine: EngineName = "openai"
    """What serves the endpoint: which settings of the sampling can be said to it, and by which names. openai: temperature, top_p and two
    penalties, which all of them know; vllm; llama_cpp. What cannot be said is refused."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Further fields of each request to an endpoint, e.g. {chat_template_kwargs: {enable_thinking: false}}."""
    key_env: Name | None = None
    """The environment variable that holds the endpoint's key, which is written nowhere; null: it takes none."""
    requests: Count = 8
    """Requests under way at a time, of each worker."""
    timeout_seconds: Positive = 600.0
    """How long an answer may take. One that takes longer is asked for again, and counts as all the tokens that it may have cost."""
    attempts: Count = 6
    """How often a request is sent that the endpoint does not answer (429, 5xx, time-out), with growing pauses; then the command ends, and
    the same command goes on later."""


@dataclass(kw_only=True)
class StepConfig(Section):
    """One step of a recipe: it writes a field (template) or gives a score (verify, judge or nll; exactly one of the four)."""

    template: Name | None = None
    """Write a text: a Jinja template over the fields so far, or the name of a .jinja file beside the recipe. The text becomes the field of
    the step's name. Braces and control tokens in the fields are plain text."""
    verify: VerifierName | None = None
    """Score 1 where the verifier finds `field` right, else 0, see data.generation.<name>.verifier."""
    judge: Name | None = None
    """Score by a teacher's answer to this template, in which `parse` finds a number."""
    nll: Name | None = None
    """Score by this local teacher: nats per token of `field` behind the prompt that it answers; low is likely."""
    teacher: Name | None = None
    """Who writes or judges; null: the only teacher."""
    system: Name | None = None
    """A template for the system message of a teacher that answers in conversations; null: none."""
    draws: Count = 1
    """Texts for each row so far."""
    sampling: dict[str, Any] = field(default_factory=dict)
    """How it is sampled: {name: min_p, temperature: 0.8}: a choice of the group `sampling`, and keys of sampling.*."""
    max_new_tokens: Count = 256
    """Where a text ends at the latest; its `finish` is length then."""
    stop: list[Name] = field(default_factory=list)
    """Strings; a text ends before the first of them."""
    parse: Name | None = None
    """A regular expression whose first group (else the whole match) is the field, or the judge's number; or json: the first balanced JSON
    object or list in the text. Where it finds nothing, or white space alone, the row is dropped. null: the text as it is; of a judge, the
    last number in its answer."""
    retries: Annotated[int, Ge(0)] = 0
    """New draws, at most, for a text in which `parse` finds nothing. Which these are is known beforehand, as of all draws; a text that was
    cut is not drawn again."""
    field: Name | None = None
    """Which field is scored; null: what the last step with a template wrote."""
    reference: Name | None = None
    """Of verify: the field with what is right, e.g. problems.answer; null where the verifier needs none."""
    pattern: Name | None = None
    """Of verify=regex: the pattern, the same for all rows."""
    schema_path: Name | None = None
    """Of verify=json_schema: a file with the schema, the same for all rows. Of a template that an endpoint answers: a file with the JSON
    schema that the server is to keep to (response_format)."""


@dataclass(kw_only=True)
class BoundsConfig(Section):
    """Values that are kept; without bounds all are, and nothing is measured."""

    min: float | None = None
    """Smaller ones are dropped."""
    max: float | None = None
    """Larger ones are dropped."""


@dataclass(kw_only=True)
class FiltersConfig(Section):
    """Which rows are kept, by what was written. Every row that is dropped stays in rejected.jsonl, with the rule and the value."""

    finish: list[Finish] = field(default_factory=lambda: ["stop"])
    """How texts may have ended, at every step. A text that was cut is dropped, not repaired; of a model that goes on without end, e.g. one
    that writes text to pretrain on, [stop, length]."""
    characters: BoundsConfig = field(default_factory=BoundsConfig)
    """Length in characters."""
    words: BoundsConfig = field(default_factory=BoundsConfig)
    """Length in words (white space between them)."""
    tokens: BoundsConfig = field(default_factory=BoundsConfig)
    """Length in tokens that the teacher wrote for it."""
    repetition: BoundsConfig = field(default_factory=BoundsConfig)
    """Share of the 4-grams of words that stood there before."""
    repeated_lines: BoundsConfig = field(default_factory=BoundsConfig)
    """Share of the lines that stood there before (Gopher, arXiv 2112.11446: at most 0.3)."""
    word_length: BoundsConfig = field(default_factory=BoundsConfig)
    """Mean characters of a word (Gopher: 3 to 10)."""
    letters: BoundsConfig = field(default_factory=BoundsConfig)
    """Share of letters among the characters that are no white space."""
    words_with_letters: BoundsConfig = field(default_factory=BoundsConfig)
    """Share of words with at least one letter (Gopher: at least 0.8)."""
    symbols: BoundsConfig = field(default_factory=BoundsConfig)
    """Signs # and ellipses for each word (Gopher: at most 0.1)."""
    ended_lines: BoundsConfig = field(default_factory=BoundsConfig)
    """Share of lines that end in a mark of punctuation (C4, arXiv 1910.10683, keeps no others)."""
    bullet_lines: BoundsConfig = field(default_factory=BoundsConfig)
    """Share of lines that begin with a bullet (Gopher: at most 0.9)."""
    ellipsis_lines: BoundsConfig = field(default_factory=BoundsConfig)
    """Share of lines that end in an ellipsis (Gopher: at most 0.3)."""
    scores: dict[str, BoundsConfig] = field(default_factory=dict)
    """Bounds on scores, by the name of their step."""
    matches: list[Name] = field(default_factory=list)
    """Regular expressions, each of which has to be found."""
    forbidden: list[Name] = field(default_factory=list)
    """Regular expressions, none of which may be found."""
    schema_path: Name | None = None
    """A file with a JSON schema that the text, as JSON, has to meet."""
    field: Name | None = None
    """Which field is looked at; null: what the last step with a template wrote."""


@dataclass(kw_only=True)
class DedupConfig(Section):
    """Rows that say nearly the same: the first one stays."""

    jaccard: Annotated[float, Gt(0), Le(1)] | None = None
    """Rows whose sets of word n-grams are at least so similar are duplicates; null: none are looked for."""
    ngram: Count = 5
    """Words of an n-gram."""
    field: Name | None = None
    """Which field is compared; null: what the last step with a template wrote."""


@dataclass(kw_only=True)
class DecontaminateConfig(Section):
    """Rows that hold what a model is evaluated on are dropped."""

    against: list[Name] = field(default_factory=list)
    """Evaluation files, see data.sources.<name>.path; all texts of their rows count. []: none."""
    ngram: Count = 13
    """A row that shares so many words in a row with them, in its prompt or in what was written, is dropped."""


@dataclass(kw_only=True)
class SelectConfig(Section):
    """Which of the rows that answer the same prompt become data."""

    name: Literal["all", "best_of", "pairs"] = "all"
    """all; best_of: the one with the best score; pairs: better and worse ones, for emit.format=preference."""
    by: Name | None = None
    """The step whose score decides."""
    lowest: bool = False
    """Whether a low score is the better one, as of nll."""
    min_gap: NonNegative = 0.0
    """Of pairs: how far their scores lie apart at least; those that are equal are no pair."""
    per_prompt: Count = 1
    """Of best_of: how many rows; of pairs: how many pairs, at most."""


@dataclass(kw_only=True)
class EmitConfig(Section):
    """What the rows of the data set look like."""

    format: Literal["messages", "preference", "unpaired", "text"] = "messages"
    """messages: a conversation of one turn each; preference: prompt, chosen and rejected; unpaired: prompt, completion and label; text."""
    prompt: Name | None = None
    """Which field the user says; null: the template of the last step with one, filled in."""
    answer: Name | None = None
    """Which field the assistant says, or the text; null: what the last step with a template wrote."""
    continues: bool = False
    """Of text: whether the prompt stands before what was written, as one text: of a teacher that goes on from it."""
    system: Name | None = None
    """Which field is the system message; null: there is none."""
    label: Name | None = None
    """Of unpaired: the step whose score says whether a row is good."""
    label_above: float = 0.5
    """From which score on it is."""
    licence: Name | None = None
    """What the data card says of the licence; null: that it is not told."""


@dataclass(kw_only=True)
class SynthBudgetConfig(Section):
    """What making the data may cost; a hard limit over all workers and attempts."""

    tokens: Count | None = None
    """Tokens of teachers: prompts that they read and texts that they write, judges among them. Reserved before rows are begun, as many as
    they can take at most, and settled when they have ended; where there is no room, none begin. null: no limit."""
    held_back: Annotated[float, Ge(0), Lt(1)] = 0.05
    """Share of `tokens` that no text is begun with: what killed workers lost comes out of it, so that the rows for which there is room stay
    the same."""


@dataclass(kw_only=True)
class SynthConfig(Section):
    """A recipe: seeds, what teachers make of them in steps, and which of that becomes data."""

    seed: Annotated[int, Ge(0), Lt(2**32)] = 0
    """Of the noise of every text, and of the choice of `rows`."""
    seeds: dict[str, SeedConfig]
    """By name; of several, each row of one is combined with each of the others."""
    rows: Count | None = None
    """So many of the combinations, drawn by the seed; null: all."""
    teachers: dict[str, TeacherConfig]
    """By name."""
    steps: dict[str, StepConfig]
    """By name, in this order."""
    filters: FiltersConfig = field(default_factory=FiltersConfig)
    dedup: DedupConfig = field(default_factory=DedupConfig)
    decontaminate: DecontaminateConfig = field(default_factory=DecontaminateConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    emit: EmitConfig = field(default_factory=EmitConfig)
    budget: SynthBudgetConfig = field(default_factory=SynthBudgetConfig)
    shard_rows: Count = 256
    """Rows that a worker takes at a time, and that are decoded as one plan."""
    workers: Count = 1
    """Processes that make them."""
