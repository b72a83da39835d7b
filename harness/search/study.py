"""A running study: workers claim trials and settle them. Optuna proposes and records; the trials' own files are the truth.

Every step happens under the study's lock. A trial that has not ended belongs to the process that holds its attempt lock, or to the
worker that claimed it and holds its worker lock; when neither lives, the next worker takes the trial over, with its number, its
parameters and its last checkpoint.
"""

from __future__ import annotations

import dataclasses
import math
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from harness.config.errors import InputError
from harness.config.validate import to_plain
from harness.runs.clock import now
from harness.runs.directory import RunDirectory, StudyDirectory
from harness.runs.files import write_json, write_yaml
from harness.runs.place import Place
from harness.runs.record import RunRecord
from harness.runs.result import FINAL_STATES, Result, read_result
from harness.runs.trial import ClaimedBy, Trial, claimed_trial, read_trial, write_trial
from harness.search.budget import SHORTEST_SECONDS, Budget, still_to_spend
from harness.search.job_lookup import JobLookup
from harness.search.late_parameters import LateParameters
from harness.search.proposer import Proposer
from harness.search.repeated_failures import refuse_repeated_failures
from harness.search.reserve import confirms_itself
from harness.search.settle import Clock, Settler
from harness.search.stopping import EarlyStopping
from harness.search.storage.build import open_storage
from harness.search.storage.contract import StudyStorage
from harness.search.sweep import Sweep
from harness.search.trunk_claims import TrunkClaims
from harness.search.workers import threads_per_worker

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy

    from harness.search.confirmation_runs import ConfirmationRuns


@dataclass(frozen=True)
class Claim:
    """A trial that belongs to one worker until it is settled."""

    number: int
    run: RunDirectory
    lease_ends: float = field(default=math.inf, compare=False)
    """When its attempt has to be over, in seconds since the epoch."""


Answer = Claim | Literal["wait", "done"]
"""wait: nothing now, but trials under way may yet free budget or be left to others; done: nothing is left."""


