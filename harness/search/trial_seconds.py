"""How long a trial should need: a part that every attempt takes (start-up, evaluations), and so much for each token that it trains."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

LENGTHS_PER_DOUBLING = 8
"""Trials whose lengths differ by less than a tenth count as equally long."""


@dataclass
class TrialSeconds:
    """An upper bound, learned from the trials that have ended. What it keeps does not grow with their number."""

    slowest: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Tokens and seconds of the slowest trial of each length."""

    def add(self, tokens: int, seconds: float) -> None:
        """Count a complete trial. tokens: those that it trained itself, > 0; seconds: over all its attempts."""
        if not seconds:
            return  # the clock was set back under way
        length = round(LENGTHS_PER_DOUBLING * math.log2(tokens))
        if length not in self.slowest or self.slowest[length][1] < seconds:
            self.slowest[length] = (tokens, seconds)

    def copy(self) -> TrialSeconds:
        return TrialSeconds(dict(self.slowest))

    def needed(self, tokens: int) -> float | None:
        """What a trial that trains so many tokens needs at the most; None before one has ended.

        A line through the slowest trials of each length by least squares, raised until none lies above it. Runs that are longer than any
        so far are taken in proportion to the longest: a line through short runs alone says little of them.
        """
        if not self.slowest:
            return None
        start, pace = self._line()
        longest = max(length for length, _ in self.slowest.values())
        above = max(seconds / (start + pace * length) for length, seconds in self.slowest.values())
        return above * (start + pace * min(tokens, longest)) * max(1.0, tokens / longest)

    def _line(self) -> tuple[float, float]:
        """Seconds before the first token, and seconds for each, neither below 0."""
        points = list(self.slowest.values())
        mean_tokens = sum(tokens for tokens, _ in points) / len(points)
        mean_seconds = sum(seconds for _, seconds in points) / len(points)
        spread = sum((tokens - mean_tokens) ** 2 for tokens, _ in points)
        together = sum((tokens - mean_tokens) * (seconds - mean_seconds) for tokens, seconds in points)
        if spread and together <= 0:
            return mean_seconds, 0.0
        if spread and (start := mean_seconds - together / spread * mean_tokens) > 0:
            return start, together / spread
        # One length, or a line that would begin below 0: in proportion.
        return 0.0, mean_seconds / mean_tokens
