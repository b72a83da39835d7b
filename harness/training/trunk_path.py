"""A run along shared trunks: the state it begins from, the states it stores for others, and when it has to wait."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.config.schema import Config
from harness.models.checkpoint_files import checkpoint_path, trunk_problem
from harness.runs.directory import RunDirectory
from harness.runs.trunks import Lease, Trunk, TrunkInfo, TrunkStore, trunk_key
from harness.training.run_errors import TrunkUnderWayError
from harness.training.shared_steps import Prefix

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trunks:
    """The trunks of a run's study."""

    store: TrunkStore
    related: tuple[Config, ...] = ()
    """Configurations that may share this run's first steps: where they branch off, or go on, its state is stored."""
    reserved_tokens: int | None = None
    """What the run may train; None: as much as it needs."""


class TrunkPath:
    """One attempt of a run along the trunks."""

    def __init__(self, run: RunDirectory, prefix: Prefix, store: TrunkStore, branch_steps: Iterable[int]) -> None:
        """Args: branch_steps, the steps after which others may leave this run's path, or go on along it: what is stored."""
        self.run = run
        self.prefix = prefix
        self.store = store
        self.branch_steps = sorted(step for step in set(branch_steps) if 0 < step < prefix.plan.steps)
        self._lease: Lease | None = None

    def begin(self, own_step: int) -> tuple[Trunk, Path] | None:
        """Take over the deepest stored state of this run's path if it is deeper than `own_step`, the run's own checkpoint: the trunk, and
        the path of the checkpoint in the run's directory; None where the run goes on from what it has itself.

        Raises TrunkUnderWayError when another run trains just now what this one would, and is going to store it.
        """
        while True:
            trunk = self.store.deepest(lambda: self.prefix.digests, below=self.prefix.plan.steps)
            if trunk is None or trunk.info.step <= own_step:
                self._train_on_from(own_step)
                return None
            problem = trunk_problem(trunk)
            if problem is not None:
                if trunk.path.exists():  # else it was evicted meanwhile
                    log.warning("trunk %s is damaged (%s): put aside", trunk.path, problem)
                self.store.put_aside(trunk)
                continue
            self._train_on_from(trunk.info.step)
            rows = trunk.rows
            path = checkpoint_path(self.run.checkpoints, trunk.info.step)
            # Texts before their rows, and rows before the checkpoint: a resumed run lacks none of them.
            for step, texts in trunk.texts.items():
                self.run.generations.append(step, texts)
            for row in rows:
                self.run.metrics.append(row)
            if trunk.take(path):
                log.info("goes on from step %d, which %s has trained", trunk.info.step, trunk.info.run)
                return trunk, path
            self.end()

    def _train_on_from(self, step: int) -> None:
        # Most runs meet nobody: they are spared the digests.
        if not self.branch_steps and not self.store.has_leases():
            return
        digests = self.prefix.digests
        if step + 1 >= len(digests):
            return
        keys = self._keys(after=step)
        lease = self.store.lease(digests[step + 1], keys)
        if lease is None:
            useful = {trunk_key(at, digest) for at, digest in enumerate(digests) if at > step}
            if useful.intersection(self.store.promised(digests[step + 1])):
                raise TrunkUnderWayError("another run trains its trunk", self.store.lease_lock(digests[step + 1]))
            return
        self._lease = lease

    def _keys(self, after: int) -> list[str]:
        return [trunk_key(step, self.prefix.digests[step]) for step in self.branch_steps if step > after]

    def store_state(self, step: int, checkpoint: Path) -> None:
        """Store the state after `step`, whose checkpoint is at `checkpoint`. A failure is logged, and does no harm."""
        key = trunk_key(step, self.prefix.digests[step])
        rows = [row for row in self.run.metrics.rows() if row["step"] <= step]
        texts = {at: written for at, written in self.run.generations.by_step().items() if at <= step}
        info = TrunkInfo(step=step, tokens=self.prefix.plan.tokens_after(step), run=self.run.name)
        try:
            self.store.store(key, checkpoint, rows, info, texts=texts)
        except OSError as error:
            log.warning("the trunk of step %d cannot be stored: %s", step, error.strerror)
        self.end()
        digests = self.prefix.digests
        self._lease = self.store.lease(digests[step + 1], self._keys(after=step))

    def end(self) -> None:
        """Give the lease back."""
        if self._lease is not None:
            self._lease.release()
            self._lease = None
