"""Tasks of lm_eval as their files say: plain values, in which code that they would run stands as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

USUAL_METRICS = {
    "loglikelihood": ("perplexity", "acc"),
    "loglikelihood_rolling": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
    "multiple_choice": ("acc", "acc_norm"),
    "generate_until": ("exact_match",),
}
"""Of a task without a metric_list, by its output_type."""


@dataclass(frozen=True)
class Code:
    """`!function module.name` of a task file."""

    name: str
    file: Path
    """The task file in which it stands."""

    @property
    def module_path(self) -> Path:
        """Where the module is, if it lies beside the file; there it is looked for first."""
        return self.file.parent / f"{self.name.rpartition('.')[0].replace('.', '/')}.py"


@dataclass(frozen=True)
class TaskFile:
    """A task."""

    name: str
    path: Path
    values: Mapping[str, Any]
    """Its keys, with those of the files that it includes, and of groups that change it; `Code` in place of functions."""
    others: tuple[Path, ...] = ()
    """The files that it includes, and those of groups that change it."""

    @property
    def metrics(self) -> dict[str, bool | None]:
        """What it logs, as <metric> or <metric>/<filter>, and whether more of it is better; None: as is usual of this metric."""
        listed: list[tuple[str, bool | None]] = []
        given = self.values.get("metric_list")
        if isinstance(given, list):
            for one in filter(_is_mapping, given):
                metric, better = one.get("metric"), one.get("higher_is_better")
                name = metric.name.rpartition(".")[2] if isinstance(metric, Code) else metric
                listed.append((str(name), better if isinstance(better, bool) else None))
        elif "class" not in self.values:
            listed = [(name, None) for name in USUAL_METRICS.get(str(self.values.get("output_type", "generate_until")), ())]
        filters = self.values.get("filter_list")
        names = [one.get("name") for one in filter(_is_mapping, filters)] if isinstance(filters, list) else ["none"]
        return {logged_name(metric, str(name)): better for metric, better in listed for name in names}


@dataclass(frozen=True)
class Average:
    """A metric of a group: the mean over its tasks."""

    metric: str
    filters: tuple[str, ...] | None
    """None: all that its tasks have."""
    by_size: bool
    """Whether a task counts as much as it has documents."""


@dataclass(frozen=True)
class GroupFile:
    """Several tasks under one name."""

    name: str
    path: Path
    members: tuple[TaskFile | GroupFile, ...]
    averages: tuple[Average, ...]

    @property
    def tasks(self) -> list[TaskFile]:
        return list(leaves(self.members))

    @property
    def metrics(self) -> dict[str, bool | None]:
        """As of a task."""
        found: dict[str, bool | None] = {}
        for average in self.averages:
            for task in self.tasks:
                for name, better in task.metrics.items():
                    metric, _, filter_name = name.partition("/")
                    if metric == average.metric and (average.filters is None or (filter_name or "none") in average.filters):
                        found.setdefault(name, better)
        return found


def logged_name(metric: str, filter_name: str) -> str:
    """The metric below its task's name: exact_match/strict-match."""
    return metric if filter_name == "none" else f"{metric}/{filter_name}"


def leaves(read: Sequence[TaskFile | GroupFile]) -> Iterator[TaskFile]:
    """The tasks themselves, those of groups among them."""
    for one in read:
        yield from leaves(one.members) if isinstance(one, GroupFile) else [one]


def groups(read: Sequence[TaskFile | GroupFile]) -> Iterator[GroupFile]:
    """All groups, those in groups among them."""
    for one in read:
        if isinstance(one, GroupFile):
            yield one
            yield from groups(one.members)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)
