"""Claiming and settling trials, in one process: budget, adoption, judgement, and deaths between any two statements."""

from __future__ import annotations

import errno
from contextlib import suppress
from unittest import mock

import pytest

from harness.config.errors import InputError
from harness.runs.exit_codes import MACHINE_FAULT
from harness.runs.result import read_result, write_result
from harness.runs.trial import claimed_trial
from harness.search.open_study import open_study
from harness.search.settle import Settler
from harness.search.status import read_status
from harness.search.study import Claim, Study
from harness.search.sweep import Sweep
from tests.search.conftest import BOTH_STORAGES, MakeSweep
from tests.search.studies import (
    TRIAL_TOKENS,
    Attempt,
    Killed,
    alive,
    check_in_step,
    config_of,
    die,
    dying_before,
    objective_of,
    optuna_trials,
    params_of,
)


def claimed(study: Study) -> Claim:
    answer = study.claim()
    assert isinstance(answer, Claim), answer
    return answer


def run_to_the_end(study: Study) -> None:
    """Claim, complete and settle until there is nothing left."""
    while isinstance(answer := study.claim(), Claim):
        if study.prepare(answer):
            study.settle(answer, Attempt(answer.run).complete(objective_of(params_of(answer))))
    assert answer == "done"


@BOTH_STORAGES
def test_a_study_runs_its_trials_and_ends(make_sweep: MakeSweep) -> None:
    sweep = make_sweep()
    directory = open_study(sweep)
    run_to_the_end(Study(directory, sweep, "w"))
    record = check_in_step(directory, ended=True)
    assert [run.state for run in record.runs] == ["complete"] * 4
    assert read_status(directory).is_finished
    for run in record.runs:
        assert run.result.objective == objective_of(run.params)
        assert config_of(run.directory)["optim"]["lr"] == run.params["optim.lr"]
        assert config_of(run.directory)["trainer"]["threads"] == 1


@BOTH_STORAGES
def test_proposals_depend_on_the_number_alone(make_sweep: MakeSweep) -> None:
    """random: whatever happens to other trials, trial n has the same values."""
    alone, disturbed = make_sweep(name="alone"), make_sweep(name="disturbed")
    first, second = open_study(alone), open_study(disturbed)
    run_to_the_end(Study(first, alone, "w"))
    a, b = Study(second, disturbed, "a"), Study(second, disturbed, "b")
    with alive(second, "a"), alive(second, "b"):
        one, two = claimed(a), claimed(b)
        assert (one.number, two.number) == (0, 1)
        b.settle(two, Attempt(two.run).crash(100))
        a.settle(one, Attempt(one.run).stop(200))
    run_to_the_end(b)
    assert [run.params for run in check_in_step(second).runs] == [run.params for run in check_in_step(first).runs]


