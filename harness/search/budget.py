"""The budget of a study: a hard limit over all workers, attempts and work under way. It is derived from the trials, never counted aside.

Trials and tokens are known beforehand: a trial reserves what its plan asks for. Time is not, so it is leased: an attempt may run until its
lease ends and no longer, its worker asks for more in time or ends it, and a lease is given only if the limit holds to its very end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace

from harness.config.sweep_schema import BudgetConfig
from harness.runs.record import RunRecord
from harness.runs.result import FINAL_STATES, Tokens
from harness.runs.trial import Trial
from harness.search.trial_seconds import TrialSeconds

SHORTEST_SECONDS = 5.0
"""The shortest lease: a process needs as long to start, and to be ended in time."""
MARGIN = 1.5
"""A trial without a limit of its own leases this many times what it should need."""
HOUR = 3600.0
MANY = 1e6
"""Trials, where there is no limit."""


@dataclass(frozen=True)
class Account:
    """One unit of a budget."""

    limit: float | None
    used: float
    reserved: float
    """Reserved for trials that have not ended."""

    @property
    def left(self) -> float:
        return float("inf") if self.limit is None else self.limit - self.used - self.reserved

    def fits(self, amount: float) -> bool:
        """Whether `amount` more can be reserved."""
        return self.limit is None or self.used + self.reserved + amount <= self.limit


@dataclass(frozen=True)
class Amounts:
    """So much of each unit."""

    trials: float = 0
    tokens: float = 0
    gpu_hours: float = 0.0
    wall_hours: float = 0.0


@dataclass(frozen=True)
class Budget:
    """What a study may spend, has spent, and has reserved."""

    trials: Account
    tokens: Account
    gpu_hours: Account
    wall_hours: Account
    trial_hours: float | None
    """Of one trial, over all its attempts."""
    trial_seconds: TrialSeconds
    """How long trials take, by those that have ended."""
    ends: float
    """When the last lease under way ends, in seconds since the epoch; now, where there is none."""
    now: float

    def has_room_for(self, tokens: int, *, devices: int, trials: int = 1) -> bool:
        """Whether one more trial of at most this many tokens, on this many devices, may start; or so many, of so many tokens in all."""
        return self.trials.fits(trials) and self.tokens.fits(tokens) and self.lease(tokens, devices=devices) is not None

    def runs_left(self, tokens: int, *, devices: int, workers: int = 1) -> int:
        """For how many more trials of so many tokens there is room, by what is known of the time that they take. workers: that run them
        side by side."""
        rooms = [self.trials.left, self.tokens.left / max(1, tokens)]
        if self.is_timed and (needed := self.trial_seconds.needed(tokens)) is not None:
            if (lease := self.lease(tokens, devices=devices)) is None:
                return 0
            # Each gives back what it does not need of its lease, but the last one has to have it whole.
            in_a_row, in_all = (
                int(min(MANY, 1 + (seconds - lease) / needed)) for seconds in (self._wall_seconds_left, self._device_seconds_left(devices))
            )
            rooms += [workers * in_a_row, in_all]
        return max(0, int(min(*rooms, MANY)))

    def holding_back(self, held: Amounts) -> Budget:
        """What is left to others when this much is held back."""
        accounts = {unit: getattr(self, unit) for unit in ("trials", "tokens", "gpu_hours", "wall_hours")}
        less = {
            unit: replace(account, limit=account.limit - getattr(held, unit))
            for unit, account in accounts.items()
            if account.limit is not None
        }
        return replace(self, **less)

    @property
    def is_timed(self) -> bool:
        """Whether a unit of time has a limit."""
        return any(limit is not None for limit in (self.gpu_hours.limit, self.wall_hours.limit, self.trial_hours))

    @property
    def is_overdrawn(self) -> bool:
        """Whether steps repeated after crashes used tokens that are reserved for others: then no retry is allowed."""
        return not self.tokens.fits(0)

    def lease(self, tokens: int, *, devices: int, workers: int = 1, spent: float = 0.0) -> float | None:
        """For how many seconds an attempt on a trial of this many tokens may run; infinity without a limit, None where too little is left.

        What it should need has to fit whole: the trial's own limit, or what those so far tell, with a margin. While nothing is known, a
        trial leases an equal share for each of the workers; how many they are never decides whether there is a lease.
        spent: seconds that earlier attempts of the trial took.
        """
        left = self._seconds_left(devices)
        if self.trial_hours is not None:
            wanted = self.trial_hours * HOUR - spent
        elif self.is_timed and (needed := self.trial_seconds.needed(tokens)) is not None:
            wanted = max(SHORTEST_SECONDS, MARGIN * needed)
        else:
            share = left if self.gpu_hours.limit is None else min(left, self.gpu_hours.left * HOUR / devices / workers)
            wanted = max(SHORTEST_SECONDS, share)
        return wanted if wanted <= left and wanted >= SHORTEST_SECONDS else None

    def extension(self, seconds: float, *, devices: int, ends: float, spent: float) -> float | None:
        """By how many seconds a lease that ends at `ends` can be extended: up to `seconds`; None where nothing is left.

        spent: seconds that all attempts of the trial will have taken when the lease ends.
        """
        wall = float("inf") if self.wall_hours.limit is None else self.wall_hours.left * HOUR + max(0.0, self.ends - ends)
        own = float("inf") if self.trial_hours is None else self.trial_hours * HOUR - spent
        granted = min(seconds, wall, own, self.gpu_hours.left * HOUR / devices)
        return granted if granted > 0 else None

    def _seconds_left(self, devices: int) -> float:
        return min(self._wall_seconds_left, self._device_seconds_left(devices))

    @property
    def _wall_seconds_left(self) -> float:
        # Work beside a lease under way takes no more of the wall time until that lease ends.
        return self.wall_hours.left * HOUR + self.ends - self.now

    def _device_seconds_left(self, devices: int) -> float:
        return self.gpu_hours.left * HOUR / devices

    @property
    def limits(self) -> dict[str, float]:
        """By unit that has one."""
        limits = {unit: account["limit"] for unit, account in self.to_json().items()}
        return limits if self.trial_hours is None else {**limits, "trial_hours": self.trial_hours}

    def to_json(self) -> dict[str, dict[str, float]]:
        """The units that have a limit: {unit: {limit, used, reserved}}."""
        accounts = {unit: getattr(self, unit) for unit in ("trials", "tokens", "gpu_hours", "wall_hours")}
        return {unit: asdict(account) for unit, account in accounts.items() if account.limit is not None}


def still_to_spend(tokens: Tokens, trial: Trial | None) -> int:
    """What is promised to a trial that has not ended: what is left of its plan, or what was reserved before it had one."""
    if tokens.length:
        return tokens.length - tokens.position
    return trial.tokens if trial else 0


@dataclass
class OpenTotals:
    """What the trials that are not booked as ended have cost and reserved in all: a running sum, for a thousand trials at once."""

    ended: int = 0
    """Those whose results are final already."""
    under_way: int = 0
    tokens: int = 0
    reserved: int = 0
    """Tokens reserved."""

    def add(self, record: RunRecord, sign: int = 1) -> None:
        """Count a trial; sign=-1: count it no more, as it was when it was counted."""
        self.tokens += sign * record.result.tokens.spent
        if record.result.state in FINAL_STATES:
            self.ended += sign
        else:
            self.under_way += sign
            self.reserved += sign * still_to_spend(record.result.tokens, record.trial)


@dataclass
class EndedTotals:
    """What the trials that have ended cost in all, as a running sum."""

    trials: int = 0
    complete: int = 0
    pruned: int = 0
    tokens: int = 0
    device_seconds: float = 0.0
    trial_seconds: TrialSeconds = field(default_factory=TrialSeconds)
    spans: list[tuple[float, float]] = field(default_factory=list)
    """When any of them was under way, in seconds since the epoch; joined now and then."""
    _joined: int = 0

    def add(self, record: RunRecord) -> None:
        """Count a trial that has ended."""
        trial, result = record.trial, record.result
        self.trials += 1
        self.complete += result.state == "complete"
        self.pruned += result.state == "pruned"
        self.tokens += result.tokens.spent
        if trial is None or not trial.spans:
            return
        self.device_seconds += trial.devices * trial.seconds
        if result.tokens.spent and result.state == "complete":
            self.trial_seconds.add(result.tokens.spent, trial.seconds)
        self.spans += [(begin, end) for begin, end in trial.spans]
        if len(self.spans) > 2 * self._joined + 16:
            self.spans = joined(self.spans)
            self._joined = len(self.spans)

    def copy(self) -> EndedTotals:
        """One that can be added to without changing this one."""
        return replace(self, spans=list(self.spans), trial_seconds=self.trial_seconds.copy())


def is_timed(config: BudgetConfig) -> bool:
    """Whether a unit of time has a limit."""
    return any(limit is not None for limit in (config.gpu_hours, config.wall_hours, config.trial_hours))


def untimed_budget(config: BudgetConfig, open_: OpenTotals, *, now: float, most_trials: int | None, ended: EndedTotals) -> Budget:
    """The state of a budget that has no limit of time, without a look at any trial: what it says of hours is nothing.

    Otherwise as `open_budget`.
    """
    trials, tokens = _counted(config, open_, ended, most_trials)
    none = Account(None, 0.0, 0.0)
    return Budget(trials, tokens, gpu_hours=none, wall_hours=none, trial_hours=None, trial_seconds=ended.trial_seconds, ends=now, now=now)


def _counted(config: BudgetConfig, open_: OpenTotals, ended: EndedTotals, most_trials: int | None) -> tuple[Account, Account]:
    """Trials and tokens."""
    limits = [limit for limit in (config.trials, most_trials) if limit is not None]
    return (
        Account(min(limits, default=None), ended.trials + open_.ended, open_.under_way),
        Account(config.tokens, ended.tokens + open_.tokens, open_.reserved),
    )


def open_budget(
    config: BudgetConfig, trials: Sequence[RunRecord], *, now: float, most_trials: int | None = None, ended: EndedTotals | None = None
) -> Budget:
    """The state of the budget at `now`, seconds since the epoch, given all trials of the study.

    most_trials: after which a grid is done; ended: trials that have ended and are not among the others.
    """
    ended = EndedTotals() if ended is None else ended.copy()
    open_ = OpenTotals()
    for record in trials:
        open_.add(record)
    of_trials, of_tokens = _counted(config, open_, ended, most_trials)
    for record in trials:
        if record.result.state in FINAL_STATES:
            ended.add(record)
    under_way = [record for record in trials if record.result.state not in FINAL_STATES]
    timed = [record.trial for record in under_way if record.trial]
    begun = [(trial, trial.began) for record in trials if (trial := record.trial) and trial.began is not None]
    leases = [trial for trial, _ in begun if trial.lease is not None]
    spans = [(begin, end) for trial in timed for begin, end in trial.spans]
    working = [(began, min(now, trial.lease_ends)) for trial, began in begun]
    ends = max([now, *(trial.lease_ends for trial in leases)])
    held = ended.device_seconds + sum(trial.devices * trial.seconds for trial in timed)
    leased = sum(trial.devices * (trial.lease or 0.0) for trial in leases)
    # Trials claimed while there was no limit of time have no lease; what they took so far counts.
    unleased = sum(trial.devices * (now - began) for trial, began in begun if trial.lease is None)
    return Budget(
        trials=of_trials,
        tokens=of_tokens,
        gpu_hours=Account(config.gpu_hours, (held + unleased) / HOUR, leased / HOUR),
        wall_hours=Account(config.wall_hours, covered([*ended.spans, *spans, *working]) / HOUR, (ends - now) / HOUR),
        trial_hours=config.trial_hours,
        trial_seconds=ended.trial_seconds,
        ends=ends,
        now=now,
    )


def joined(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same time in spans that do not overlap, in order."""
    found: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """The total time that the spans cover."""
    return sum(end - begin for begin, end in joined(spans))
