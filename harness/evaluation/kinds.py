"""The kinds of evaluation sets: what each logs, what it costs, and how its sets are made. A kind for each mapping of data.* that is marked
`EvaluationSets` in the schema.

Light: what a set needs to be measured is imported when it is built.
"""

from __future__ import annotations

import statistics
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from harness.config.errors import unknown
from harness.config.schema import (
    Config,
    ContrastConfig,
    DataConfig,
    GenerationConfig,
    LmEvalConfig,
    MultipleChoiceConfig,
    PreferenceConfig,
    ValidationConfig,
    evaluation_sections,
)
from harness.runs.cache import default_cache_dir
from harness.runs.report_split import MEAN, REPORT, is_reported, reported

if TYPE_CHECKING:
    from harness.data.tokenization import Tokenization
    from harness.evaluation.evaluation_set import EvaluationSet

FIRST_BUCKET = 64
"""Positions in the first bucket of the loss by position; each further one doubles what the buckets hold together."""


@dataclass(frozen=True)
class Metric:
    """A metric of an evaluation set."""

    name: str
    """As logged, below <prefix>/<set>/. "loss/*" stands for all names that begin with "loss/", "*/acc" for all that end with "/acc"."""
    unit: str
    higher_is_better: bool = False
    since_start: bool = False
    """Whether it is a change since step 0: it says nothing of a run that trains nothing."""
    is_main: bool = False
    """Whether it is what the set is looked at for: in progress bars, and to compare runs by that no study ranks."""

    def matches(self, name: str) -> bool:
        return fnmatchcase(name, self.name)

    def place(self, logged: str) -> str:
        """What one of its logged names is a metric of: the set val/quiz of val/quiz/accuracy, the task lm_eval/own/gsm8k of its metrics."""
        return "/".join(logged.split("/")[: 3 if self.name.startswith("*/") else 2])


class Kind(ABC):
    """What is true of all sets of one mapping of data.*."""

    section: ClassVar[str]
    """Its name: data.<section>.<name> is a set of this kind."""
    title: ClassVar[str]
    metrics: ClassVar[tuple[Metric, ...]]
    """All that a set may log; the first is_main one stands for the set."""

    @cached_property
    def prefix(self) -> str:
        return evaluation_sections()[self.section]

    def configs(self, data: DataConfig) -> dict[str, Any]:
        """The configuration of each set, by name."""
        configs: dict[str, Any] = getattr(data, self.section, {})
        return configs

    def logged(self, name: str, config: Any, data: DataConfig) -> list[str]:
        """The names of the metrics that the set data.<section>.<name> logs, below <prefix>/<name>/."""
        return [metric.name for metric in self.metrics]

    def directions(self, name: str, config: Any, data: DataConfig) -> dict[str, bool]:
        """Whether more is better of those of these metrics of which the set itself says so; by their names alone it is said of all."""
        return {}

    @abstractmethod
    def most_tokens(self, config: Any, data: DataConfig) -> int | None:
        """Upper bound of the tokens that one evaluation reads and writes, before the data were looked at; None where nothing sets one."""

    @abstractmethod
    def build(self, name: str, config: Any, tokens: Tokenization) -> EvaluationSet:
        """The set. Raises InputError for data that cannot be used."""


def _least(*bounds: int | None) -> int | None:
    """The smallest of those that there are."""
    return min((bound for bound in bounds if bound is not None), default=None)


def _most_of_pairs(max_pairs: int | None, data: DataConfig) -> int | None:
    return _least(None if max_pairs is None else max_pairs * 2 * (data.context_length + 1), data.max_evaluation_tokens)


def _of_tasks(unit: str, *names: str, higher_is_better: bool = False, is_main: bool = False) -> Iterator[Metric]:
    """Metrics that many tasks have, by themselves or for each of a task's filters: <task>/<metric>, <task>/<metric>/<filter>."""
    for name in names:
        for pattern in (f"*/{name}", f"*/{name}/*"):
            yield Metric(pattern, unit, higher_is_better=higher_is_better, is_main=is_main)


