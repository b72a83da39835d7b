"""The runs by which a study confirms its best by itself (search.confirm): claimed under the study's own lock, paid for by its budget.

They are trials of the study's confirmation (runs/STUDY-confirm), where `harness confirm` finds them as well. The plan is written before a
run begins, and is its reservation: whoever dies in between, the next worker begins the run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property
from typing import Any

from harness.runs.confirmation import ENOUGH_SEEDS, Confirmation, confirmation_of
from harness.runs.confirmation_plan import ConfirmationPlan, confirmation_directory, launch_of, read_plan
from harness.runs.files import read_yaml
from harness.runs.record import RunRecord, StudyRecord
from harness.runs.result import Result
from harness.runs.trial import Trial
from harness.search.budget import Amounts, Budget
from harness.search.confirm import confirmation_sweep, empty_plan, seed_at, write_confirmation
from harness.search.race import next_run
from harness.search.reserve import candidates_at_once, held_back, held_back_for_one, holds_two_races, spent_on
from harness.search.study import Answer, Claim, Study
from harness.search.sweep import Sweep

PROBE_AT = 0.5
"""Of the budget: from there on a search that learns from fresh seeds has half of what is held back for them."""


class ConfirmationRuns:
    """What a study's worker does for the confirmation. All of it happens under the study's lock."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self.directory = confirmation_directory(study.directory)
        self._plan: ConfirmationPlan | None = None
        self._runs: _Runs | None = None
        self._held = ExitStack()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Exclusive access to the runs, for whoever has the study's lock."""
        with ExitStack() as self._held:
            plan = read_plan(self.directory) if self.directory.path.is_dir() else None
            if plan is not None and plan.launched == launch_of(self._launched):
                self._follow(plan)
            yield

    def _follow(self, plan: ConfirmationPlan) -> None:
        """Take up what the plan says now."""
        if self._runs is None:
            if not self.directory.sweep.exists():
                write_confirmation(self._record(None), self._study.sweep, plan, self._study.sweep.config.launcher)
            self._runs = _Runs(self, confirmation_sweep(self._record(None), self._study.sweep, plan, self._study.sweep.config.launcher))
        elif self._plan != plan:
            self._runs.go_on_with(confirmation_sweep(self._record(None), self._study.sweep, plan, self._study.sweep.config.launcher))
        self._plan = plan
        self._held.enter_context(self._runs.storage.locked())

    @cached_property
    def _launched(self) -> dict[str, Any]:
        """sweep.yaml of the study."""
        return read_yaml(self._study.directory.sweep)

    def of(self, claim: Claim) -> Study | None:
        """Whose the claim is, if it is one of these runs."""
        return self._runs if claim.run.path.parent.parent == self.directory.path else None

    @property
    def charged(self) -> list[int]:
        return self._plan.charged if self._plan else []

    def paid_for(self, instead: dict[int, Result] | None = None) -> list[RunRecord]:
        """The runs that the study's budget pays for, planned ones among them. instead: results that are not written yet."""
        if self._runs is None:
            return []
        known = {record.number: record for record in self._runs.records()}
        found = [known.get(number) or self._runs.planned(number) for number in self.charged]
        return [
            dataclasses.replace(record, result=instead[record.number], state=instead[record.number].state)
            if instead and record.number in instead
            else record
            for record in found
        ]

    # What the study asks.

    def left(self) -> Answer:
        """A run that was left, or that was planned and not begun; wait: others are under way."""
        return "done" if self._runs is None else self._runs.next()

    def held_back(self) -> Amounts:
        """What the search may not spend while its best is not confirmed."""
        return held_back(self._study.sweep, self.paid_for())

    def held_back_at_last(self, budget: Budget) -> Amounts:
        """The same, where all that was found is confirmed."""
        return held_back_for_one(self._study.sweep, budget)

    def is_probing(self, budget: Budget) -> bool:
        """Whether the search should learn now how fresh seeds move what it has found."""
        if not self._study.learns_from_fresh_seeds or not holds_two_races(self._study.sweep):
            return False
        spent, held = spent_on(self.paid_for()), self.held_back()
        accounts = budget.to_json()
        used = max(((account["used"] + account["reserved"]) / account["limit"] for account in accounts.values()), default=0.0)
        return used >= PROBE_AT and all(getattr(spent, unit) < getattr(held, unit) for unit in accounts)

    def holds_one_more_alone(self, budget: Budget) -> bool:
        """Whether somebody could begin, nobody has, and what is left is not enough for two candidates."""
        if self._runs is not None or self._runs_left(budget) >= 2 * ENOUGH_SEEDS:
            return False
        return self._wanted(self._record(None), budget) is not None

    def _wanted(self, study: StudyRecord, budget: Budget) -> tuple[int, int] | None:
        """The candidate that gets a further seed, and the place of that seed."""
        return next_run(study, self._study.sweep, candidates_at_once(self._study.sweep), self._runs_left(budget))

    def _runs_left(self, budget: Budget) -> int:
        sweep = self._study.sweep
        return budget.runs_left(sweep.largest_trial_tokens, devices=sweep.devices, workers=sweep.config.launcher.workers)

    def start_next(self, budget: Budget) -> Answer:
        """The run that would change the decision most, if the budget holds it; done: none is to be begun now. Whether some are under way,
        `left` says: one that `harness confirm` began and left is for nobody here to wait for."""
        tokens, devices = self._study.sweep.largest_trial_tokens, self._study.sweep.devices
        if not budget.has_room_for(tokens, devices=devices):
            return "done"
        study, plan = self._record(self._confirmation()), self._plan
        begun = self._runs.count if self._runs else 0
        if plan is not None and begun < len(plan.runs):
            # `harness confirm` planned it, and was stopped.
            plan = dataclasses.replace(plan, charged=[*plan.charged, begun])
        else:
            wanted = self._wanted(study, budget)
            if wanted is None:
                return "done"
            plan = plan or empty_plan(study, self._study.sweep)
            run = {"candidate": wanted[0], "seed": seed_at(plan, wanted[1])}
            plan = dataclasses.replace(plan, runs=[*plan.runs, run], charged=[*plan.charged, len(plan.runs)])
        self.directory.path.mkdir(exist_ok=True)
        write_confirmation(study, self._study.sweep, plan, self._study.sweep.config.launcher)
        if self._runs is None:
            self._follow(plan)
        else:
            self._plan = plan
            self._runs.go_on_with(confirmation_sweep(study, self._study.sweep, plan, self._study.sweep.config.launcher))
        assert self._runs is not None, "it has a plan"
        return self._runs.next()

    def _confirmation(self) -> Confirmation | None:
        if self._plan is None or self._runs is None:
            return None
        known = {record.number: record.result for record in self._runs.records()}
        return confirmation_of(self.directory, self._plan, self._launched, lambda number: known.get(number) or Result())

    def _record(self, confirmation: Confirmation | None) -> StudyRecord:
        return StudyRecord(self._study.directory, self._launched, self._study.records(), confirmation)

    def budget(self, instead: dict[int, Result] | None = None) -> Budget:
        """The study's, given results of these runs that are not written yet."""
        return self._study.budget_beside(self.paid_for(instead))

    def exclusive(self) -> AbstractContextManager[None]:
        """The study's lock, and with it that of these runs."""
        return self._study.exclusive()


