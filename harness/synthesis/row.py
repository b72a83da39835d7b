"""A row of synthetic data: what it was made from, what was written, and what that scored."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Finish = Literal["stop", "length"]


@dataclass(frozen=True)
class SeedRow:
    """What a row begins with: one row of every seed file."""

    id: str
    """The ids of these rows, their own or hashes of them, joined by +."""
    content: str
    """Hash of all that the recipe's templates read of them; where that is there a second time, with its number."""


@dataclass(frozen=True)
class Tokens:
    """Of teachers, judges among them."""

    prompt: int = 0
    generated: int = 0

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.prompt + other.prompt, self.generated + other.generated)

    @property
    def total(self) -> int:
        return self.prompt + self.generated


@dataclass(frozen=True)
class Row:
    """What became of one draw."""

    id: str
    """Hash of what its text depends on: the steps' recipes, the content of the seed row, the draws."""
    group: str
    """The same for all draws that answer the same prompt of the last step with a template: what `select` compares."""
    draw: int
    """0, 1, … of these."""
    seed_row: SeedRow
    prompt: str
    """The last step's template, filled in."""
    answer: str
    """The field that the last step with a template wrote: its name."""
    fields: dict[str, Any]
    """By name: of a seed a mapping, {"problems": {"question": …}}; of a step with a template its text."""
    scores: dict[str, float] = field(default_factory=dict)
    """By name of the step."""
    finish: Finish = "stop"
    """length where any of its texts was cut."""
    tokens: Tokens = field(default_factory=Tokens)
    """Of all its steps; what draws of later steps have in common is in each of them."""
    written: dict[str, int] = field(default_factory=dict)
    """Tokens of every text, by the name of its field."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """By step that a teacher answered: `id` of its ask, and hashes of the step and of the teacher; `served`, what an endpoint says of
    itself."""

    @property
    def last_text(self) -> str:
        """What was written last: the answer, or of a row that went before it an earlier step's text; "" where nothing was."""
        return "".join(str(self.fields[name]) for name in list(self.written)[-1:])

    def value(self, path: str) -> Any:
        """The field at NAME or NAME.FIELD. Raises KeyError."""
        found: Any = self.fields
        for part in path.split(".", 1):
            found = found[part]
        return found

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Rejected:
    """A row that does not become data."""

    row: Row
    rule: str
    """What it goes by, such as the key of the recipe."""
    value: Any
    """What was found."""

    def to_json(self) -> dict[str, Any]:
        """As a line of rejected.jsonl."""
        return {"rule": self.rule, "value": self.value, **self.row.to_json()}
