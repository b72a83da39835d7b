"""Trunk search on a study's files: the next proposal that fits the budget, and the tokens to reserve for it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from harness.config.checks.schedule import parts_in_steps
from harness.config.checks.trainer import planned_steps
from harness.config.errors import InputError
from harness.runs.confirmation import read_confirmation
from harness.runs.constraints import margins
from harness.runs.directory import StudyDirectory
from harness.runs.files import read_yaml
from harness.runs.fresh_seeds import shifts_of_candidates
from harness.runs.record import RunRecord
from harness.runs.trial import Trial
from harness.runs.trunks import Trunk, TrunkStore
from harness.search.budget import Budget, is_timed
from harness.search.cube import Cube
from harness.search.joint import Prices, joint_proposals
from harness.search.late_parameters import LateParameters
from harness.search.next_candidates import metrics_over_fresh_seeds
from harness.search.prospects import bounds_to_aim_at
from harness.search.reserve import SHARE, confirms_itself
from harness.search.seed_scatter import scatters_of
from harness.search.surrogate import FEWEST
from harness.search.sweep import Sweep
from harness.search.trunk_search import (
    Proposal,
    Rungs,
    TrialSummary,
    best_of_any_rung,
    proposals,
    rung_lengths,
    trials_to_learn_from,
)

TRUNK_SCHEDULES = ("wsd", "infinite")
"""Those whose runs of several lengths have their beginnings in common."""
IN_A_ROW = 5
"""Runs of full length, at least, that a search makes one after the other: what is begun beside others is chosen without what they find,
and a small budget holds few."""


@dataclass
class TrunkClaims:
    """What a trunk search starts next."""

    directory: StudyDirectory
    sweep: Sweep
    late: LateParameters

    @cached_property
    def rungs(self) -> Rungs:
        return rungs_of(self.sweep, self.late)

    @cached_property
    def most_under_way(self) -> float:
        """Tokens of trials under way from which on no other one begins."""
        runs = at_once(self.sweep)
        return math.inf if runs is None else (runs - 0.5) * self.sweep.largest_trial_tokens

    def next(self, number: int, records: Sequence[RunRecord], budget: Budget) -> Trial | None:
        """The reservation of trial `number`; None when no proposal fits the budget.

        A short run is worth its tokens if a run of full length may follow from it: without room for both it does not begin, unless no run
        has full length, nor will have.
        """
        seen = self._seen(records)
        stored = list(self._store.trunks())
        names = {record.number: record.name for record in records if record.number is not None}
        has_full = any(trial.rung == self.rungs.last and trial.state in ("complete", "running", "waiting") for trial in seen)
        fallback = None
        for raw in self._proposals(number, seen, names, stored):
            proposal = raw if raw.params is None else replace(raw, params=self.sweep.valid(raw.params))
            tokens = self._tokens(proposal, seen, names, stored)
            trial = Trial(number=number, params=None, tokens=tokens, rung=proposal.rung, parent=proposal.parent, given=proposal.params)
            is_full = proposal.rung == self.rungs.last
            further = 0 if is_full else self._tokens_from_there(proposal)
            if budget.has_room_for(tokens + further, devices=self.sweep.devices, trials=1 if is_full else 2):
                return trial
            if fallback is None and not has_full and budget.has_room_for(tokens, devices=self.sweep.devices):
                fallback = trial
        return fallback

    def _proposals(self, number: int, seen: Sequence[TrialSummary], names: dict[int, str], stored: Sequence[Trunk]) -> Iterator[Proposal]:
        search = self.sweep.config.search
        if search.sampler != "joint":
            return proposals(self.rungs, seen, search.seed)
        complete = sum(trial.state == "complete" for trial in seen)
        if number < max(search.startup_trials, len(self.sweep.start.points)) or complete < FEWEST:
            return iter([Proposal(rung=0), *best_of_any_rung(self.rungs, seen)])
        return joint_proposals(self.rungs, self._cube, seen, search.seed, self._prices(names, stored))

    @cached_property
    def _cube(self) -> Cube:
        return Cube(self.sweep.space)

    @cached_property
    def _store(self) -> TrunkStore:
        return TrunkStore(self.directory.trunks)

    def _prices(self, names: dict[int, str], stored: Sequence[Trunk]) -> Prices:
        by_run: dict[str, list[int]] = {}
        for trunk in stored:
            by_run.setdefault(trunk.info.run, []).append(trunk.info.tokens)
        return Prices(self._lengths, {number: by_run.get(name, []) for number, name in names.items()}, self._trunk_share)

    def _trunk_share(self, params: dict[str, Any]) -> float:
        choices, values = self.sweep.space.split(params)
        schedule = self.sweep.composed(choices).config.schedule
        if values.get("schedule.name", schedule.name) not in TRUNK_SCHEDULES:
            return 0.0
        return 1.0 - float(values.get("schedule.decay_fraction", schedule.decay_fraction))

    def learned_from(self, records: Sequence[RunRecord]) -> set[int]:
        """The numbers of the trials that the sampler learns from."""
        return trials_to_learn_from(self.rungs, self._seen(records), self.sweep.config.search.startup_trials)

    def length(self, rung: int) -> dict[str, int]:
        """The length of a rung's runs, as configuration."""
        return {self.rungs.length_key: self.rungs.lengths[rung]}

    def _seen(self, records: Sequence[RunRecord]) -> list[TrialSummary]:
        sign = 1.0 if self.sweep.config.objective.direction == "minimize" else -1.0
        seen = []
        confirmation = read_confirmation(self.directory, self._launched) if self.sweep.config.constraints else None
        # What is promoted then meets the constraints with other seeds, too, with the chance that is asked for.
        so_far = confirmation.so_far if confirmation else None
        full = [record for record in records if record.state == "complete" and (record.trial and record.trial.rung) == self.rungs.last]
        scatters = scatters_of(self.sweep.constraints, so_far, self.sweep.space, records, full)
        bounds = bounds_to_aim_at(self.sweep.constraints, so_far, scatters)
        known = shifts_of_candidates(confirmation, records) if confirmation else {}
        for record, metrics in zip(records, metrics_over_fresh_seeds(self.sweep.space, known, records, records), strict=True):
            trial, result = record.trial, record.result
            if trial is None or trial.params is None:
                continue
            loss: tuple[float, float] = (0.0, 0.0)
            broken_by: tuple[float, ...] = ()
            if result.state == "complete" and result.objective is not None:
                broken_by = tuple(margins(bounds, metrics).values())
                loss = (sum(max(0.0, margin) for margin in broken_by), sign * result.objective)
            params = {key: value for key, value in trial.params.items() if key != self.rungs.length_key}
            seen.append(TrialSummary(trial.number, trial.rung or 0, trial.parent, params, result.state, loss, broken_by))
        return seen

    @cached_property
    def _launched(self) -> dict[str, Any]:
        """sweep.yaml."""
        return read_yaml(self.directory.sweep) if self.directory.sweep.exists() else {}

    def _tokens(self, proposal: Proposal, seen: Sequence[TrialSummary], names: dict[int, str], stored: Sequence[Trunk]) -> int:
        """The most that a trial trains, given the trunks that are stored now."""
        length = self.length(proposal.rung)
        if proposal.params is None:
            return self.sweep.largest_tokens(length)
        params = {**proposal.params, **length}
        return self.sweep.trial_tokens(params) - self._stored_tokens(params, _ancestors(proposal.parent, seen, names), stored)

    def _stored_tokens(self, params: dict[str, Any], ancestors: set[str], stored: Sequence[Trunk]) -> int:
        """Tokens of a trial's trunk that its ancestors have trained and stored."""
        try:
            config = self.sweep.trial_config(params)
        except InputError:
            return 0  # it will be failed before it trains anything
        # Padding makes more steps of the same tokens: the decay begins no earlier than this.
        steps = planned_steps(config.trainer)
        if steps is None or config.schedule.name not in TRUNK_SCHEDULES:
            return 0
        leaves_after = steps - parts_in_steps(config, steps)[2]
        return max((trunk.info.tokens for trunk in stored if trunk.info.run in ancestors and trunk.info.step <= leaves_after), default=0)

    def _tokens_from_there(self, proposal: Proposal) -> int:
        """What a run of full length takes that goes on along the trunk of this shorter one."""
        trunk = self._trunk_share(proposal.params) * self._lengths[proposal.rung] if proposal.params is not None else 0
        return self._lengths[-1] - int(trunk)

    @cached_property
    def _lengths(self) -> tuple[int, ...]:
        """Of each rung's runs, the most tokens."""
        return tuple(self.sweep.largest_tokens(self.length(rung)) for rung in range(len(self.rungs.lengths)))


