"""One log for a run of several attempts: what they left of it, torn or not, completed from the run's own files, each step once.

metrics.jsonl and result.json are the truth: their values take the place of what an attempt logged and another one trained again, and they
fill in what a tear has taken.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import wandb.proto.wandb_internal_pb2 as wandb_internal_pb2

from harness.runs.metrics import Row
from harness.tracking.identity import Identity
from harness.tracking.pieces import Piece
from harness.tracking.transaction_log import NoLogError, log_of, whole_records

pb: Any = wandb_internal_pb2
"""Ships no types."""

Key = tuple[str, ...]
"""Of a value in a row or in the summary: several names where it is nested."""
Values = dict[Key, str]
"""JSON by key."""

WRITTEN_ANEW = ("header", "run", "history", "summary", "exit", "final", "footer", "preempting", "request")
"""Records that every attempt has: the merged log has its own, or none."""


def records_of(piece: Piece) -> Iterator[Any]:
    """The whole records of a piece's log; none where there is no such file, or another one."""
    try:
        content = piece.log.read_bytes()
    except OSError:
        return
    try:
        for data in whole_records(content):
            record = pb.Record()
            record.ParseFromString(data)
            yield record
    except NoLogError:
        return


def logged_steps(pieces: Sequence[Piece]) -> set[int]:
    """The steps of the rows that the pieces hold whole."""
    return {_step(record) for piece in pieces for record in records_of(piece) if record.WhichOneof("record_type") == "history"}


def place_of(pieces: Sequence[Piece]) -> tuple[str | None, str | None]:
    """The entity and the project that a run was opened with; None where its logs do not say."""
    for piece in pieces:
        for record in records_of(piece):
            if record.WhichOneof("record_type") == "run":
                return record.run.entity or None, record.run.project or None
    return None, None


@dataclass(frozen=True, kw_only=True)
class Whole:
    """What a run is by its own files."""

    identity: Identity
    entity: str
    project: str
    config: Mapping[str, Any]
    started: float
    """Seconds since the epoch."""
    rows: Sequence[Row]
    """Of its metrics.jsonl."""
    summary: Mapping[str, Any]
    """Keys of the summary that are set as they are."""
    exit_code: int
    """0 unless it failed."""


def merged_log(pieces: Sequence[Piece], whole: Whole, *, after_step: int) -> bytes:
    """The log that brings W&B up to date with a run.

    pieces: of its attempts, in their order. after_step: the last step that W&B has already, -1 for none: only later rows are in the log.
    """
    merged = _Merged()
    for piece in pieces:
        for record in records_of(piece):
            merged.take(record)
    run = merged.run or _run_record(whole)
    run.run.run_id, run.run.entity, run.run.project = whole.identity.id, whole.entity, whole.project
    for row in whole.rows:
        merged.overlay(row)
    steps = sorted(merged.rows)
    for step in steps:
        merged.summary.update(merged.rows[step])
    merged.summary.update({(key,): json.dumps(value) for key, value in whole.summary.items()})
    records = [
        *([merged.header] if merged.header else []),
        run,
        *merged.others,
        *(_history(merged.rows[step], step) for step in steps if step > after_step),
        _summary(merged.summary),
        pb.Record(exit=pb.RunExitRecord(exit_code=whole.exit_code)),
    ]
    for number, record in enumerate(records, start=1):
        record.num = number
    return log_of(record.SerializeToString() for record in records)


def _run_record(whole: Whole) -> Any:
    """For a run whose logs have lost their beginning."""
    run = pb.RunRecord(
        display_name=whole.identity.name,
        run_group=whole.identity.group or "",
        job_type=whole.identity.job_type,
        tags=whole.identity.tags,
        config=pb.ConfigRecord(update=[pb.ConfigItem(key=key, value_json=json.dumps(value)) for key, value in whole.config.items()]),
    )
    run.start_time.FromNanoseconds(int(whole.started * 1e9))
    return pb.Record(run=run)


class _Merged:
    """What is known after some of the records."""

    def __init__(self) -> None:
        self.header: Any = None
        self.run: Any = None
        self.others: list[Any] = []
        self.rows: dict[int, Values] = {}
        self.summary: Values = {}

    def take(self, record: Any) -> None:
        match record.WhichOneof("record_type"):
            case "header":
                self.header = self.header or record
            case "run":
                self.run = self.run or record
            case "history":
                # An attempt that went over its predecessor's steps again has the last word.
                self.rows[_step(record)] = {_key(item): item.value_json for item in record.history.item}
            case "summary":
                for item in record.summary.remove:
                    self.summary.pop(_key(item), None)
                self.summary.update({_key(item): item.value_json for item in record.summary.update})
            case kind if kind not in WRITTEN_ANEW:
                self.others.append(record)
            case _:
                pass

    def overlay(self, row: Row) -> None:
        """Values of metrics.jsonl; what is null there is no number of JSON, which W&B's log may still have."""
        step = row["step"]
        if step not in self.rows:
            # W&B draws over time as well: a row whose time is lost has the time of the row before it.
            before = max((known for known in self.rows if known < step), default=min(self.rows, default=step))
            times = self.rows.get(before, {})
            self.rows[step] = {key: times[key] for key in (("_timestamp",), ("_runtime",)) if key in times}
            self.rows[step]["_step",] = json.dumps(step)
        values = {key: value for key, value in row.items() if key != "step" and not _is_nothing(value)}
        self.rows[step].update({(key,): json.dumps(value) for key, value in values.items()})


def _is_nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def _step(record: Any) -> int:
    return int(record.history.step.num)


def _key(item: Any) -> Key:
    return tuple(item.nested_key) or (item.key,)


def _history(values: Values, step: int) -> Any:
    items = [pb.HistoryItem(nested_key=key, value_json=value) for key, value in values.items()]
    return pb.Record(history=pb.HistoryRecord(item=items, step=pb.HistoryStep(num=step)))


def _summary(values: Values) -> Any:
    return pb.Record(summary=pb.SummaryRecord(update=[pb.SummaryItem(nested_key=key, value_json=value) for key, value in values.items()]))
