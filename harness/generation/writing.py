"""A row while it is written: when it ends, and what it is then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.generation.noise import row_key
from harness.generation.row_state import RowState
from harness.generation.rows import Draw, Finish, Generation, Limits
from harness.generation.written_text import Decode, WrittenText, text_of


@dataclass(frozen=True)
class Rules:
    """What all rows have in common."""

    limits: Limits
    ends: frozenset[int]
    """Tokens that end a text."""
    most_tokens: int | None
    """Of prompt and text, as many as the model reads; None: any number."""
    decode: Decode
    seed: int
    """Of the noise."""
    follows_text: bool
    """Whether the text is wanted after every token."""


class Writing:
    """A row under way."""

    def __init__(self, row: Draw, rules: Rules) -> None:
        self.row, self._rules = row, rules
        ids = list(row.prompt.token_ids)
        self.state = RowState(row_key(rules.seed, row.prompt.id, row.draw), ids, len(ids))
        self.text = WrittenText(rules.decode, ids, rules.limits.stop) if rules.follows_text or rules.limits.stop else None
        """None where nothing needs it before the row ends."""
        self.finish: Finish | None = None

    def add(self, token: int) -> None:
        """One more token. `finish` tells whether it is the last."""
        state, rules, text = self.state, self._rules, self.text
        state.history.append(token)
        if token in rules.ends:
            self.finish = "stop"
        else:
            if text is not None:
                text.add(token)
            if text is not None and text.is_stopped:
                self.finish = "stop"
            elif state.position >= rules.limits.max_new_tokens or len(state.history) == rules.most_tokens:
                self.finish = "length"
        if self.finish is not None and text is not None:
            text.end()
            if text.is_stopped:
                self.finish = "stop"

    def written(self) -> Generation:
        """The row that has ended."""
        assert self.finish is not None, "it has ended"
        ids = tuple(self.state.history[self.state.prompt_tokens :])
        spoken = ids[:-1] if ids[-1] in self._rules.ends else ids
        text = text_of(self._rules.decode, self.row.prompt.token_ids, spoken) if self.text is None else self.text.text
        return Generation(self.row.prompt.id, self.row.draw, text, ids, self.finish)


OnToken = Callable[[Writing], None]
