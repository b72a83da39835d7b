"""What a data set costs while it is made, and whose turn it is.

Shards are written in phases: what a step asks in a round is one. Without a limit each shard goes on as fast as it can. With one, the rows
for which there is room must not depend on who came first, so shards go in waves. In a wave a phase begins when the one before has ended
for all of its shards, so that what is spent by then is known. They take their turn in order, each by all that its answers can take at most,
and the first for which there is no room ends the wave. The next one begins there, when what the others really took is booked. So what is
begun is a function of the recipe and of what was written. What killed workers lost plays no part, as long as it is less than what is held
back for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Interval

from harness.config.synth_schema import SynthBudgetConfig

MOST_SHARDS = 1_000_000
"""More than a damaged file's number is let claim."""
Place = Annotated[int, Interval(ge=0, le=MOST_SHARDS)]
Admitted = Literal["yes", "wait", "later", "no"]
"""wait: for shards before it. later: it is not its turn."""


@dataclass
class ShardLedger:
    """What a shard has cost, and how far it is."""

    prompt: int = 0
    """Tokens that teachers read for it."""
    generated: int = 0
    """Tokens that they wrote."""
    lost: int = 0
    """Tokens that workers which were killed may have cost besides: of texts that were under way."""
    reserved: int = 0
    """Tokens that what is being written now can take at most; 0 while nothing is."""
    at_risk: int = 0
    """Of these, as many as a kill can lose at most."""
    phase: int = 0
    """The one that is next, or under way."""
    admitted: bool = False
    """Whether there was room for it."""
    done: bool = False

    @property
    def written(self) -> int:
        return self.prompt + self.generated

    @property
    def used(self) -> int:
        return self.written + self.lost

    def go_on(self, phase: int) -> None:
        """Another phase is the next."""
        if phase != self.phase:
            self.phase, self.admitted = phase, False


NOT_BEGUN = ShardLedger()
"""To be read alone."""


@dataclass
class Wave:
    """Shards that go through their phases together, while there is a limit."""

    first: Place
    end: Place
    """The first that is not one of them."""
    phase: int = -1
    """The one in which shards were admitted last."""
    used: int = 0
    """What had been written when it began."""
    admitted: int = 0
    """What they can take in it, at most."""


@dataclass
class Ledger:
    """What a data set has cost, by shard. The file is changed under the directory's lock alone."""

    shards: dict[str, ShardLedger] = field(default_factory=dict)
    limit: int | None = None
    """Of tokens; of the recipe that was last gone on with, so that workers that run already keep to another one, too."""
    held_back: int = 0
    """Of these, what nothing is begun with: for what killed workers lose."""
    wave: Wave | None = None
    """null while there is no limit."""
    refused: dict[str, int] | None = None
    """The first shard for which the budget had no room, and the tokens that it needed; null while there was room."""

    def of(self, shard: int) -> ShardLedger:
        return self.shards.setdefault(str(shard), ShardLedger())

    def _look(self, shard: int) -> ShardLedger:
        return self.shards.get(str(shard), NOT_BEGUN)

    def is_whole(self, shards: int) -> bool:
        """Whether all of so many shards are written."""
        return not self.undone(shards)

    @property
    def used(self) -> int:
        return sum(one.used for one in self.shards.values())

    @property
    def reserved(self) -> int:
        return sum(one.reserved for one in self.shards.values())

    def keep_to(self, budget: SynthBudgetConfig) -> None:
        """From now on this is the limit."""
        self.limit = budget.tokens
        self.held_back = int(budget.held_back * (budget.tokens or 0))
        if self.limit is None:
            self.wave = None

    def begin_again(self) -> None:
        """There is something to write again, of each shard."""
        self.wave = None
        for one in self.shards.values():
            one.phase, one.done = 0, False

    def undone(self, shards: int) -> list[int]:
        return [shard for shard in range(shards) if not self._look(shard).done]

    def begin_wave(self, shards: int) -> None:
        """Where there is a limit, and all of the wave is done: a new one."""
        undone = self.undone(shards)
        wave = self.wave
        if self.limit is None or not undone or (wave is not None and any(wave.first <= shard < wave.end for shard in undone)):
            return
        first = undone[0]
        # What a wave was cut off from has texts that wait for their scores: these come before other texts.
        new = (shard for shard in undone if self._look(first).phase > 0 and self._look(shard).phase == 0)
        self.wave = Wave(first, next(new, shards))
        for one in self.shards.values():
            one.admitted = False  # of a wave that was given up: it does not count in this one

    def may_go_on(self, shard: int) -> bool:
        """Whether the next phase of a shard is the one that its wave is in."""
        return bool(self.going_on([shard]))

    def going_on(self, shards: Sequence[int]) -> set[int]:
        """Those that may go on."""
        wave = self.wave
        if wave is None:
            return set(shards)
        phase = self._phase(wave)  # looks at the whole wave
        return {shard for shard in shards if wave.first <= shard < wave.end and self._look(shard).phase == phase}

    def _phase(self, wave: Wave) -> int:
        return min((one.phase for one in map(self._look, range(wave.first, wave.end)) if not one.done), default=-1)

    def undecided(self, shard: int) -> list[int]:
        """The shards before one for which it is to be known first whether there is room."""
        if self.wave is None:
            return []
        phase, before = self._phase(self.wave), range(self.wave.first, shard)
        return [other for other in before if not (one := self._look(other)).done and one.phase == phase and not one.admitted]

    def admit(self, shard: int, tokens: int, *, steps: int) -> Admitted:
        """Whether there is room for the next phase of a shard, of so many tokens at most. steps: how many ask teachers."""
        one, wave = self.of(shard), self.wave
        if self.refused is not None:
            return "no"
        if self.limit is None or wave is None:
            return "yes"
        if not self.may_go_on(shard):
            return "later"
        if one.admitted:
            return "yes"
        if self.undecided(shard):
            return "wait"
        if wave.phase != one.phase:
            wave.phase, wave.used, wave.admitted = one.phase, sum(other.written for other in self.shards.values()), 0
        room = self.limit - self.held_back - wave.used
        if one.phase == 0 and shard != wave.first:
            room //= steps  # room for what later steps ask of these texts
        if wave.admitted + tokens <= room:
            wave.admitted += tokens
            one.admitted = True
            return "yes"
        if shard == wave.first:
            self.refuse(shard, tokens)
            return "no"
        wave.end = shard
        return "later"

    def holds(self, tokens: int) -> bool:
        """Whether so many more can never exceed the limit."""
        return self.limit is None or self.used + self.reserved + tokens <= self.limit

    def refuse(self, shard: int, tokens: int) -> None:
        """There was no room for a shard."""
        left = (self.limit or 0) - self.used
        self.refused = self.refused or {"shard": shard, "needs": tokens, "left": left, "held_back": min(self.held_back, max(0, left))}
