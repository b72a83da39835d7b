"""A greedy soup: models are added to a mean one by one, the best first, and stay where it does not get worse (Wortsman et al. 2022, arXiv
2203.05482, section 2)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.config.checks import check
from harness.config.errors import InputError, unknown, wrong_value
from harness.config.overrides import ValueOverride, parse
from harness.config.schema import AdapterConfig, Config, DataConfig, IngredientConfig, MergeConfig, ModelConfig, evaluation_sections
from harness.evaluation.kinds import higher_is_better, logged_metrics, main_metrics
from harness.models.several import one_by_one
from harness.report.text import metric_text
from harness.runs.directory import RunDirectory, find_study, run_called, runs_root
from harness.runs.on_report import OnReport, Rival, paired_lead, report_lines
from harness.runs.record import RunRecord, load_study
from harness.runs.report_split import is_reported, refuse_reported, reported
from harness.search.sweep import thaw
from harness.work.evaluate import evaluation_of
from harness.work.kept_run import kept_run
from harness.work.merge import OWN_KEYS, as_overrides, merge_config_of

if TYPE_CHECKING:
    from harness.merging.plan import Plan

REPORT_SHARE = 0.5
"""Of the documents, kept for the report where nothing is said of it."""
MEAN_LOSS = "val/mean/loss"


@dataclass(frozen=True)
class Tried:
    """A model that was added to the mean, or not."""

    name: str
    alone: float
    """Its value of the metric, on the documents that choose."""
    mean: float
    """That of the mean with it."""
    kept: bool


@dataclass(frozen=True)
class Soup:
    """What came of it."""

    merge: MergeConfig
    """linear, of those that were kept, the best first."""
    metric: str
    tried: tuple[Tried, ...]
    """All models, the best first."""
    report: OnReport | None
    """The soup on the documents that did not choose it, and its lead over the best model and the mean of all; None where there are none."""
    seen_by: tuple[str, ...] = ()
    """Studies that chose the models on these documents, too, since they kept fewer for the report."""
    share: float = 0.0
    """data.report_share."""

    @property
    def lines(self) -> list[str]:
        """A sentence a line."""
        kept = sum(one.kept for one in self.tried)
        first = f"a greedy soup by {self.metric}: {kept} of {len(self.tried)} models, which were added while their mean did not get worse"
        each = [
            f"{one.name}: {'kept' if one.kept else 'left out'}; {metric_text(one.alone)} alone, {metric_text(one.mean)} the mean with it"
            for one in self.tried
        ]
        return [first, *each, *self._on_report]

    @property
    def _on_report(self) -> list[str]:
        if self.report is None:
            return []
        if not self.seen_by:
            return report_lines(self.report, metric_text)
        lines = report_lines(self.report, metric_text, what="documents that did not choose between the means")
        chose = f"{', '.join(self.seen_by)} chose the models on these documents, too, so that all values on them are flattered"
        return [*lines, f"{chose}; a study with data.report_share={self.share:g} keeps them"]

    def to_json(self) -> dict[str, Any]:
        """What `harness merge --json` prints under `greedy`."""
        tried = [{"name": one.name, "alone": one.alone, "mean": one.mean, "kept": one.kept} for one in self.tried]
        report = None if self.report is None else self.report.to_json()
        return {"metric": self.metric, "tried": tried, "report": report, "seen_by": list(self.seen_by)}


def greedy_soup(words: list[str], out: Path, *, metric: str | None = None) -> Soup:
    """The soup of the models that the words of `harness merge` name, measured as its other words say, or as the first model that is a run.

    Each evaluation is a run under the runs root, named by `out`; those that are complete are not made again. metric: a logged one that
    chooses; None: the objective of the study whose trials are merged, else the loss, over several validation sets their mean. Half of the
    documents are kept for the report, unless data.report_share says otherwise.
    Raises InputError for what cannot be merged or evaluated, UnfinishedError where an evaluation did not come to its end.
    """
    asked = _asked(words, metric)
    config, models, metric, sign = asked.config, asked.models, asked.metric, asked.sign
    means = _Means(config, asked.given, models, metric, f"{out.name}-greedy")
    alone = {name: means.record([name], f"alone-{name}") for name in models}
    order = sorted(models, key=lambda name: sign * means.value(alone[name]))
    kept, best = [order[0]], alone[order[0]]
    tried = [Tried(order[0], means.value(best), means.value(best), True)]
    for name in order[1:]:
        record = means.record([*kept, name], f"with-{name}")
        better = sign * means.value(record) <= sign * means.value(best)
        tried.append(Tried(name, means.value(alone[name]), means.value(record), better))
        if better:
            kept, best = [*kept, name], record
    report = None
    if config.data.report_share:
        everything = best if len(kept) == len(models) else means.record(order, "all")
        report = _report(best, {"ingredient": (order[0], alone[order[0]]), "mean": ("", everything)}, metric, sign)
    seen_by = () if report is None else tuple(_seen_by(asked.given, config.data))
    return Soup(means.merge(kept), metric, tuple(tried), report, seen_by, config.data.report_share)


def plan_of_all(words: list[str], *, metric: str | None = None) -> Plan:
    """The plan of the mean of all models, from their headers alone. Raises InputError for what cannot be merged or evaluated."""
    from harness.models.merged import merge_plan

    asked = _asked(words, metric)
    return merge_plan(replace(asked.given, ingredients=dict(asked.models)), seed=asked.config.seed)


@dataclass(frozen=True)
class _Asked:
    """What the words of a greedy soup ask for."""

    given: MergeConfig
    models: Mapping[str, IngredientConfig]
    config: Config
    """How each mean is measured."""
    metric: str
    sign: int
    """-1 where more of the metric is better."""


def _asked(words: list[str], metric: str | None) -> _Asked:
    of_merge, of_evaluation = _parted(words)
    given = merge_config_of(of_merge)
    models = _models(given.model.merge)
    metric, direction = (metric, None) if metric is not None else _objective(given.model.merge)
    config = _evaluation(given, models, of_evaluation, metric)
    metric = metric or _usual_metric(config)
    if metric is not None:
        refuse_reported("--metric", metric)
    logged = [name for name in logged_metrics(config.data) if not is_reported(name)]
    if metric is None or metric not in logged:
        raise unknown("metric", str(metric), logged, where="--metric")
    sign = -1 if direction == "maximize" or (direction is None and higher_is_better(metric, config.data)) else 1
    return _Asked(given.model.merge, models, config, metric, sign)


def _parted(words: list[str]) -> tuple[list[str], list[str]]:
    """Overrides of the merge, and those of how it is measured."""
    overrides = as_overrides(words)
    parsed = zip(overrides, parse(overrides, Config), strict=True)
    of_merge = [text for text, one in parsed if isinstance(one, ValueOverride) and one.key.startswith(OWN_KEYS)]
    return of_merge, [text for text in overrides if text not in of_merge]


def _models(merge: MergeConfig) -> Mapping[str, IngredientConfig]:
    """Each model by a name of its own."""
    if merge.method != "linear":
        raise InputError(f"--greedy: not with --method {merge.method}; valid: linear, since a soup is a mean")
    weighted = [name for name, one in merge.ingredients.items() if one.weight != 1.0 or one.weights]
    if weighted:
        raise InputError(f"--greedy: {weighted[0]} has a weight; valid: none, since all that is kept counts the same")
    models = {name: replace(one, weight=1.0) for name, one in one_by_one(merge).ingredients.items()}
    if len(models) < 2:
        raise InputError("--greedy: there is one model; valid: several, or --top K of study:NAME")
    return models


def _objective(merge: MergeConfig) -> tuple[str | None, str | None]:
    """Metric and direction of the study whose trials are merged, where there is one; else None."""
    names = [one.path.removeprefix("study:") for one in merge.ingredients.values() if one.path.startswith("study:")]
    if not names:
        return None, None
    objective = load_study(find_study(names[0])).objective
    return objective.metric, objective.direction


def _seen_by(merge: MergeConfig, data: DataConfig) -> Iterator[str]:
    """The studies whose best are merged that measured these documents with fewer of them kept for the report."""
    for one in merge.ingredients.values():
        prefix, _, name = one.path.partition(":")
        if prefix in ("study", "confirm"):
            theirs = thaw(find_study(name).sweep, goes_on=False).base.config.data
            if theirs.report_share < data.report_share and _sets(theirs) & _sets(data):
                yield name


def _sets(data: DataConfig) -> set[str]:
    """What tells the documents of evaluation sets apart, of each."""
    sets = [(section, given) for section in evaluation_sections() for given in getattr(data, section).values()]
    found = ((section, getattr(given, "path", None), getattr(given, "source", None), given) for section, given in sets)
    return {
        repr((section, path, data.sources[source].path if source else None, getattr(given, "block", 0)))
        for section, path, source, given in found
    }


def _usual_metric(config: Config) -> str | None:
    return MEAN_LOSS if config.data.mean_loss else next(iter(main_metrics(logged_metrics(config.data))), None)


def _evaluation(given: Config, models: Mapping[str, IngredientConfig], overrides: list[str], metric: str | None) -> Config:
    """How each mean is measured; its model is to be put in."""
    words = [one.path.rpartition("@")[0] if one.path.rpartition("@")[2].isdigit() else one.path for one in models.values()]
    first = next((word for word in words if run_called(word) is not None), words[0])
    config = evaluation_of(first, overrides, checked_by=lambda config: None).config
    data = config.data
    if not (data.report_share or data.lm_eval or any(text.startswith("data.report_share=") for text in overrides)):
        data = replace(data, report_share=REPORT_SHARE)
    if metric == MEAN_LOSS or (metric is None and len(data.validation) > 1):
        data = replace(data, mean_loss=True)
    model = replace(ModelConfig(merge=given.model.merge), attention=config.model.attention)
    config = replace(config, data=data, model=model, adapter=AdapterConfig(), seed=given.seed)
    check(config)
    return config


@dataclass(frozen=True)
class _Means:
    """Means of some of the models, each evaluated by a run."""

    config: Config
    given: MergeConfig
    models: Mapping[str, IngredientConfig]
    metric: str
    label: str

    def merge(self, names: list[str]) -> MergeConfig:
        return replace(self.given, ingredients={name: self.models[name] for name in names})

    def value(self, record: RunRecord) -> float:
        if self.metric not in record.result.metrics:
            raise wrong_value("--metric", self.metric, f"{record.directory.path} ended without it; valid: one that it has")
        return record.result.metrics[self.metric]

    def record(self, names: list[str], called: str) -> RunRecord:
        """The run that evaluates the mean of these models: the one that is there, or a new one."""
        run = RunDirectory(runs_root() / re.sub(r"[^\w.-]+", "-", f"{self.label}-{called}"))
        config = replace(self.config, model=replace(self.config.model, merge=self.merge(names)))
        return kept_run(config, run)


def _report(soup: RunRecord, rivals: Mapping[str, tuple[str, RunRecord]], metric: str, sign: int) -> OnReport:
    """rivals: by their kind, what each is and its run."""
    on = reported(metric)
    found = tuple(
        Rival(kind, label, run, run.result.metrics[on], paired_lead(soup.directory, run.directory, on, sign=sign))
        for kind, (label, run) in rivals.items()
        if run is not soup
    )
    baseline = next(((kind, label) for kind, (label, run) in rivals.items() if run is soup), None)
    return OnReport(on, soup, soup.result.metrics[on], soup.result.metrics[metric], baseline, found)
