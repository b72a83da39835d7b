"""What the backend keeps of a run, and the filters and orders by which the client asks for runs."""

from __future__ import annotations

import json
import operator
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.support.fake_wandb.graphql import GraphQLError

RunKey = tuple[str, str, str]
"""Entity, project, run id."""

ENDED = ("finished", "failed", "preempted")
"""States that a run leaves only when it is resumed."""


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())


@dataclass
class StoredRun:
    """A run as the backend has it."""

    entity: str
    project: str
    id: str
    number: int
    """1 for the first run that the backend ever saw."""
    created: str = field(default_factory=now)
    heartbeat: str = field(default_factory=now)
    display_name: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    notes: str | None = None
    host: str | None = None
    state: str = "running"
    states: list[str] = field(default_factory=lambda: ["running"])
    """Every state that it went through."""
    exit_code: int | None = None
    stored_config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    history: dict[int, str] = field(default_factory=dict)
    """JSON rows by their line number."""
    events: dict[int, str] = field(default_factory=dict)
    logs: dict[int, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def key(self) -> RunKey:
        return self.entity, self.project, self.id

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as it was given to wandb.init."""
        return {key: item["value"] for key, item in self.stored_config.items() if key != "_wandb"}

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(self.history[line]) for line in sorted(self.history)]

    def enter(self, state: str) -> None:
        self.state = state
        self.states.append(state)

    def stream(self, body: dict[str, Any]) -> None:
        """Take what one file_stream request brings."""
        self.heartbeat = now()
        kept = {"wandb-history.jsonl": self.history, "wandb-events.jsonl": self.events}
        for name, chunk in (body.get("files") or {}).items():
            lines = chunk.get("content") or []
            if name == "wandb-summary.json":
                if lines:
                    self.summary = json.loads(lines[-1])
            else:
                kept.get(name, self.logs).update(enumerate(lines, start=chunk.get("offset", 0)))
        if body.get("preempting"):
            self.enter("preempting")
        if body.get("complete") or body.get("exitcode") is not None:
            self.exit_code = body.get("exitcode")
            failed = "preempted" if self.state == "preempting" else "failed"
            self.enter(failed if self.exit_code else "finished")


def dig(document: Any, path: str) -> Any:
    """The value at a dotted path; keys may hold dots themselves."""
    if not isinstance(document, dict):
        return None
    if path in document:
        return document[path]
    head, _, rest = path.partition(".")
    return dig(document.get(head), rest) if rest else None


def attribute(run: StoredRun, key: str) -> Any:
    """What a filter or an order calls `key`."""
    if key.startswith("config."):
        # config.model.value.lr and config.seed.value: `value` comes after the first name.
        return dig(run.config, re.sub(r"^([^.]+)\.value(?=\.|$)", r"\1", key.removeprefix("config.")))
    if key.startswith(("summary_metrics.", "summaryMetrics.")):
        return dig(run.summary, key.partition(".")[2])
    return {
        "name": run.id,
        "displayName": run.display_name,
        "display_name": run.display_name,
        "state": run.state,
        "group": run.group,
        "jobType": run.job_type,
        "job_type": run.job_type,
        "tags": run.tags,
        "created_at": run.number,
        "createdAt": run.number,
        "heartbeat_at": run.heartbeat,
    }.get(key)


def _contains(got: Any, wanted: list[Any]) -> bool:
    return any(item in wanted for item in got) if isinstance(got, list) else got in wanted


def _compare(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda got, bound: type(got) in (int, float) and compare(got, bound)


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda got, wanted: wanted in got if isinstance(got, list) and not isinstance(wanted, list) else got == wanted,
    "$ne": operator.ne,
    "$in": _contains,
    "$nin": lambda got, wanted: not _contains(got, wanted),
    "$exists": lambda got, wanted: (got is not None) == bool(wanted),
    "$regex": lambda got, pattern: got is not None and re.search(pattern, str(got)) is not None,
    "$gt": _compare(operator.gt),
    "$gte": _compare(operator.ge),
    "$lt": _compare(operator.lt),
    "$lte": _compare(operator.le),
}


def matches(run: StoredRun, filters: dict[str, Any]) -> bool:
    """Whether a run meets MongoDB-like filters."""
    for key, wanted in filters.items():
        if key == "$and":
            met = all(matches(run, part) for part in wanted)
        elif key == "$or":
            met = not wanted or any(matches(run, part) for part in wanted)
        elif key == "$not":
            met = not matches(run, wanted)
        else:
            met = all(_operator(name)(attribute(run, key), value) for name, value in _conditions(wanted))
        if not met:
            return False
    return True


def _conditions(wanted: Any) -> list[tuple[str, Any]]:
    return list(wanted.items()) if isinstance(wanted, dict) else [("$eq", wanted)]


def _operator(name: str) -> Callable[[Any, Any], bool]:
    if name not in OPERATORS:
        raise GraphQLError(f"filter operator {name} is not supported")
    return OPERATORS[name]


def ordered(runs: list[StoredRun], order: str) -> list[StoredRun]:
    """Runs by a comma-separated order such as "-summary_metrics.loss,+created_at"; those without the key come last."""
    for part in reversed(order.split(",")):
        key = part.strip().lstrip("+-")
        having = [run for run in runs if attribute(run, key) is not None]
        lacking = [run for run in runs if attribute(run, key) is None]
        runs = sorted(having, key=lambda run: attribute(run, key), reverse=part.strip().startswith("-")) + lacking
    return runs
