"""The jobs of workers that are no longer seen: Slurm is asked for their outcome before their trials are taken over.

A worker's lock is free when its process is gone, or when this machine does not see it any more: a lease of a network file system ran out,
the database lost a session. Slurm knows which of the two, but may be slow or down. So nobody asks while holding the study's lock: a worker
that finds a trial without its worker leaves it alone, asks, and decides when it next looks for work.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field

from harness.runs.place import AskJobOutcomes, JobOutcome, Place

ASK_SECONDS = 2.0
"""The time between two questions to a cluster that says the jobs are alive."""
PATIENCE_SECONDS = 600.0
"""A cluster that does not answer for so long is not waited for: what the locks say decides alone."""
log = logging.getLogger(__name__)


@dataclass
class JobLookup:
    """What one worker knows of the others' jobs."""

    ask_cluster: AskJobOutcomes | None = None
    """None where no cluster can be asked, as on a laptop: then the locks decide alone."""
    _: KW_ONLY
    own: Place | None = None
    """Where this worker runs."""
    clock: Callable[[], float] = time.monotonic
    _outcomes: dict[Place, JobOutcome] = field(default_factory=dict, init=False)
    _missed: dict[Place, float] = field(default_factory=dict, init=False)
    """Places whose workers are not seen, and since when nothing was heard of them."""
    _noticed: set[Place] = field(default_factory=set, init=False)
    """Those of them that were met since the last question."""
    _asked: float = field(default=-ASK_SECONDS, init=False)

    def outcome(self, place: Place | None) -> JobOutcome:
        """The outcome of the job of a worker that is no longer seen; "alive" until Slurm was asked."""
        if place is None or place.job is None or self.ask_cluster is None:
            return "ended"
        if self.own is not None and (place.job, place.restart) == (self.own.job, self.own.restart):
            # A life of a job has one worker, and that is we: what the cluster says of it is about us. So the other one is over: the
            # controller was killed and started the job once more without counting it, or we have come back under another name.
            return "interrupted"
        self._noticed.add(place)
        silent = self.clock() - self._missed.setdefault(place, self.clock())
        return self._outcomes.get(place, "ended" if silent > PATIENCE_SECONDS else "alive")

    def ask(self) -> None:
        """Ask for the outcome of all missed jobs, in one call; never under the study's lock, since the answer may take long."""
        now = self.clock()
        if not self._noticed or self.ask_cluster is None or now - self._asked < ASK_SECONDS:
            return
        self._asked = now
        places = sorted(self._noticed - self._outcomes.keys(), key=lambda place: place.job or "")
        self._missed = {place: self._missed[place] for place in self._noticed}
        self._noticed = set()
        answer = self.ask_cluster(places) if places else {}
        if answer is None:
            log.warning("Slurm does not answer: trials whose workers are not seen are left alone for now: %d", len(places))
            return
        self._missed.update(dict.fromkeys(places, self.clock()))
        # What is over stays so; what is alive is asked after again.
        self._outcomes.update({place: outcome for place, outcome in answer.items() if outcome != "alive"})
