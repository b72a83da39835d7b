"""Any interleaving of several workers, with deaths, stops and larger budgets: the budget holds, and nothing is lost."""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from harness.runs.directory import StudyDirectory
from harness.runs.result import FINAL_STATES
from harness.search.budget import open_budget
from harness.search.open_study import open_study
from harness.search.storage.build import open_storage
from harness.search.storage.contract import StudyStorage
from harness.search.study import Claim, Study
from tests.search.conftest import MakeSweep
from tests.search.studies import (
    TRIAL_TOKENS,
    Attempt,
    Killed,
    check_in_step,
    claim_and_status_agree,
    die,
    dying_before,
    params_of,
)


@dataclass
class Simulated:
    """A worker of the state machine: its lock lives as long as it does."""

    id: str
    study: Study
    storage: StudyStorage
    claim: Claim | None = None
    attempt: Attempt | None = None
    code: int | None = None
    """The exit code of an attempt that has ended and is not settled yet."""


@dataclass
class Truth:
    """What really happened to a trial."""

    trained: int = 0
    crashes: int = 0
    attempts: int = 0
    params: list[dict[str, Any]] = field(default_factory=list)


WORKERS = st.integers(0, 3)
FORGETTING = "val/general/forgetting"
AMOUNTS = st.integers(0, TRIAL_TOKENS // 128).map(lambda steps: steps * 128)


def forgetting(claim: Claim) -> dict[str, float]:
    """Of every third run more than a bound allows."""
    return {FORGETTING: 0.4 if claim.number % 3 == 2 else 0.1}


class Interleavings(RuleBasedStateMachine):
    """Four workers that claim, train, settle, die anywhere and come back, in any order."""

    make: MakeSweep
    unit = "tokens"

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        limit: dict[str, Any] = {
            "tokens": {"trials": None, "tokens": 4 * TRIAL_TOKENS + 200},
            "trials": {"trials": 4, "tokens": None},
            "confirmed tokens": {"trials": None, "tokens": 9 * TRIAL_TOKENS + 200},
            "confirmed trials": {"trials": 8, "tokens": None},
            "confirmed trials under a bound": {"trials": 12, "tokens": None},
        }[self.unit]
        search = {"max_attempts": 2, "max_failures": 100, "confirm": "confirmed" in self.unit}
        constraints = {FORGETTING: {"max": 0.25}} if "bound" in self.unit else {}
        self.sweep = type(self).make(budget=limit, search=search, constraints=constraints)
        with mock.patch("harness.search.open_study.runs_root", return_value=self.root):
            self.directory: StudyDirectory = open_study(self.sweep)
        first = Study(self.directory, self.sweep, "first")
        self.truth: dict[str, Truth] = {}
        """By run: a trial of the study, or of its confirmation."""
        if constraints:
            # Who is confirmed is what matters here: most of the search is over.
            self._run_alone(first, most=7)
        self.born = 0
        self.workers: list[Simulated | None] = [None] * 4
        self.happened = True
        """Whether anything did since the study was last looked at: many rules find nothing to do."""

    def teardown(self) -> None:
        for worker in self.workers:
            if worker:
                self._bury(worker)
        last = Study(self.directory, self.sweep, "last")
        self._run_alone(last)
        assert last.claim() == "done"
        self.happened = True
        self.nothing_is_overspent_or_out_of_step()
        record = check_in_step(self.directory, ended=True)
        runs = [*record.runs, *record.paid_for]
        assert all(run.state in FINAL_STATES for run in runs)
        for run in runs:
            assert run.result.failures == self.truth.get(run.directory.name, Truth()).crashes
            assert run.state == "complete" or run.result.failures == 2 or "cannot hold another attempt" in str(run.result.reason)
        if self.unit == "trials":
            assert len(record.runs) == 4, "nothing was lost"
        if record.confirmation is not None:
            check_in_step(record.confirmation.directory, ended=True)
            assert record.confirmation.is_complete
            assert record.confirmation.plan.charged == list(range(len(record.confirmation.plan.runs)))
        shutil.rmtree(self.root)

    def _run_alone(self, study: Study, most: int = 1000) -> None:
        for _ in range(most):
            if not isinstance(claim := study.claim(), Claim):
                break
            study.prepare(claim)
            truth = self.truth.setdefault(claim.run.name, Truth())
            attempt = Attempt(claim.run)
            truth.trained += TRIAL_TOKENS - attempt.result.tokens.position
            study.settle(claim, attempt.complete(**forgetting(claim)))

    def _bury(self, worker: Simulated) -> None:
        """It dies, and its attempt with it."""
        self.happened = True
        if worker.attempt and worker.code is None:
            self._vanish(worker, 0)
        worker.storage.close()
        self.workers = [None if other is worker else other for other in self.workers]

    def _vanish(self, worker: Simulated, further: int) -> None:
        assert worker.attempt is not None
        assert worker.claim is not None
        start = worker.attempt.result.tokens.position
        reached = min(start + further, TRIAL_TOKENS)
        worker.code = worker.attempt.vanish(reached)
        self.truth[worker.claim.run.name].trained += reached - start
        self.truth[worker.claim.run.name].crashes += 1

    def _worker(self, index: int) -> Simulated:
        worker = self.workers[index]
        if worker is None:
            self.born += 1
            name = f"w{self.born}"
            storage = open_storage(self.directory, name)
            storage.announce(name)
            worker = self.workers[index] = Simulated(name, Study(self.directory, self.sweep, name, storage), storage)
        return worker

    @rule(index=WORKERS, dies_at=st.one_of(st.none(), st.none(), st.integers(0, 12)))
    def claim(self, index: int, dies_at: int | None) -> None:
        worker = self._worker(index)
        if worker.claim is not None:
            return
        self.happened = True
        try:
            with dying_before(-1 if dies_at is None else dies_at, die):
                answer = claim_and_status_agree(worker.study)
        except Killed:
            self._bury(worker)
            return
        if isinstance(answer, Claim):
            others = [other.claim for other in self.workers if other and other.claim]
            assert answer not in others, "one trial, two workers"
            worker.claim = answer
            params = params_of(answer)
            known = self.truth.setdefault(answer.run.name, Truth())
            assert known.params in ([], [params]), "a trial keeps its values"
            known.params = [params]
            worker.study.prepare(answer)

    @rule(index=WORKERS)
    def begin(self, index: int) -> None:
        worker = self.workers[index]
        if worker and worker.claim and worker.attempt is None:
            self.happened = True
            worker.attempt = Attempt(worker.claim.run)
            self.truth[worker.claim.run.name].attempts += 1

    @rule(index=WORKERS, ending=st.sampled_from(["complete", "stop", "crash", "vanish"]), further=AMOUNTS)
    def end(self, index: int, ending: str, further: int) -> None:
        worker = self.workers[index]
        if not (worker and worker.claim and worker.attempt) or worker.code is not None:
            return
        self.happened = True
        truth, start = self.truth[worker.claim.run.name], worker.attempt.result.tokens.position
        reached = min(start + further, TRIAL_TOKENS)
        match ending:
            case "complete":
                worker.code = worker.attempt.complete(**forgetting(worker.claim))
                truth.trained += TRIAL_TOKENS - start
            case "stop":
                worker.code = worker.attempt.stop(reached)
                truth.trained += reached - start
            case "crash":
                worker.code = worker.attempt.crash(reached)
                truth.trained += reached - start
                truth.crashes += 1
            case _:
                self._vanish(worker, further)

    @rule(index=WORKERS, dies_at=st.one_of(st.none(), st.none(), st.integers(0, 6)))
    def settle(self, index: int, dies_at: int | None) -> None:
        worker = self.workers[index]
        if not (worker and worker.claim) or worker.code is None:
            return
        self.happened = True
        try:
            with dying_before(-1 if dies_at is None else dies_at, die):
                worker.study.settle(worker.claim, worker.code)
        except Killed:
            self._bury(worker)
            return
        worker.claim = worker.attempt = worker.code = None

    @precondition(lambda self: any(self.workers))
    @rule(index=WORKERS)
    def die(self, index: int) -> None:
        worker = self.workers[index]
        if worker:
            self._bury(worker)

    @invariant()
    def nothing_is_overspent_or_out_of_step(self) -> None:
        if not self.happened:
            return
        self.happened = False
        record = check_in_step(self.directory)
        runs = [*record.runs, *record.paid_for]
        budget = open_budget(self.sweep.config.budget, runs, now=time.time())
        for account in (budget.trials, budget.tokens):
            assert account.limit is None or account.used <= account.limit
        # Between a crash and its booking, what the next attempt would need is not known to fit: it is failed then, if it does not.
        assert sum(truth.trained for truth in self.truth.values()) <= (self.sweep.config.budget.tokens or 10**9)
        assert len(runs) <= (self.sweep.config.budget.trials or 10**9)
        for run in runs:
            truth = self.truth.get(run.directory.name, Truth())
            assert run.result.failures <= truth.crashes, "a crash counts once"
            if run.state in FINAL_STATES:
                assert run.result.tokens.trained >= truth.trained, "what was trained is never forgotten"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unit", "storage", "examples"),
    [
        # A study that confirms does all that the others do.
        ("confirmed tokens", "journal", 6),
        ("confirmed tokens", "postgresql", 6),
        ("confirmed trials under a bound", "journal", 3),
        *(
            pytest.param(*case, 25, marks=pytest.mark.long)
            for case in (
                ("tokens", "journal"),
                ("trials", "journal"),
                ("confirmed tokens", "journal"),
                ("confirmed trials", "journal"),
                ("confirmed trials under a bound", "journal"),
                ("confirmed tokens", "postgresql"),
            )
        ),
    ],
    indirect=["storage"],
)
def test_any_interleaving_keeps_the_budget_and_loses_nothing(make_sweep: MakeSweep, unit: str, examples: int) -> None:
    machine = type("Machine", (Interleavings,), {"make": staticmethod(make_sweep), "unit": unit})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
        ),
    )
