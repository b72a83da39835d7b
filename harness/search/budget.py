"""The budget of a study: a hard limit over all workers, attempts and work under way. It is derived from the trials, never counted aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from harness.config.sweep_schema import BudgetConfig
from harness.runs.record import RunRecord
from harness.runs.result import FINAL_STATES


@dataclass(frozen=True)
class Account:
    """One unit of a budget."""

    limit: int | None
    used: int
    reserved: int
    """Promised to trials that have not ended."""

    def fits(self, amount: int) -> bool:
        """Whether `amount` more can be promised."""
        return self.limit is None or self.used + self.reserved + amount <= self.limit


@dataclass(frozen=True)
class Budget:
    """What a study may spend, has spent, and has promised."""

    trials: Account
    tokens: Account

    def has_room_for(self, tokens: int) -> bool:
        """Whether one more trial of at most this many tokens may start."""
        return self.trials.fits(1) and self.tokens.fits(tokens)

    @property
    def is_overdrawn(self) -> bool:
        """Whether repeated steps after crashes have eaten into what was promised to others: a retry must not take it."""
        return not self.tokens.fits(0)

    def to_json(self) -> dict[str, dict[str, int]]:
        """The units that have a limit: {unit: {limit, used, reserved}}."""
        return {unit: asdict(account) for unit, account in (("trials", self.trials), ("tokens", self.tokens)) if account.limit is not None}


def open_budget(config: BudgetConfig, trials: Sequence[RunRecord]) -> Budget:
    """The state of the budget, given all trials of the study."""
    ended = [record for record in trials if record.result.state in FINAL_STATES]
    under_way = [record for record in trials if record.result.state not in FINAL_STATES]
    reserved = sum(record.trial.tokens - record.result.tokens.position for record in under_way if record.trial)
    return Budget(
        trials=Account(config.trials, len(ended), len(under_way)),
        tokens=Account(config.tokens, sum(record.result.tokens.trained for record in trials), reserved),
    )