class DomainLoss(Kind):
    """Losses on text of a domain."""

    section = "validation"
    title = "Validation sets, the same for every packing"
    metrics = (
        Metric("loss", "nats per token", is_main=True),
        Metric("bits_per_byte", "bits per byte"),
        Metric("forgetting", "nats per token", since_start=True),
        Metric("kl", "nats per token"),
        Metric("loss/*", "nats per token"),
    )

    def logged(self, name: str, config: ValidationConfig, data: DataConfig) -> list[str]:
        buckets = position_buckets(data.context_length) if config.loss_by_position else ()
        return ["loss", "bits_per_byte", "forgetting", *(["kl"] if data.kl else []), *(f"loss/{name}" for name, _, _ in buckets)]

    def most_tokens(self, config: ValidationConfig, data: DataConfig) -> int | None:
        most = _least(config.max_tokens, data.max_evaluation_tokens)
        return most if most is None or not data.kl else 2 * most  # the base reads them, too

    def build(self, name: str, config: ValidationConfig, tokens: Tokenization) -> EvaluationSet:
        from harness.evaluation.domain_loss import DomainLossSet, build_domain_loss
        from harness.evaluation.loss_by_position import LossByPositionSet

        return build_domain_loss(name, config, tokens, kind=LossByPositionSet if config.loss_by_position else DomainLossSet)


class MultipleChoice(Kind):
    """Questions with several answers."""

    section = "multiple_choice"
    title = "Multiple-choice sets, the same for every trial"
    metrics = (
        Metric("accuracy", "share", higher_is_better=True, is_main=True),
        Metric("accuracy_per_byte", "share", higher_is_better=True),
        Metric("answer_bits_per_byte", "bits per byte"),
    )

    def most_tokens(self, config: MultipleChoiceConfig, data: DataConfig) -> int | None:
        return data.max_evaluation_tokens

    def build(self, name: str, config: MultipleChoiceConfig, tokens: Tokenization) -> EvaluationSet:
        from harness.evaluation.multiple_choice import build_multiple_choice

        return build_multiple_choice(name, config, tokens)


class GenerationKind(Kind):
    """Texts that the model writes."""

    section = "generation"
    title = "Prompts to write after, the same for every trial"
    metrics = (
        Metric("accuracy", "share", higher_is_better=True, is_main=True),
        Metric("pass_at/*", "share", higher_is_better=True),
        Metric("all_at/*", "share", higher_is_better=True),
        Metric("repetition", "share", is_main=True),
        Metric("stopped", "share", higher_is_better=True),
        Metric("length", "tokens"),
        Metric("zlib_ratio", "bytes per compressed byte"),
        *(Metric(f"distinct_{n}", "share", higher_is_better=True) for n in range(1, 5)),
        Metric("ead", "share", higher_is_better=True),
        Metric("self_bleu", "BLEU-4"),
    )

    def logged(self, name: str, config: GenerationConfig, data: DataConfig) -> list[str]:
        counted = [metric.name for metric in self.metrics if metric.name != "accuracy" and not metric.name.endswith("/*")]
        if config.verifier is None:
            return counted
        return ["accuracy", *(f"{name}/{k}" for k in config.pass_at for name in ("pass_at", "all_at")), *counted]

    def most_tokens(self, config: GenerationConfig, data: DataConfig) -> int | None:
        most = config.draws * config.max_new_tokens + data.context_length - 1
        return _least(None if config.max_prompts is None else config.max_prompts * most, data.max_evaluation_tokens)

    def build(self, name: str, config: GenerationConfig, tokens: Tokenization) -> EvaluationSet:
        from harness.evaluation.generation_set import build_generation_set

        return build_generation_set(name, config, tokens)


