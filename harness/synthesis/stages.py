"""From what teachers wrote to a data set: what is dropped, by which rule, and what the rest looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.config.synth_schema import SynthConfig
from harness.synthesis.plan import Draft
from harness.synthesis.row import Row


@dataclass(frozen=True)
class Rejected:
    """A row that was dropped."""

    row: Row
    rule: str
    value: Any

    def to_json(self) -> dict[str, Any]:
        return {"rule": self.rule, "value": self.value, **self.row.to_json()}


@dataclass(frozen=True)
class Made:
    """A data set."""

    rows: list[Row]
    """That are kept."""
    data: list[dict[str, Any]]
    """What is trained on, a line each."""
    rejected: list[Rejected]
    funnel: dict[str, int]
    """How many were left after each stage, in order."""


def make_data(drafts: Sequence[Draft], config: SynthConfig) -> Made:
    """The data set of rows that are written. Raises InputError for files that the stages cannot read."""
    rejected = [Rejected(draft.row, *draft.dropped) for draft in drafts if draft.dropped is not None]
    rows = [draft.row for draft in drafts if draft.dropped is None]
    funnel = {"prompts": len({draft.row.group for draft in drafts}), "draws": len(drafts), "parsed": len(rows)}
    funnel["kept"] = len(rows)
    return Made(rows, [_emitted(row, config) for row in rows], rejected, funnel)


def _emitted(row: Row, config: SynthConfig) -> dict[str, Any]:
    answer = row.value(config.emit.answer or row.answer)
    if config.emit.format == "text":
        return {"text": answer, "id": row.id}
    prompt = row.prompt if config.emit.prompt is None else row.value(config.emit.prompt)
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}], "id": row.id}