def _ancestors(parent: int | None, seen: Sequence[TrialSummary], names: dict[int, str]) -> set[str]:
    """The runs on whose trunk a trial goes on."""
    parents = {trial.number: trial.parent for trial in seen}
    found = set()
    while parent is not None:
        found.add(names[parent])
        parent = parents.get(parent)
    return found


def at_once(sweep: Sweep) -> int | None:
    """How many runs of full length a search has under way at a time; None: any number, where time is limited, too, and waiting would cost
    it."""
    budget = sweep.config.budget
    if budget.tokens is None or is_timed(budget):
        return None
    return max(1, int(budget.tokens * (1 - SHARE * confirms_itself(sweep)) / sweep.largest_trial_tokens / IN_A_ROW))


def rungs_of(sweep: Sweep, late: LateParameters) -> Rungs:
    """The rungs of a sweep with search=trunk."""
    search, trainer = sweep.config.search, sweep.base.config.trainer
    key, full = ("trainer.max_tokens", trainer.max_tokens) if trainer.max_tokens is not None else ("trainer.max_steps", trainer.max_steps)
    assert full is not None, "checked: a run has a length"
    numeric = tuple(parameter for parameter in late.parameters if not parameter.is_group)
    return Rungs(rung_lengths(full, search.rungs, search.reduction_factor), key, search.reduction_factor, search.branches, numeric)