class LmEvalKind(Kind):
    """Tasks of lm_eval, whose metrics they define themselves."""

    section = "lm_eval"
    title = "Tasks of lm_eval, the same for every trial"
    metrics = (
        *_of_tasks("share", "acc", "exact_match", "f1", higher_is_better=True, is_main=True),
        *_of_tasks("score", "mcc", "bleu", "chrf", higher_is_better=True, is_main=True),
        *_of_tasks("1 / probability of a word", "word_perplexity", "perplexity", is_main=True),
        *_of_tasks("share", "acc_norm", "acc_bytes", "acc_mutual_info", "acc_all", "likelihood", higher_is_better=True),
        *_of_tasks("1 / probability of a byte", "byte_perplexity"),
        *_of_tasks("bits per byte", "bits_per_byte"),
        *_of_tasks("squared error", "brier_score"),
        *_of_tasks("edits per word", "ter"),
        # What a task makes itself: a score, as a rule.
        Metric("*/*", "of the task", higher_is_better=True),
    )

    def logged(self, name: str, config: LmEvalConfig, data: DataConfig) -> list[str]:
        return list(self._said(name, config, data))

    def directions(self, name: str, config: LmEvalConfig, data: DataConfig) -> dict[str, bool]:
        return {metric: better for metric, better in self._said(name, config, data).items() if better is not None}

    def _said(self, name: str, config: LmEvalConfig, data: DataConfig) -> dict[str, bool | None]:
        """What the tasks say of their metrics: whether more is better, if anything. Raises InputError for tasks that cannot be read."""
        from harness.evaluation.lm_eval.read_tasks import read_tasks
        from harness.evaluation.lm_eval.task_files import GroupFile, TaskFile, groups, leaves

        read = read_tasks(config.tasks, key=f"data.{self.section}.{name}.tasks", cache_dir=default_cache_dir(data.cache_dir))
        named: list[TaskFile | GroupFile] = [*leaves(read), *groups(read)]
        return {f"{one.name}/{metric}": better for one in named for metric, better in one.metrics.items()}

    def most_tokens(self, config: LmEvalConfig, data: DataConfig) -> int | None:
        return data.max_evaluation_tokens

    def build(self, name: str, config: LmEvalConfig, tokens: Tokenization) -> EvaluationSet:
        from harness.evaluation.lm_eval.lm_eval_set import build_lm_eval_set

        return build_lm_eval_set(name, config, tokens)


class Preference(Kind):
    """Pairs of answers, compared with a reference."""

    section = "preference"
    title = "Pairs of answers, the same for every trial"
    metrics = (
        Metric("loss", "nats per pair", is_main=True),
        Metric("accuracy", "share", higher_is_better=True),
        Metric("accuracy_chosen_longer", "share", higher_is_better=True),
        Metric("accuracy_rejected_longer", "share", higher_is_better=True),
        Metric("margin_per_token", "nats per token", higher_is_better=True),
        Metric("chosen_shift", "nats per token", higher_is_better=True),
        Metric("rejected_shift", "nats per token"),
    )

    def most_tokens(self, config: PreferenceConfig, data: DataConfig) -> int | None:
        return _most_of_pairs(config.max_pairs, data)

    def build(self, name: str, config: PreferenceConfig, tokens: Tokenization) -> EvaluationSet:
        from harness.evaluation.preference_set import build_preference_set

        return build_preference_set(name, config, tokens)


class Contrast(Kind):
    """Pairs of continuations that differ in a trait."""

    section = "contrast"
    title = "Contrast pairs, the same for every trial"
    metrics = (
        Metric("margin", "nats per token", higher_is_better=True, is_main=True),
        Metric("share", "share", higher_is_better=True),
    )

    def most_tokens(self, config: ContrastConfig, data: DataConfig) -> int | None:
        return _most_of_pairs(config.max_pairs, data)

    def build(self, name: str, config: ContrastConfig, tokens: Tokenization) -> EvaluationSet:
        from harness.evaluation.contrast_set import build_contrast_set

        return build_contrast_set(name, config, tokens)


RUN_METRICS = ("train/loss", "train/gradient_norm", "tokens_per_second", "lr")
"""What training logs besides."""
KINDS: list[Kind] = [DomainLoss(), MultipleChoice(), GenerationKind(), LmEvalKind(), Preference(), Contrast()]
"""In the order in which they are measured and logged."""


def place_of(section: str, name: str) -> str:
    """What the metrics of a set are logged under: val/docs."""
    return f"{next(kind for kind in KINDS if kind.section == section).prefix}/{name}"


def position_buckets(context_length: int) -> Iterator[tuple[str, int, int]]:
    """(name, start, stop) of the buckets of positions below `context_length`: tokens_0_63, tokens_64_127, tokens_128_255, …"""
    start, stop = 0, FIRST_BUCKET
    while start < context_length:
        yield f"tokens_{start}_{stop - 1}", start, min(stop, context_length)
        start, stop = stop, 2 * stop


def logged_metrics(data: DataConfig) -> list[str]:
    """Every metric that evaluations of this configuration log, by its logged name."""
    logged = [metric for found in _sets(data) for metric in _logged_by(*found, data)]
    mean = f"{KINDS[0].prefix}/{MEAN}/loss"
    return [*logged, *([mean, *([reported(mean)] if data.report_share else [])] if data.mean_loss else [])]


