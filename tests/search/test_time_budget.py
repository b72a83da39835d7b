"""Budgets of time: eight workers in virtual time, whatever happens to them, never hold devices for longer than the limit."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.config.errors import InputError
from harness.runs.directory import StudyDirectory
from harness.runs.locks import hold
from harness.runs.record import load_study
from harness.runs.result import read_result
from harness.runs.trial import read_trial
from harness.search.budget import HOUR, SHORTEST_SECONDS, covered, open_budget
from harness.search.checks import check
from harness.search.open_study import open_study
from harness.search.status import read_status
from harness.search.study import Claim, Study
from harness.search.sweep import Sweep
from tests.search.conftest import MakeSweep
from tests.search.studies import TRIAL_TOKENS, Attempt, check_in_step, claim_and_status_agree
from tests.search.test_study import claimed

WORKERS = 8


@dataclass
class Hand:
    """A worker of the simulation, and what it does."""

    study: Study
    lock: FileLock
    claim: Claim | None = None
    attempt: Attempt | None = None
    began: float = 0.0


class World:
    """Workers that keep to the protocol of `AttemptWatch`, and may die at any moment."""

    def __init__(self, directory: StudyDirectory, sweep: Sweep) -> None:
        self.directory, self.sweep = directory, sweep
        self.now = 1000.0
        self.spans: list[tuple[float, float]] = []
        """What really happened."""
        self.hands: dict[int, Hand] = {}
        self.born = 0

    def hand(self, index: int) -> Hand:
        if index not in self.hands:
            self.born += 1
            name = f"w{self.born}"
            lock = hold(self.directory.worker_lock(name))
            assert lock is not None
            self.hands[index] = Hand(Study(self.directory, self.sweep, name, clock=lambda: self.now), lock)
        return self.hands[index]

    def act(self, index: int, what: str) -> None:
        hand = self.hand(index)
        if hand.claim is None:
            answer = claim_and_status_agree(hand.study)
            if isinstance(answer, Claim):
                assert hand.study.prepare(answer)
                hand.claim, hand.began, hand.attempt = answer, self.now, Attempt(answer.run)
            return
        assert hand.attempt is not None
        if what == "extend":
            hand.claim = hand.study.extend(hand.claim) or hand.claim
        elif what == "complete":
            self.settle(index, hand.attempt.complete())
        elif what == "crash":
            self.settle(index, hand.attempt.crash(10))
        elif what == "die":
            hand.attempt.vanish(10)
            self.spans.append((hand.began, self.now))
            hand.lock.release()
            del self.hands[index]

    def settle(self, index: int, code: int, *, expired: bool = False) -> None:
        hand = self.hands[index]
        assert hand.claim is not None
        self.spans.append((hand.began, self.now))
        hand.study.settle(hand.claim, code, expired=expired)
        hand.claim = hand.attempt = None

    def pass_time(self, seconds: float) -> None:
        """Attempts whose lease ends on the way are over by then."""
        until = self.now + seconds
        while True:
            ends = [(hand.claim.lease_ends, index) for index, hand in self.hands.items() if hand.claim]
            first = min(ends, default=(until, -1))
            if first[0] >= until:
                break
            self.now = max(self.now, first[0])
            attempt = self.hands[first[1]].attempt
            assert attempt is not None
            self.settle(first[1], attempt.vanish(10), expired=True)
        self.now = until

    def check(self) -> None:
        under_way = [(hand.began, self.now) for hand in self.hands.values() if hand.claim]
        spans = [*self.spans, *under_way]
        budget, devices = self.sweep.config.budget, self.sweep.devices
        assert budget.gpu_hours is None or devices * sum(end - begin for begin, end in spans) <= budget.gpu_hours * HOUR + 1e-6
        assert budget.wall_hours is None or covered(spans) <= budget.wall_hours * HOUR + 1e-6
        state = open_budget(budget, load_study(self.directory).runs, now=self.now)
        for account in (state.gpu_hours, state.wall_hours):
            assert account.limit is None or account.used + account.reserved <= account.limit + 1e-6


LIMITS: dict[str, tuple[int, dict[str, Any]]] = {
    "gpu": (1, {"gpu_hours": 0.1}),
    "gpu, several devices a trial": (8, {"gpu_hours": 0.8}),
    "wall": (1, {"wall_hours": 0.05}),
    "both, with a limit of each trial": (2, {"gpu_hours": 0.4, "wall_hours": 0.06, "trial_hours": 0.02}),
}
"""Devices of a trial, and the budget."""
ACTIONS = st.tuples(st.integers(0, WORKERS - 1), st.sampled_from(["extend", "complete", "crash", "die"]), st.floats(0.0, 40.0))


@pytest.mark.slow
@pytest.mark.parametrize("case", [pytest.param(case, marks=[] if case.startswith("both") else pytest.mark.long) for case in LIMITS])
def test_eight_workers_never_hold_devices_for_longer_than_the_limit(make_sweep: MakeSweep, case: str) -> None:
    devices, limits = LIMITS[case]
    limits = {"trials": None, **limits}
    sweep = make_sweep(budget=limits, launcher={"workers": WORKERS}, search={"max_failures": 10_000}, devices=devices)

    @settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.lists(ACTIONS, min_size=20, max_size=60))
    def holds(actions: list[tuple[int, str, float]]) -> None:
        directory = open_study(sweep)
        world = World(directory, sweep)
        try:
            for index, what, seconds in actions:
                world.act(index, what)
                world.check()
                world.pass_time(seconds)
                world.check()
            world.pass_time(HOUR)
            world.check()
        finally:
            for hand in world.hands.values():
                hand.lock.release()
                if hand.attempt:
                    hand.attempt.lock.release()
            shutil.rmtree(directory.path)

    holds()


def test_before_anything_is_known_the_workers_share_the_budget_and_afterwards_what_is_needed_is_kept(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget={"trials": None, "gpu_hours": 0.1}, launcher={"workers": 2})
    now = 0.0
    study = Study(open_study(sweep), sweep, "w", clock=lambda: now)
    claim = claimed(study)
    assert claim.lease_ends == pytest.approx(180.0)
    now = 100.0
    study.settle(claim, Attempt(claim.run).complete())
    claim = claimed(study)
    assert claim.lease_ends - now == pytest.approx(150.0), "half as long again as the slowest"
    longer = study.extend(claim)
    assert longer is not None
    assert longer.lease_ends == pytest.approx(now + 225.0)
    study.prepare(claim)
    now = 325.0
    result = study.settle(claim, Attempt(claim.run).vanish(100), expired=True)
    assert (result.state, result.reason) == ("failed", "it ran for as long as the budget of time allows (budget.gpu_hours=0.1)")
    assert study.claim() == "done", "35 s are left, a trial needs 150"


def test_a_short_branch_does_not_make_full_runs_ask_for_more_than_they_need(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget={"trials": None, "gpu_hours": 1.0})
    now = 0.0
    study = Study(open_study(sweep), sweep, "w", clock=lambda: now)
    for shared, seconds in ((TRIAL_TOKENS - 26, 30.0), (0, 220.0)):
        claim = claimed(study)
        now += seconds
        study.settle(claim, Attempt(claim.run, shared=shared).complete())
    assert claimed(study).lease_ends - now == pytest.approx(1.5 * 220.0)


def test_a_study_on_several_devices_is_finished_when_its_worker_is_done(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget={"trials": None, "gpu_hours": 1.0}, devices=8)
    now = 0.0
    directory = open_study(sweep)
    study = Study(directory, sweep, "w", clock=lambda: now)
    claim = claimed(study)
    now = 300.0
    study.settle(claim, Attempt(claim.run).complete())
    assert claim_and_status_agree(study) == "done", "150 s of eight devices are left, a trial needs 450"
    assert read_status(directory).missing_workers == 0


def test_a_budget_that_is_small_for_many_workers_still_starts_a_trial(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget={"trials": None, "gpu_hours": 0.01}, launcher={"workers": 16})
    study = Study(open_study(sweep), sweep, "w", clock=lambda: 0.0)
    claim = claim_and_status_agree(study)
    assert isinstance(claim, Claim)
    assert claim.lease_ends == SHORTEST_SECONDS, "a sixteenth of 36 s would be too short for any"


def test_a_trial_may_not_take_longer_than_its_own_limit_over_all_its_attempts(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget={"trials": 1, "trial_hours": 0.01})
    now = 0.0
    directory = open_study(sweep)
    study = Study(directory, sweep, "w", clock=lambda: now)
    claim = claimed(study)
    assert claim.lease_ends == 36.0
    now = 20.0
    study.settle(claim, Attempt(claim.run).crash(10))
    claim = claimed(study)
    assert claim.lease_ends == 36.0
    assert study.extend(claim) is None
    now = 35.0
    study.settle(claim, Attempt(claim.run).crash(10))
    assert study.claim() == "done", "one second is no attempt"
    assert read_result(claim.run).state == "failed"
    check_in_step(directory, ended=True)


def test_limits_in_which_no_trial_could_start_are_refused(make_sweep: MakeSweep) -> None:
    with pytest.raises(InputError, match=r"budget.gpu_hours=0.001: less than 5 seconds"):
        check(make_sweep(budget={"gpu_hours": 0.001}))
    with pytest.raises(InputError, match=r"budget.trial_hours=2.0: exceeds gpu_hours=1.0"):
        check(make_sweep(budget={"gpu_hours": 1.0, "trial_hours": 2.0}))
    with pytest.raises(InputError, match=r"budget.gpu_hours=0.01: less than 5 seconds of 8 devices"):
        check(make_sweep(budget={"gpu_hours": 0.01}, devices=8))
    with pytest.raises(InputError, match=r"budget.trial_hours=0.2: exceeds gpu_hours=1.0 of 8 devices"):
        check(make_sweep(budget={"gpu_hours": 1.0, "trial_hours": 0.2}, devices=8))


@pytest.mark.parametrize("jump", [86400.0, -86400.0])
def test_a_clock_that_is_set_takes_no_trial_its_time(make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch, jump: float) -> None:
    sweep = make_sweep(budget={"trials": 2, "gpu_hours": 2.0})
    study = Study(open_study(sweep), sweep, "w1")
    claim = claimed(study)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    assert 0 < study.seconds_left(claim) < 2 * HOUR
    study.settle(claim, Attempt(claim.run).complete())
    trial = read_trial(claim.run)
    assert trial is not None
    assert 0 < trial.seconds < 600