def test_feasibility_follows_the_constraints(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(constraints={"val/general/forgetting": {"max": 0.2}, "tokens_per_second": {"min": 10.0}})
    directory = open_study(sweep)
    study = Study(directory, sweep, "w")
    for forgetting, speed, loss in ((0.2, 10.0, 3.0), (0.21, 10.0, 1.0), (0.1, 9.0, 1.0), (0.1, 11.0, 2.5)):
        claim = claimed(study)
        study.settle(claim, Attempt(claim.run).complete(loss, **{"val/general/forgetting": forgetting, "tokens_per_second": speed}))
    record = check_in_step(directory, ended=True)
    assert [run.result.feasible for run in record.runs] == [True, False, False, True]
    assert record.best is not None
    assert record.best.number == 3
    broken = [trial.system_attrs for trial in optuna_trials(directory)]
    assert [sum(value > 0 for key, value in attrs.items() if "constraint" in key) for attrs in broken] == [0, 1, 1, 0]


def test_a_trial_without_its_metric_is_failed(make_sweep: MakeSweep) -> None:
    sweep = make_sweep()
    directory = open_study(sweep)
    study = Study(directory, sweep, "w")
    claim = claimed(study)
    assert study.settle(claim, Attempt(claim.run).complete(None)).reason == "val/domain/loss: no finite value was logged"
    check_in_step(directory, ended=True)


def test_values_that_do_not_go_together_fail_their_trial_alone(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(search={"max_failures": 100})
    directory = open_study(sweep)
    study = Study(directory, sweep, "w")
    with mock.patch.object(Sweep, "trial_config", side_effect=InputError("model.heads=3: must divide model.hidden_size=32")):
        claim = claimed(study)
        assert study.prepare(claim) is False
    assert read_result(claim.run).state == "failed"
    run_to_the_end(study)
    assert [run.state for run in check_in_step(directory, ended=True).runs] == ["failed", "complete", "complete", "complete"]


# Attempts that end badly.


def test_a_crashed_trial_is_tried_again_and_failed_in_the_end(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget={"trials": 1}, search={"max_attempts": 3})
    directory = open_study(sweep)
    study = Study(directory, sweep, "w")
    for attempt in (1, 2, 3):
        claim = claimed(study)
        assert claim.number == 0
        result = study.settle(claim, Attempt(claim.run).crash(100))
        assert (result.attempts, result.failures) == (attempt, attempt)
    assert (result.state, result.reason) == ("failed", "RuntimeError: boom (attempt 3 of 3)")
    assert study.claim() == "done"
    check_in_step(directory, ended=True)


@pytest.mark.parametrize(
    ("exit_code", "stopping", "reason", "failures"),
    [
        (-9, False, "killed by SIGKILL", 1),
        (-9, True, "killed by SIGKILL", 1),
        (-15, False, "killed by SIGTERM", 1),
        (-15, True, "stopped", 0),  # we asked, before its handler stood
        (-2, True, "stopped", 0),
        (-40, False, "killed by signal 40", 1),
        (1, False, "its process ended with exit code 1", 1),
        (255, False, "its process ended with exit code 255", 1),
        (75, False, "stopped", 0),
    ],
)
def test_how_an_attempt_ended(make_sweep: MakeSweep, exit_code: int, stopping: bool, reason: str, failures: int) -> None:
    sweep = make_sweep()
    study = Study(open_study(sweep), sweep, "w")
    result = study.settle(claimed(study), exit_code, stopping=stopping)
    assert (result.state, result.reason, result.failures) == ("waiting", reason, failures)


def test_a_killed_attempt_does_not_inherit_an_earlier_one_s_reason(make_sweep: MakeSweep) -> None:
    sweep = make_sweep()
    study = Study(open_study(sweep), sweep, "w")
    claim = claimed(study)
    study.settle(claim, Attempt(claim.run).crash(100, "OutOfMemoryError: …"))
    assert study.settle(claimed(study), -9).reason == "killed by SIGKILL"


def test_what_a_killed_attempt_may_have_trained_is_booked(make_sweep: MakeSweep) -> None:
    sweep = make_sweep()
    study = Study(open_study(sweep), sweep, "w")
    claim = claimed(study)
    assert study.prepare(claim)
    result = study.settle(claim, Attempt(claim.run).vanish(100))
    assert result.tokens.trained == 100 + 128, "up to the row that it did not write"
    claim = claimed(study)
    assert study.settle(claim, Attempt(claim.run).vanish(500)).tokens.trained == 228 + 512, "never more than the plan"


def test_steps_gone_over_again_are_booked_up_to_where_the_later_attempt_got(make_sweep: MakeSweep) -> None:
    sweep = make_sweep()
    study = Study(open_study(sweep), sweep, "w")
    claim = claimed(study)
    study.prepare(claim)
    study.settle(claim, Attempt(claim.run).vanish(300))
    before = read_result(claim.run).tokens.trained
    again = claimed(study)
    assert study.settle(again, Attempt(again.run).vanish(20)).tokens.trained == before + 20 + 128


def test_one_reason_for_every_failure_stops_the_study(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget={"trials": 20})
    directory = open_study(sweep)
    study = Study(directory, sweep, "w")
    for number in range(3):
        claim = claimed(study)
        assert claim.number == number
        study.settle(claim, Attempt(claim.run).fail("model.path=x: no weights"))
    with pytest.raises(InputError, match=r"trials 0, 1, 2 failed alike.*search.max_failures=3\): model.path=x: no weights"):
        study.claim()
    check_in_step(directory, ended=True)
    again = Study(directory, sweep, "w2")
    claim = claimed(again)  # started anew, perhaps after the cause was mended
    again.settle(claim, Attempt(claim.run).complete())
    for _ in range(4):
        claim = claimed(again)
        again.settle(claim, Attempt(claim.run).fail("model.path=x: no weights"))
    assert claim.number == 7, "one trial is complete: what failed is a matter of values"


def test_a_long_row_of_alike_failures_stops_a_study_in_which_trials_are_complete(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget={"trials": 200}, search={"max_failures": 1})
    study = Study(open_study(sweep), sweep, "w")
    for number in range(32):
        claim = claimed(study)
        assert claim.number == number
        if number in (0, 1):
            study.settle(claim, Attempt(claim.run).complete())
        else:
            study.settle(claim, Attempt(claim.run).fail(f"schedule.decay_fraction=0.{number}: it exceeds the run's 6 steps"))
    with pytest.raises(InputError, match=r"trials 27, 28, 29, 30, 31 and 25 before them failed alike and none is complete since trial 1, "):
        study.claim()


def test_failures_for_reasons_of_their_own_do_not_stop_the_study(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget={"trials": 5})
    directory = open_study(sweep)
    study = Study(directory, sweep, "w")
    for number in range(5):
        claim = claimed(study)
        study.settle(claim, Attempt(claim.run).fail(f"the {'abcde'[number]} of step {number} is nan"))
    assert study.claim() == "done"


def test_what_the_machine_does_is_not_the_trials(make_sweep: MakeSweep) -> None:
    """However often a disk is full, no attempt is used up, and no budget."""
    sweep = make_sweep(budget={"trials": 1, "tokens": TRIAL_TOKENS}, search={"max_attempts": 1})
    directory = open_study(sweep)
    study = Study(directory, sweep, "w")
    for _ in range(4):
        claim = claimed(study)
        assert study.prepare(claim)
        result = study.settle(claim, Attempt(claim.run).lose_its_disk(100))
        assert (claim.number, result.state, result.failures, result.tokens.trained) == (0, "waiting", 0, 0)
        assert claimed_trial(claim.run).seconds == 0
    claim = claimed(study)
    assert study.settle(claim, Attempt(claim.run).complete()).state == "complete"
    check_in_step(directory, ended=True)


@pytest.mark.parametrize("fails_at", ["_book", "_close"])
@BOTH_STORAGES
def test_a_worker_that_can_write_nothing_leaves_its_trial_as_it_was(make_sweep: MakeSweep, fails_at: str) -> None:
    sweep = make_sweep(budget={"trials": 1, "tokens": TRIAL_TOKENS}, search={"max_attempts": 1})
    directory = open_study(sweep)
    with alive(directory, "first"):
        study = Study(directory, sweep, "first")
        claim = claimed(study)
        assert study.prepare(claim)
        Attempt(claim.run).vanish(100)
        full = mock.patch.object(Settler, fails_at, side_effect=OSError(errno.ENOSPC, "full"))
        with full, pytest.raises(OSError, match="full"):
            study.settle(claim, MACHINE_FAULT)
        directory.fault_note("first").touch()
    again = Study(directory, sweep, "second")
    claim = claimed(again)
    result = read_result(claim.run)
    assert (claim.number, result.state, result.failures, result.tokens.trained) == (0, "waiting", 0, 0)
    again.settle(claim, Attempt(claim.run).complete())
    check_in_step(directory, ended=True)


# Whose trial it is.


@BOTH_STORAGES
def test_a_trial_under_way_belongs_to_its_worker(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget={"trials": 1})
    directory = open_study(sweep)
    a, b = Study(directory, sweep, "a"), Study(directory, sweep, "b")
    with alive(directory, "a"):
        claim = claimed(a)
        assert b.claim() == "wait"
        attempt = Attempt(claim.run)
    assert b.claim() == "wait", "its worker is gone, but an attempt still trains"
    attempt.stop(200)
    adopted = claimed(b)
    assert adopted == claim
    assert (read_result(adopted.run).failures, read_result(adopted.run).reason) == (0, "stopped")


@BOTH_STORAGES
def test_a_trial_whose_worker_died_is_adopted(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget={"trials": 1})
    directory = open_study(sweep)
    a, b = Study(directory, sweep, "a"), Study(directory, sweep, "b")
    with alive(directory, "a"):
        claim = claimed(a)
        a.prepare(claim)
        params = params_of(claim)
        Attempt(claim.run).vanish(100)
        assert b.claim() == "wait"
    adopted = claimed(b)
    result = read_result(adopted.run)
    assert adopted == claim
    assert params_of(adopted) == params
    assert (result.attempts, result.failures, result.reason) == (1, 1, "its worker died")
    b.settle(adopted, Attempt(adopted.run).complete())
    assert read_result(adopted.run).attempts == 2
    check_in_step(directory, ended=True)


def test_a_worker_that_died_before_its_attempt_began_costs_nothing(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget={"trials": 1})
    directory = open_study(sweep)
    a, b = Study(directory, sweep, "a"), Study(directory, sweep, "b")
    claim = claimed(a)
    a.settle(claim, Attempt(claim.run).crash(100))
    with alive(directory, "a"):
        claimed(a)
    adopted = claimed(b)
    assert read_result(adopted.run).failures == 1, "the crash; the second attempt never was"


def test_an_attempt_that_takes_its_worker_along_before_the_first_step_counts(make_sweep: MakeSweep) -> None:
    """Out of memory while the data is read, say: else the trial would be tried for ever."""
    sweep = make_sweep(budget={"trials": 1}, search={"max_attempts": 2})
    directory = open_study(sweep)
    for worker in ("a", "b"):
        study = Study(directory, sweep, worker)
        with alive(directory, worker):
            attempt = Attempt(claimed(study).run)
            attempt.result.state = "waiting"
            write_result(attempt.run, attempt.result)
            attempt.lock.release()
    assert Study(directory, sweep, "c").claim() == "done"
    result = read_result(attempt.run)
    assert (result.state, result.reason) == ("failed", "its worker died (attempt 2 of 2)")


def test_a_complete_trial_whose_worker_died_is_judged_by_the_next(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget={"trials": 1})
    directory = open_study(sweep)
    a, b = Study(directory, sweep, "a"), Study(directory, sweep, "b")
    claim = claimed(a)
    Attempt(claim.run).complete(1.5)
    assert read_status(directory).study.runs[0].state == "running", "no objective yet: not complete for anybody"
    assert b.claim() == "done"
    assert read_result(claim.run).objective == 1.5
    check_in_step(directory, ended=True)


def test_a_stop_request_ends_claiming(make_sweep: MakeSweep) -> None:
    sweep = make_sweep()
    directory = open_study(sweep)
    study = Study(directory, sweep, "w")
    directory.stop_request.touch()
    assert study.claim() == "done"
    open_study(sweep)
    assert isinstance(study.claim(), Claim)


# The budget.


def test_a_raised_budget_goes_on_and_a_lowered_one_is_finished(make_sweep: MakeSweep) -> None:
    directory = open_study(make_sweep())
    run_to_the_end(Study(directory, make_sweep(), "w"))
    more = make_sweep(budget={"trials": 6})
    run_to_the_end(Study(open_study(more), more, "w2"))
    assert len(check_in_step(directory, ended=True).runs) == 6
    less = make_sweep(budget={"trials": 2})
    assert Study(open_study(less), less, "w3").claim() == "done"
    assert read_status(directory).is_finished


def test_a_trunk_search_is_finished_when_no_shorter_run_fits_either(make_sweep: MakeSweep) -> None:
    limits = {"trials": None, "tokens": TRIAL_TOKENS * 11 // 4}
    sweep = make_sweep(search={"name": "trunk", "rungs": 2, "reduction_factor": 2, "sampler": "random"}, budget=limits)
    directory = open_study(sweep)
    study = Study(directory, sweep, "w")
    while read_status(directory).budget.has_room_for(TRIAL_TOKENS, devices=1):
        claim = claimed(study)
        assert study.prepare(claim)
        study.settle(claim, Attempt(claim.run).complete())
    # Whoever did all this is gone. A short run would fit, though not the run of full length that may follow: a worker finds that out.
    assert not read_status(directory).is_finished
    assert read_status(directory).missing_workers > 0
    run_to_the_end(Study(directory, sweep, "later"))
    ended = read_status(directory)
    assert ended.is_finished
    assert ended.missing_workers == 0
    assert TRIAL_TOKENS / 2 < ended.budget.tokens.left < TRIAL_TOKENS
    raised = make_sweep(search={"name": "trunk", "rungs": 2, "reduction_factor": 2, "sampler": "random"}, budget={**limits, "trials": 100})
    open_study(raised)
    assert not read_status(directory).is_finished, "under other limits it was not asked yet"
    assert Study(directory, raised, "last").claim() == "done"
    assert read_status(directory).is_finished


@pytest.mark.parametrize("spare", [0, 100])
def test_what_a_stopped_evaluation_has_read_is_spent(make_sweep: MakeSweep, spare: int) -> None:
    """It begins anew: the budget holds that, or the trial ends."""
    sweep = make_sweep(budget={"trials": None, "tokens": TRIAL_TOKENS + spare})
    study = Study(open_study(sweep), sweep, "w")
    claim = claimed(study)
    attempt = Attempt(claim.run)
    attempt.result.tokens.read = 100
    result = study.settle(claim, attempt.stop(0))
    if spare:
        assert (result.state, result.reason) == ("waiting", "stopped")
    else:
        assert (result.state, result.reason) == ("failed", "stopped; the token budget cannot hold another attempt")


@BOTH_STORAGES
def test_tokens_are_reserved_before_and_settled_after(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(budget={"trials": None, "tokens": 3 * TRIAL_TOKENS + 100})
    directory = open_study(sweep)
    a, b = Study(directory, sweep, "a"), Study(directory, sweep, "b")

    def account() -> tuple[int, int]:
        tokens = read_status(directory).budget.tokens
        return tokens.used, tokens.reserved

    with alive(directory, "a"), alive(directory, "b"):
        one, two = claimed(a), claimed(b)
        assert account() == (0, 2 * TRIAL_TOKENS)
        a.settle(one, Attempt(one.run).stop(300))
        assert account() == (300, 212 + TRIAL_TOKENS)
        one = claimed(a)
        a.settle(one, Attempt(one.run).complete())
        assert account() == (TRIAL_TOKENS, TRIAL_TOKENS)
        b.settle(two, Attempt(two.run).crash(90))
        assert account() == (TRIAL_TOKENS + 90, TRIAL_TOKENS), "it will start over"
        three = claimed(a)
        assert three.number == 1, "a third trial of 512 would not fit any more, the crashed one does"
        a.settle(three, Attempt(three.run).complete())
        last = claimed(b)
        assert (last.number, a.claim()) == (2, "wait")
        assert b.settle(last, Attempt(last.run).crash(11)).state == "failed", "no room for another attempt"
        assert read_result(last.run).reason == "RuntimeError: boom; the token budget cannot hold another attempt"
        assert a.claim() == "done"
    assert read_status(directory).is_finished
    check_in_step(directory, ended=True)


# Deaths between any two statements.


@pytest.mark.parametrize("write", range(10))
@BOTH_STORAGES
def test_a_death_between_any_two_writes_of_a_claim_loses_nothing(make_sweep: MakeSweep, write: int) -> None:
    sweep, undisturbed = make_sweep(), make_sweep(name="undisturbed")
    directory = open_study(sweep)
    with suppress(Killed), alive(directory, "a"):
        study = Study(directory, sweep, "a")
        with dying_before(write, die):
            study.claim()
    assert read_status(directory).budget.trials.reserved == (1 if write else 0), "from its first write on the budget knows of it"
    survivor = Study(directory, sweep, "b")
    with alive(directory, "b"):
        assert claimed(survivor).number == 0
    run_to_the_end(survivor)
    other = open_study(undisturbed)
    run_to_the_end(Study(other, undisturbed, "w"))
    runs = check_in_step(directory, ended=True).runs
    assert [(run.params, run.result.objective) for run in runs] == [(run.params, run.result.objective) for run in check_in_step(other).runs]


@pytest.mark.parametrize("ending", ["complete", "crash", "stop", "fail", "vanish"])
@pytest.mark.parametrize("write", range(5))
@BOTH_STORAGES
def test_a_death_between_any_two_writes_of_settling_counts_nothing_twice(make_sweep: MakeSweep, ending: str, write: int) -> None:
    sweep = make_sweep(budget={"trials": 1}, constraints={"val/general/forgetting": {"max": 0.2}})
    directory = open_study(sweep)
    a, b = Study(directory, sweep, "a"), Study(directory, sweep, "b")
    with suppress(Killed), alive(directory, "a"):
        claim = claimed(a)
        a.prepare(claim)
        attempt = Attempt(claim.run)
        ends = {"complete": attempt.complete, "crash": lambda: attempt.crash(100), "stop": lambda: attempt.stop(256)}
        ends |= {"fail": lambda: attempt.fail("no"), "vanish": lambda: attempt.vanish(100)}
        code = ends[ending]()
        with dying_before(write, die):
            a.settle(claim, code)
    answer = b.claim()
    result = read_result(claim.run)
    if ending in ("complete", "fail"):
        assert answer == "done"
        assert result.state == ("complete" if ending == "complete" else "failed")
        check_in_step(directory, ended=True)
        return
    assert answer == claim
    assert (result.attempts, result.failures) == (1, 0 if ending == "stop" else 1)
    assert result.tokens.trained == {"crash": 100, "stop": 256, "vanish": 228}[ending]
    b.settle(claim, Attempt(claim.run).complete())
    check_in_step(directory, ended=True)