def _logged_by(kind: Kind, name: str, config: Any, data: DataConfig) -> list[str]:
    """The metrics of one set by their logged names, those of the part that is kept for the report after the others."""
    logged = [f"{kind.prefix}/{name}/{metric}" for metric in kind.logged(name, config, data)]
    return [*logged, *(map(reported, logged) if data.report_share else ())]


def mean_losses(values: Mapping[str, float]) -> dict[str, float]:
    """Of the losses of all validation sets, and of their parts that are kept for the report, the mean in which each set counts the same.

    values: metrics by their logged names; the result, too.
    """
    losses: dict[bool, list[float]] = {}
    for logged, value in values.items():
        if logged.startswith(f"{KINDS[0].prefix}/") and logged.endswith("/loss"):
            losses.setdefault(is_reported(logged), []).append(value)
    mean = f"{KINDS[0].prefix}/{MEAN}/loss"
    return {reported(mean) if kept_back else mean: statistics.fmean(found) for kept_back, found in losses.items()}


def _sets(data: DataConfig) -> Iterator[tuple[Kind, str, Any]]:
    """The kind, name and configuration of each set, in order."""
    return ((kind, name, config) for kind in KINDS for name, config in kind.configs(data).items())


def logging_set(data: DataConfig, logged: str) -> tuple[str, Any] | None:
    """The key and the configuration of the set that logs a metric; None where none does."""
    return next(
        ((f"data.{kind.section}.{name}", config) for kind, name, config in _sets(data) if logged in _logged_by(kind, name, config, data)),
        None,
    )


def refuse_unlogged_monitors(config: Config) -> None:
    """Raise InputError for early stopping by a metric that the run does not log, unless it says `strict: false`."""
    metrics = [*logged_metrics(config.data), *RUN_METRICS]
    for key, callback in config.trainer.callbacks.items():
        monitor = callback.get("monitor")
        if monitor is not None and callback.get("strict", True) and monitor not in metrics:
            raise unknown("metric", str(monitor), metrics, where=f"trainer.callbacks.{key}.monitor")


def changes(logged: str) -> bool:
    """Whether a metric is a change since step 0."""
    metric = metric_of(logged)
    return metric is not None and metric.since_start


def shown_name(logged: str, value: float) -> str:
    """How people read it: forgetting below zero is nothing that was lost, but what was learnt: val/docs/change -1.8."""
    return f"{logged.rpartition('/')[0]}/change" if value < 0 and changes(logged) else logged


def metric_of(logged: str) -> Metric | None:
    """The metric behind a logged name, val/docs/loss; None where it is none of an evaluation set."""
    prefix, _, rest = logged.partition("/")
    name = rest.partition("/")[2]
    name = name.removeprefix(f"{REPORT}/") if is_reported(logged) else name
    return next((metric for kind in KINDS if kind.prefix == prefix for metric in kind.metrics if metric.matches(name)), None)


def higher_is_better(logged: str, data: DataConfig | None = None) -> bool:
    """Whether more of a metric is better; of what is no evaluation's, less is. data: what the sets themselves say of it, where they do."""
    metric = metric_of(logged)
    said = None if data is None else _direction(logged, data)
    return said if said is not None else metric is not None and metric.higher_is_better


def _direction(logged: str, data: DataConfig) -> bool | None:
    """What the set that logs a metric says itself of it."""
    for kind, name, config in _sets(data):
        if logged.startswith(prefix := f"{kind.prefix}/{name}/"):
            return kind.directions(name, config, data).get(logged.removeprefix(prefix))
    return None


def main_metrics(logged: Iterable[str]) -> list[str]:
    """Those of the names that stand for their sets, one for each, in the order given."""
    names = list(logged)
    firsts: dict[str, tuple[int, str]] = {}
    for name in names:
        metric = metric_of(name)
        if metric is not None and metric.is_main:
            kind = next(kind for kind in KINDS if metric in kind.metrics)
            place = metric.place(name)
            firsts[place] = min(firsts.get(place, (len(kind.metrics), "")), (kind.metrics.index(metric), name))
    standing = {name for _, name in firsts.values()}
    return [name for name in names if name in standing]


def most_tokens(data: DataConfig) -> int | None:
    """Upper bound of the tokens that one evaluation on all sets reads and writes; None where a set has no bound."""
    bounds = [kind.most_tokens(config, data) for kind, _, config in _sets(data)]
    return None if None in bounds else sum(bound for bound in bounds if bound is not None)
