"""The two parts of an evaluation set: what is chosen by, and what is reported (data.report_share). And documents.jsonl, what each document
of the second part adds to the metrics at a run's end: {step, metric, documents: {id: [sum, size]}}."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.config.errors import wrong_value
from harness.runs.files import append_lines, read_json_lines

REPORT = "report"
MEAN = "mean"
"""What the mean over validation sets is logged under: val/mean/loss."""
ByDocument = Mapping[str, tuple[float, float]]
"""By document, its part of a metric that is sum / size over all documents: nats and tokens of a loss, 1 or 0 and 1 of an accuracy."""


def reported(metric: str) -> str:
    """The same metric on what is kept for the report: val/docs/report/loss for val/docs/loss."""
    prefix, name, rest = metric.split("/", 2)
    return f"{prefix}/{name}/{REPORT}/{rest}"


def is_reported(metric: str) -> bool:
    """Whether a metric is of a part that is kept for the report."""
    return metric.split("/")[2:3] == [REPORT] and metric.count("/") > 2


def refuse_reported(key: str, metric: str) -> None:
    """Raise InputError for a metric, given in `key`, of a part that is kept for the report."""
    if is_reported(metric):
        at = metric.split("/", 3)
        valid = f"{at[0]}/{at[1]}/{at[3]}"
        raise wrong_value(key, metric, f"is measured on what is kept for the report, by which nothing may be chosen; valid: {valid}")


@dataclass(frozen=True)
class DocumentsFile:
    """documents.jsonl of a run."""

    path: Path

    def append(self, step: int, measured: Mapping[str, ByDocument]) -> None:
        """measured: by metric."""
        rows = [{"step": step, "metric": metric, "documents": documents} for metric, documents in measured.items()]
        append_lines(self.path, [json.dumps(row, allow_nan=False) for row in rows])

    def behind(self, metric: str) -> list[ByDocument]:
        """The documents behind the last value of a metric; of a mean over sets, those of each set. [] where they are not known."""
        last: dict[str, ByDocument] = {}
        for row in read_json_lines(self.path):
            name, documents = row.get("metric"), row.get("documents")
            if isinstance(name, str) and isinstance(documents, dict) and all(map(_is_pair, documents.values())):
                last[name] = {key: (float(total), float(size)) for key, (total, size) in documents.items()}
        prefix, name, rest = (*metric.split("/", 2), "", "")[:3]
        if name == MEAN:
            return [documents for key, documents in last.items() if key.startswith(f"{prefix}/") and key.split("/", 2)[2] == rest]
        return [last[metric]] if metric in last else []


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(one, int | float) and not isinstance(one, bool) for one in value)
