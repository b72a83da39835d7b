"""generations.jsonl: the texts that a run wrote for its evaluation sets, a row each: {step, set, id, prompt, draw, text, tokens, finish,
score}. A step is there once: an attempt that goes over its predecessor's steps again adds only what that one was kept from writing."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.runs.files import append_lines, read_json_lines


@dataclass(frozen=True)
class WrittenText:
    """A text that a model wrote."""

    set: str
    """Name of the evaluation set."""
    id: str
    """Of the prompt."""
    prompt: str
    """As the model read it."""
    draw: int
    """0, 1, … of the texts after one prompt."""
    text: str
    tokens: int
    """How many it has."""
    finish: str
    """stop: it ended by itself; length: it was ended."""
    score: float | None = None
    """1: right, 0: wrong; None where nothing was verified."""

    @property
    def place(self) -> tuple[str, str, int]:
        return self.set, self.id, self.draw


class GenerationsFile:
    """The texts of one run, on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, step: int, texts: Iterable[WrittenText]) -> None:
        """Add those that are not there yet."""
        there = {text.place for at, text in self._rows() if at == step}
        lacking = [text for text in texts if text.place not in there]
        append_lines(self.path, [json.dumps({"step": step, **asdict(text)}, allow_nan=False) for text in lacking])

    def by_step(self) -> dict[int, list[WrittenText]]:
        """The texts of each step, steps in order; {} where nothing was written. Raises DamagedError and OSError."""
        steps: dict[int, dict[tuple[str, str, int], WrittenText]] = {}
        for step, text in self._rows():
            steps.setdefault(step, {}).setdefault(text.place, text)
        return {step: list(steps[step].values()) for step in sorted(steps)}

    def scores_by_prompt(self, metric: str) -> dict[str, float]:
        """Behind a run's last generation/<set>/accuracy: by prompt, the share of its texts that were right. {} of other metrics."""
        kind, _, rest = metric.partition("/")
        steps = self.by_step() if kind == "generation" and rest.endswith("/accuracy") else {}
        scores: dict[str, list[float]] = {}
        for texts in reversed(steps.values()):
            for text in texts:
                if text.set == rest.removesuffix("/accuracy") and text.score is not None:
                    scores.setdefault(text.id, []).append(text.score)
            if scores:
                break
        return {prompt: statistics.fmean(found) for prompt, found in scores.items()}

    def _rows(self) -> Iterator[tuple[int, WrittenText]]:
        """What is no row of a text is damage, and left out."""
        for row in read_json_lines(self.path):
            step, score = row.pop("step", None), row.get("score")
            counts = map(_is_count, (step, row.get("draw"), row.get("tokens")))
            if all(counts) and not isinstance(score, bool) and row.keys() <= FIELDS.keys() and _has_fields(row):
                yield step, WrittenText(**row)


FIELDS: dict[str, Any] = {
    **dict.fromkeys(("set", "id", "prompt", "text", "finish"), str),
    **dict.fromkeys(("draw", "tokens"), int),
    "score": (int, float, type(None)),
}


def _has_fields(row: dict[str, Any]) -> bool:
    return all(isinstance(row.get(name), kind) for name, kind in FIELDS.items())


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
