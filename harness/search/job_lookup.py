"""What has become of the jobs of workers that are not seen any more, asked of Slurm before anybody takes their trials over.

A worker's lock is free when its process is gone, or when this machine does not see it any more: a lease of a network file system ran out,
the database lost a session. Slurm knows which of the two, but may be slow or down. So nobody asks while holding the study's lock: a worker
that finds a trial without its worker leaves it alone, asks, and decides when it next looks for work.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from harness.runs.place import AskJobOutcomes, JobOutcome, Place

ASK_SECONDS = 2.0
"""The time between two questions to a cluster that says the jobs are alive."""
PATIENCE_SECONDS = 600.0
"""A cluster that does not answer for so long is not waited for: what the locks say decides alone."""
log = logging.getLogger(__name__)


class JobLookup:
    """What one worker knows of the jobs of others."""

    def __init__(self, ask: AskJobOutcomes | None = None, *, own: Place | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """ask: None where no cluster can be asked, as on a laptop: then the locks decide alone. own: where this worker sits."""
        self._ask = ask
        self._own = own
        self._clock = clock
        self._outcomes: dict[Place, JobOutcome] = {}
        self._missed: dict[Place, float] = {}
        """Places whose workers are not seen, and since when nothing was heard of them."""
        self._noticed: set[Place] = set()
        """Those of them that were met since the last question."""
        self._asked = -ASK_SECONDS

    def outcome(self, place: Place | None) -> JobOutcome:
        """What became of the job of a worker that is not seen any more; "alive" for as long as nobody has asked."""
        if place is None or place.job is None or self._ask is None:
            return "ended"
        if self._own is not None and (place.job, place.restart) == (self._own.job, self._own.restart):
            # A life of a job has one worker, and that is we: what the cluster says of it is about us. So the other one is over: the
            # controller was killed and started the job once more without counting it, or we have come back under another name.
            return "interrupted"
        self._noticed.add(place)
        silent = self._clock() - self._missed.setdefault(place, self._clock())
        return self._outcomes.get(place, "ended" if silent > PATIENCE_SECONDS else "alive")

    def ask(self) -> None:
        """Ask after all jobs that were missed, with one question; never with the study's lock held, since the answer may take long."""
        now = self._clock()
        if not self._noticed or self._ask is None or now - self._asked < ASK_SECONDS:
            return
        self._asked = now
        places = sorted(self._noticed - self._outcomes.keys(), key=lambda place: place.job or "")
        self._missed = {place: self._missed[place] for place in self._noticed}
        self._noticed = set()
        answer = self._ask(places) if places else {}
        if answer is None:
            log.warning("Slurm does not answer: trials whose workers are not seen are left alone for now: %d", len(places))
            return
        self._missed.update(dict.fromkeys(places, self._clock()))
        # What is over stays so; what is alive is asked after again.
        self._outcomes.update({place: outcome for place, outcome in answer.items() if outcome != "alive"})