class Study:
    """A worker's access to a study."""

    def __init__(
        self,
        directory: StudyDirectory,
        sweep: Sweep,
        worker: str,
        storage: StudyStorage | None = None,
        *,
        place: Place | None = None,
        job_lookup: JobLookup | None = None,
        threads: int | None = None,
        clock: Clock = now,
    ) -> None:
        """Args: place, where the worker runs; job_lookup, what became of other workers' jobs; threads, of the trials' training on a CPU (by
        default an equal share of the machine's cores)."""
        self.directory = directory
        self.sweep = sweep
        self.worker = worker
        self.place = place or Place(node=socket.gethostname())
        self.storage = storage or open_storage(directory, worker)
        self.job_lookup = job_lookup or JobLookup()
        self.clock = clock
        self.threads = threads or threads_per_worker(sweep.config.launcher.workers)
        # Composes every choice of a group: not while others wait for the lock.
        self._largest_trial_tokens = sweep.largest_trial_tokens
        self._late = LateParameters(sweep)
        self._trunk_claims = TrunkClaims(directory, sweep, self._late) if sweep.config.search.name == "trunk" else None
        self._keeps_trunks = self._trunk_claims is not None or sweep.config.search.trunks == "always" or self._late.trials_share_steps
        with self.storage.locked():
            self._optuna = _open(self.storage, directory.name, [objective.direction for objective in sweep.objectives])
        self._index = self.storage.trial_index(self._optuna._storage, self._optuna._study_id)
        self._early_stopping = EarlyStopping(sweep, self._optuna, self._index, self.storage)
        self._proposer = Proposer(sweep, self._optuna, self._index, self._trunk_claims)
        self._settler = Settler(directory, sweep, self._optuna, self.storage, self._index, self.job_lookup, clock, self._budget)
        with self.storage.locked():
            self._failed_before = {record.number for record in self._index.failed()}
        self._confirmation: ConfirmationRuns | None = None
        if confirms_itself(sweep):
            from harness.search.confirmation_runs import ConfirmationRuns  # which are claimed as a study's are

            self._confirmation = ConfirmationRuns(self)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """The study's lock, and that of its confirmation."""
        with self.storage.locked(), self._confirmation.locked() if self._confirmation else nullcontext():
            yield

    def _owner(self, claim: Claim) -> Study:
        """Whose trial a claim is of: this study's, or its confirmation's."""
        return (self._confirmation.of(claim) if self._confirmation else None) or self

    def seconds_left(self, claim: Claim) -> float:
        """Until the attempt on a trial has to be over."""
        return claim.lease_ends - self.clock()

    # Claiming.

    def claim(self) -> Answer:
        """Take over a trial that was left, or start a new one that fits the budget.

        Raises InputError when trials fail for one and the same reason since this worker started and none is complete, or in a long row.
        """
        with self.exclusive():
            return "done" if self.directory.stop_request.exists() else self._next()

    def _next(self) -> Answer:
        while True:
            waiting, under_way = self._settler.reconcile()
            waiting = [number for number in waiting if self._is_ours(number)]
            self._refuse_repeated_failures()
            number = self._choose(waiting) if waiting else self._index.count
            known = read_trial(self.directory.trial(number))
            if known is None:
                return self._start(number, under_way)
            if not waiting and known.params is not None and (result := read_result(self.directory.trial(number))).state in FINAL_STATES:
                # Optuna's record was made anew.
                self._proposer.restore(number, known.params)
                self._settler.record_end(self.directory.trial(number), result)
                continue
            # A trial that was left, or one that was reserved by a worker that died before Optuna heard of it.
            lease = self._lease(known, under_way)
            if lease is not None:
                return self._take(number, lease)
            if under_way:
                return "wait"
            claim = self._take(number, 0.0)
            self._settler.fail(claim.run, "the budget of time cannot hold another attempt")

    def _is_ours(self, number: int) -> bool:
        """Whether a trial that was left is for these workers."""
        return True

    def _choose(self, waiting: list[int]) -> int:
        """The trial that this job had before Slurm requeued it, if it waits; else the one that was left with the lowest number."""
        if self.place.job is not None:
            for number in waiting:
                trial = read_trial(self.directory.trial(number))
                if trial and trial.place and trial.place.job == self.place.job:
                    return number
        return waiting[0]

    def _start(self, number: int, under_way: int) -> Answer:
        """A new trial, or a run that confirms what was found, if one fits the budget."""
        budget = self._budget()
        if self._confirmation is not None:
            answer = self._search_or_confirm(self._confirmation, number, under_way)
            if isinstance(answer, Claim):
                return answer
            under_way += answer == "wait"
        elif self._awaits_results():
            return "wait"
        elif trial := self._proposed(number, budget):
            return self._reserve(trial, budget, under_way)
        if not under_way and (self._trunk_claims is not None or self._confirmation is not None):
            # Its runs have many lengths, or uses: whether another one fits is not seen from the budget alone.
            runs = {"confirming": len(self._confirmation.charged)} if self._confirmation else {}
            write_json(self.directory.exhausted, {"trials": number, "limits": budget.limits, **runs})
        return "wait" if under_way else "done"

    def _search_or_confirm(self, confirmation: ConfirmationRuns, number: int, under_way: int) -> Answer:
        """A run over a fresh seed, or the next trial of the search. The search goes first, but for what is held back; what is left of that
        when its best is confirmed, it may spend, as long as one more could be confirmed."""
        budget = self._budget()
        answer = confirmation.left()
        if isinstance(answer, Claim):
            return answer
        if confirmation.is_probing(budget) and isinstance(probe := confirmation.start_next(budget), Claim):
            return probe
        if self._awaits_results():
            return "wait"
        of_search = budget.holding_back(confirmation.held_back())
        if trial := self._proposed(number, of_search):
            return self._reserve(trial, of_search, under_way)
        if under_way and confirmation.holds_one_more_alone(budget):
            return "wait"  # what is still searched may be better, and no other one could be judged after this
        further = confirmation.start_next(budget)
        if further != "done" or answer == "wait":
            return further if further != "done" else answer
        of_search = budget.holding_back(confirmation.held_back_at_last(budget))
        if trial := self._proposed(number, of_search):
            return self._reserve(trial, of_search, under_way)
        return "done"

    def _awaits_results(self) -> bool:
        """Whether so much of a trunk search is under way that its next trial had better be chosen by what comes of that."""
        if self._trunk_claims is None:
            return False
        return self._index.budget(self.sweep, now=self.clock()).tokens.reserved >= self._trunk_claims.most_under_way

    def _proposed(self, number: int, budget: Budget) -> Trial | None:
        """The reservation of the next trial of the search, if one fits the budget."""
        if self._trunk_claims is not None:
            return self._trunk_claims.next(number, self._index.records(), budget)
        fits = budget.has_room_for(self._largest_trial_tokens, devices=self.sweep.devices)
        return Trial(number=number, params=None, tokens=self._largest_trial_tokens) if fits else None

    def _reserve(self, trial: Trial, budget: Budget, under_way: int) -> Claim:
        """Begin a trial for which there is room."""
        number = trial.number
        lease = budget.lease(trial.tokens, devices=self.sweep.devices, workers=self._free_workers(under_way))
        assert lease is not None, "there is room for it"
        # The reservation comes first: whatever happens from here on, the budget knows of this trial.
        trial.worker, trial.devices = self.worker, self.sweep.devices
        self._write_trial(self.directory.trial(number), self._begun(trial, lease))
        return self._take(number, lease)

    def _budget(self, instead: dict[int, Result] | None = None) -> Budget:
        """What the study has spent and promised. instead: results that are not written yet."""
        paid_for = self._confirmation.paid_for() if self._confirmation else ()
        return self._index.budget(self.sweep, now=self.clock(), instead=instead, beside=paid_for)

    def budget_beside(self, runs: Sequence[RunRecord]) -> Budget:
        """The same, with these runs of its confirmation."""
        return self._index.budget(self.sweep, now=self.clock(), beside=runs)

    def records(self) -> list[RunRecord]:
        """All trials, in the order of their numbers."""
        return self._index.records()

    @property
    def learns_from_fresh_seeds(self) -> bool:
        """Whether the search goes by how fresh seeds move its constraints."""
        return self._trunk_claims is not None and bool(self.sweep.config.constraints)

    def _lease(self, trial: Trial, under_way: int) -> float | None:
        run = self.directory.trial(trial.number)
        if trial.began is not None:
            # Nothing ran: who reserved it is gone.
            trial.began = trial.lease = None
            self._write_trial(run, trial)
        left = still_to_spend(read_result(run).tokens, trial)
        return self._budget().lease(left, devices=trial.devices, workers=self._free_workers(under_way), spent=trial.seconds)

    def _free_workers(self, under_way: int) -> int:
        return max(1, self.sweep.config.launcher.workers - under_way)

    def _begun(self, trial: Trial, lease: float) -> Trial:
        trial.began, trial.lease = self.clock(), None if lease == math.inf else lease
        return trial

    def _take(self, number: int, lease: float) -> Claim:
        run = self.directory.trial(number)
        trial = claimed_trial(run)
        self._proposer.run(trial)
        trial.worker = self.worker
        trial.claims.append(ClaimedBy(worker=self.worker, place=self.place, began=self.clock()))
        # From here on the trial has its values: Optuna must not learn of it without them.
        self.storage.flush()
        self._write_trial(run, self._begun(trial, lease))
        return Claim(number, run, trial.lease_ends)

    def _write_trial(self, run: RunDirectory, trial: Trial) -> None:
        write_trial(run, trial)
        self._index.touch(trial.number)

    def prepare(self, claim: Claim) -> bool:
        """Write the trial's configuration; False, and the trial is failed, when its values do not go together."""
        if (owner := self._owner(claim)) is not self:
            return owner.prepare(claim)
        if claim.run.config.exists():
            return True
        trial = claimed_trial(claim.run)
        assert trial.params is not None, "a claimed trial has its values"
        try:
            config = self.sweep.trial_config(trial.params)
        except InputError as error:
            with self.exclusive():
                self._settler.fail(claim.run, str(error))
            return False
        if config.trainer.threads is None:
            config = dataclasses.replace(config, trainer=dataclasses.replace(config.trainer, threads=self.threads))
        if self.sweep.config.search.trunks != "never":
            # Before the configuration, which says that all is there.
            variants = self._late.variants(trial.params, config) if self._keeps_trunks else []
            write_json(claim.run.related_trials, {"relatives": variants, "disk_gb": self.sweep.config.search.trunk_disk_gb})
        write_yaml(claim.run.config, to_plain(config))
        return True

    # While it runs.

    def watch(self, claim: Claim) -> str | None:
        """Report new evaluations of an attempt to Optuna; why the trial is given up, or None.

        The decision is on disk before anybody acts on it, so that whoever settles the trial finds it.
        """
        if (owner := self._owner(claim)) is not self:
            return owner.watch(claim)
        reason = self._early_stopping.reason(claim.number, claim.run)
        if reason is not None:
            with self.storage.locked():
                trial = claimed_trial(claim.run)
                trial.given_up = reason
                self._write_trial(claim.run, trial)
        return reason

    def extend(self, claim: Claim) -> Claim | None:
        """The claim with a longer lease, if the budget and the trial's own limit hold one; None where they do not."""
        if (owner := self._owner(claim)) is not self:
            return owner.extend(claim)
        with self.exclusive():
            trial = claimed_trial(claim.run)
            assert trial.lease is not None, "without a lease there is nothing to extend"
            spent = trial.seconds + trial.lease
            asked = max(SHORTEST_SECONDS, trial.lease / 2)
            budget = self._budget()
            if self._confirmation is not None:
                budget = budget.holding_back(self._confirmation.held_back_at_last(budget))
            more = budget.extension(asked, devices=trial.devices, ends=trial.lease_ends, spent=spent)
            if more is None:
                return None
            trial.lease += more
            self._write_trial(claim.run, trial)
            return dataclasses.replace(claim, lease_ends=trial.lease_ends)

    # Settling.

    def settle(self, claim: Claim, exit_code: int, *, stopping: bool = False, expired: bool = False, why: str | None = None) -> Result:
        """Book the end of an attempt: the trial ends, or is left for another attempt.

        stopping: whether the worker is leaving, and has asked the attempt to end; expired: whether it ended with its lease.
        why: it failed, where its own files cannot know.
        """
        if (owner := self._owner(claim)) is not self:
            return owner.settle(claim, exit_code, stopping=stopping, expired=expired, why=why)
        with self.exclusive():
            return self._settler.settle(claim.run, exit_code, stopping=stopping, expired=self._out_of_time() if expired else None, why=why)

    def _out_of_time(self) -> str:
        budget = self.sweep.config.budget
        units = {unit: getattr(budget, unit) for unit in ("trial_hours", "gpu_hours", "wall_hours")}
        limits = ", ".join(f"budget.{unit}={limit}" for unit, limit in units.items() if limit is not None)
        return f"it ran for as long as the budget of time allows ({limits})"

    def _refuse_repeated_failures(self) -> None:
        refuse_repeated_failures(self._index, self.sweep.config.search.max_failures, self._failed_before)


def _open(storage: StudyStorage, name: str, directions: list[Literal["minimize", "maximize"]]) -> OptunaStudy:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(storage=storage.optuna, study_name=name, directions=directions, load_if_exists=True)