class _Runs(Study):
    """The confirmation's own record: like that of any study, but what is begun is decided by the study that it confirms."""

    def __init__(self, outer: ConfirmationRuns, sweep: Sweep) -> None:
        self._outer = outer
        study = outer._study
        super().__init__(
            outer.directory,
            sweep,
            study.worker,
            study.storage.beside(outer.directory),
            place=study.place,
            job_lookup=study.job_lookup,
            threads=study.threads,
            clock=study.clock,
        )

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._outer.exclusive():
            yield

    @property
    def count(self) -> int:
        """How many have begun."""
        return self._index.count

    def next(self) -> Answer:
        """As `claim`, for whoever has the locks."""
        return self._next()

    def go_on_with(self, sweep: Sweep) -> None:
        self.sweep = sweep
        self._settler = dataclasses.replace(self._settler, sweep=sweep)
        self._proposer = dataclasses.replace(self._proposer, sweep=sweep)

    def planned(self, number: int) -> RunRecord:
        """A run that has not begun."""
        trial = Trial(number=number, params=None, tokens=self.sweep.trial_tokens(self.sweep.start.points[number]))
        return RunRecord(self.directory.trial(number), Result(), self.directory.name, trial, "waiting")

    def _is_ours(self, number: int) -> bool:
        return number in self._outer.charged

    def _refuse_repeated_failures(self) -> None:
        """A candidate that fails is out of the race; the others go on."""

    def _budget(self, instead: dict[int, Result] | None = None) -> Budget:
        return self._outer.budget(instead)

    def _start(self, number: int, under_way: int) -> Answer:
        if number not in self._outer.charged:
            return "wait" if under_way else "done"
        point = self.sweep.start.points[number]
        trial = Trial(number=number, params=None, tokens=self.sweep.trial_tokens(point), given=point)
        return self._reserve(trial, self._budget(), under_way)
