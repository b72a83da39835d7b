"""Studies that confirm their best by themselves: search.confirm, over attempts that cost nothing."""

from __future__ import annotations

import math
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from harness.cli.sweep import end_lines
from harness.config.errors import InputError
from harness.runs.confirmation_plan import confirmation_directory, read_plan
from harness.runs.directory import StudyDirectory
from harness.runs.files import write_json
from harness.runs.record import load_study
from harness.runs.trial import claimed_trial, write_trial
from harness.search.checks import advice, check
from harness.search.confirm import open_confirmation
from harness.search.load_sweep import load_sweep
from harness.search.open_study import open_study
from harness.search.reserve import FEWEST_RUNS, SHARE, held_back, holds_two_races
from harness.search.status import read_status
from harness.search.storage.build import open_storage
from harness.search.storage.contract import StudyStorage
from harness.search.study import Claim, Study
from harness.search.sweep import Sweep, thaw
from tests.search.conftest import MakeSweep, WriteSweep
from tests.search.studies import TRIAL_TOKENS, Attempt, check_in_step, claim_and_status_agree, dying_before, run_all

pytestmark = pytest.mark.usefixtures("composed_once")
SEED_SHIFTS = [0.0, 0.31, -0.12, 0.07, 0.22, -0.19, 0.04, 0.11]
"""By seed: what it does to all alike."""
Measure = Callable[[dict[str, Any]], dict[str, float]]


def measured(params: dict[str, Any]) -> dict[str, float]:
    """A function of the point and its seed; what is a run's own is small, and a function of both."""
    seed, rate = params.get("seed", 0), params["optim.lr"]
    own = 0.002 * ((seed * 31 + round(rate * 1e7)) % 11 - 5)
    return {"val/domain/loss": 2 + 10 * abs(rate - 0.003) + SEED_SHIFTS[seed % 8] + own}


def run(claim: Claim, study: Study, measure: Measure) -> None:
    params = claimed_trial(claim.run).params
    assert params is not None
    metrics = measure(params)
    study.settle(claim, Attempt(claim.run).complete(metrics.pop("val/domain/loss"), **metrics))


def run_to_the_end(study: Study, measure: Measure = measured) -> list[str]:
    """What was run, in order."""
    done = []
    while isinstance(claim := claim_and_status_agree(study), Claim):
        assert study.prepare(claim)
        done.append(claim.run.name)
        run(claim, study, measure)
    assert claim == "done"
    return done


Opened = Callable[..., tuple[StudyDirectory, Sweep]]


@pytest.fixture
def opened(make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Opened:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))

    def open_(**sections: Any) -> tuple[StudyDirectory, Sweep]:
        sweep = make_sweep(**{**sections, "search": {"confirm": True, **sections.get("search", {})}})
        return open_study(sweep), sweep

    return open_


@pytest.mark.parametrize("budget", [{"trials": 20, "tokens": None}, {"trials": None, "tokens": 20 * TRIAL_TOKENS + 100}])
def test_the_budget_covers_a_confirmed_winner(opened: Opened, budget: dict[str, int | None]) -> None:
    directory, sweep = opened(budget=budget)
    done = run_to_the_end(Study(directory, sweep, "w"))
    status = read_status(directory)
    assert status.phase == "ended"
    for account in (status.budget.trials, status.budget.tokens):
        assert account.limit is None or account.used <= account.limit
    assert 5 <= len(status.study.paid_for) <= 20 * SHARE
    assert done[: len(status.study.runs)] == [run.name for run in status.study.runs], "the search came first"
    assert status.study.confirmed is not None
    assert status.best is not None
    assert status.best.number == status.study.confirmed.number
    said = "\n".join(end_lines(status, "20 complete"))
    assert f"trial {status.best.number} is the winner: val/domain/loss" in said
    assert "harness confirm" not in said
    for study in (directory, confirmation_directory(directory)):
        check_in_step(study, ended=True)


def test_what_is_left_when_the_winner_is_clear_goes_back_to_the_search(opened: Opened) -> None:
    """Two candidates fall behind at their second seed; the winner gets its third, and nobody else."""
    directory, sweep = opened(budget={"trials": 40, "tokens": None})
    apart = lambda params: {"val/domain/loss": 2 + 1000 * abs(params["optim.lr"] - 0.003) + SEED_SHIFTS[params.get("seed", 0) % 8]}  # noqa: E731
    done = run_to_the_end(Study(directory, sweep, "w"), apart)
    study = load_study(directory)
    first = next(place for place, name in enumerate(done) if name.startswith("study-confirm/"))
    assert first == 40 - 40 * SHARE
    assert [name for name in done[first:] if name.startswith("study/")], "the search went on"
    assert study.confirmed is not None
    assert len(study.confirmed.values) >= 3
    # What was found later and is better was confirmed, too.
    assert study.confirmed.number == min(study.runs, key=lambda run: run.result.objective or 0.0).number


def test_without_a_candidate_all_is_searched_and_that_is_said(opened: Opened) -> None:
    directory, sweep = opened(budget={"trials": 10, "tokens": None}, constraints={"val/general/forgetting": {"max": 0.05}})
    run_to_the_end(Study(directory, sweep, "w"))
    status = read_status(directory)
    assert not status.study.paid_for
    assert len(status.study.runs) == 7, "three runs are kept for one that might have held"
    assert "no trial is complete and within the constraints" in "\n".join(end_lines(status, ""))


@pytest.mark.slow
def test_where_fresh_seeds_break_a_bound_the_next_candidates_have_their_turn(opened: Opened) -> None:
    """With the search's seed forgetting is 0.05 less than with any other."""
    bound = {"val/general/forgetting": {"max": 0.5}}

    def edge(params: dict[str, Any]) -> dict[str, float]:
        rate, seed = params["optim.lr"], params.get("seed", 0)
        forgetting = 0.5 + 0.2 * math.log10(rate / 0.003) + (0.05 if seed else 0.0) + 0.002 * (seed % 3)
        return {"val/domain/loss": 3 - 0.1 * math.log10(rate) + SEED_SHIFTS[seed % 8], "val/general/forgetting": forgetting}

    directory, sweep = opened(budget={"trials": 40, "tokens": None}, constraints=bound)
    run_to_the_end(Study(directory, sweep, "w"), edge)
    study = load_study(directory)
    assert study.confirmation is not None
    assert study.confirmed is not None
    assert study.confirmed.metrics["val/general/forgetting"] <= 0.5
    broken = [candidate for candidate in study.confirmation.candidates if candidate.feasible is False]
    assert broken, "the best of the search lay at the edge"
    clear = [candidate for candidate in broken if candidate.metrics["val/general/forgetting"] > 0.505]
    assert clear, "one more at 0.5001 may be within"
    assert all(len(candidate.results) <= 3 for candidate in clear), "they got no seeds for nothing"


@pytest.mark.parametrize("trials", [12, 20])
def test_a_bound_that_is_to_hold_with_a_chance_ends_with_a_winner_that_lies_inside(opened: Opened, trials: int) -> None:
    """The best of the search lie at the edge, where seeds push half of them over; what is handed over lies as far inside as the chance
    asks for, and every candidate that was begun could be judged."""
    bound = {"val/general/forgetting": {"max": 0.5, "chance": 0.9}}
    moves = [0.0, 0.03, -0.02, 0.01, -0.03, 0.02, 0.0, -0.01]

    def edge(params: dict[str, Any]) -> dict[str, float]:
        rate, seed = math.log10(params["optim.lr"] / 0.003), params.get("seed", 0)
        return {"val/domain/loss": 3 - 0.1 * rate, "val/general/forgetting": 0.5 + 0.2 * rate + moves[seed % 8]}

    directory, sweep = opened(budget={"trials": trials, "tokens": None}, constraints=bound)
    run_to_the_end(Study(directory, sweep, "w"), edge)
    study = load_study(directory)
    assert study.confirmation is not None
    assert study.confirmed is not None
    assert len(study.confirmed.values) >= 3
    assert 0.9 <= study.confirmed.chances["val/general/forgetting"].mean < 1.0
    assert study.confirmed.metrics["val/general/forgetting"] < 0.5 - 0.02


def test_near_duplicates_do_not_race_each_other(opened: Opened) -> None:
    directory, sweep = opened(budget={"trials": 20, "tokens": None})
    study = Study(directory, sweep, "w")
    rates = iter([3.00e-3, 3.01e-3, 3.02e-3, 9e-3, 1e-3, 3e-2])
    while isinstance(claim := study.claim(), Claim):
        trial = claimed_trial(claim.run)
        if trial.given is None and (rate := next(rates, None)) is not None:
            trial.params = {"optim.lr": rate, "schedule": "linear"}
            write_trial(claim.run, trial)
        run(claim, study, measured)
    found = load_study(directory).confirmation
    assert found is not None
    assert not {0, 1, 2} <= set(found.plan.candidates)
    assert len({0, 1, 2} & set(found.plan.candidates)) == 1


def test_no_candidate_holds_and_the_study_says_so(opened: Opened) -> None:
    directory, sweep = opened(budget={"trials": 12, "tokens": None}, constraints={"val/general/forgetting": {"max": 0.5}})
    moved = lambda params: {**measured(params), "val/general/forgetting": 0.4 + 0.3 * (params.get("seed", 0) > 0)}  # noqa: E731
    run_to_the_end(Study(directory, sweep, "w"), moved)
    status = read_status(directory)
    assert status.study.confirmed is None
    assert "study: not confirmed: none of its" in "\n".join(end_lines(status, ""))


@pytest.mark.slow
@pytest.mark.parametrize("constraints", [{}, {"val/general/forgetting": {"max": 0.5}}])
def test_every_worker_finds_the_same_next_run(opened: Opened, tmp_path: Path, constraints: dict[str, Any]) -> None:
    directory, sweep = opened(budget={"trials": 15, "tokens": None}, constraints=constraints)
    study = Study(directory, sweep, "w")
    found: list[str] = []
    while True:
        copies = []
        for name in ("one", "two"):
            shutil.copytree(tmp_path / "runs", tmp_path / name / "runs")
            answer = Study(StudyDirectory(tmp_path / name / "runs" / "study"), sweep, name).claim()
            copies.append((answer.run.name, claimed_trial(answer.run).params) if isinstance(answer, Claim) else answer)
            shutil.rmtree(tmp_path / name)
        claim = study.claim()
        assert copies == [(claim.run.name, claimed_trial(claim.run).params) if isinstance(claim, Claim) else claim] * 2
        if not isinstance(claim, Claim):
            break
        found.append(claim.run.name)
        run(claim, study, measured)
    assert claim == "done"
    assert sum(name.startswith("study-confirm/") for name in found) >= 3


@contextmanager
def announced(directory: StudyDirectory, worker: str) -> Iterator[StudyStorage]:
    """The storage of a worker that lives."""
    storage = open_storage(directory, worker)
    storage.announce(worker)
    try:
        yield storage
    finally:
        storage.close()


class Killed(BaseException):
    """What a SIGKILL looks like from inside."""


def _die() -> None:
    raise Killed


@pytest.mark.slow
@pytest.mark.parametrize("every", [3, 7, 11])
def test_killed_anywhere_it_ends_as_if_undisturbed(opened: Opened, every: int) -> None:
    budget = {"trials": 14, "tokens": None}
    undisturbed, sweep = opened(name="undisturbed", budget=budget)
    run_to_the_end(Study(undisturbed, sweep, "w"))
    directory, sweep = opened(budget=budget)
    lives = 0
    while lives < 400:
        lives += 1
        with suppress(Killed), announced(directory, f"w{lives}") as storage, dying_before(every + lives % 5, _die):
            study = Study(directory, sweep, f"w{lives}", storage)
            while isinstance(claim := study.claim(), Claim):
                assert study.prepare(claim)
                run(claim, study, measured)
            break
    assert 3 < lives < 400
    expected, found = load_study(undisturbed), load_study(directory)
    assert [(run.params, run.result.objective) for run in found.runs] == [(run.params, run.result.objective) for run in expected.runs]
    assert found.confirmation is not None
    assert expected.confirmation is not None
    assert found.confirmation.plan.runs == expected.confirmation.plan.runs
    assert [candidate.values for candidate in found.confirmation.candidates] == [
        candidate.values for candidate in expected.confirmation.candidates
    ]
    check_in_step(directory, ended=True)
    check_in_step(confirmation_directory(directory), ended=True)


def test_two_workers_race_side_by_side(opened: Opened) -> None:
    directory, sweep = opened(budget={"trials": 20, "tokens": None})
    with announced(directory, "a") as of_a, announced(directory, "b") as of_b:
        a, b = Study(directory, sweep, "a", of_a), Study(directory, sweep, "b", of_b)
        for _ in range(7):
            one, two = a.claim(), b.claim()
            assert isinstance(one, Claim)
            assert isinstance(two, Claim)
            run(one, a, measured)
            run(two, b, measured)
        confirming = [claim for study in (a, b) if isinstance(claim := study.claim(), Claim)]
        assert [claim.run.name for claim in confirming] == ["study-confirm/0000", "study-confirm/0001"]
        assert read_status(directory).phase == "confirming"
        plan = read_plan(confirmation_directory(directory))
        assert plan is not None
        assert plan.runs[0]["seed"] == plan.runs[1]["seed"], "side by side over one seed"
        assert plan.runs[0]["candidate"] != plan.runs[1]["candidate"]


@contextmanager
def _two_that_have_run_one_each(directory: StudyDirectory, sweep: Sweep, measure: Measure) -> Iterator[tuple[Study, Study]]:
    """Two workers, as one process."""
    with announced(directory, "a") as of_a, announced(directory, "b") as of_b:
        workers = Study(directory, sweep, "a", of_a), Study(directory, sweep, "b", of_b)
        for study in workers:
            first = study.claim()
            assert isinstance(first, Claim)
            run(first, study, measure)
        yield workers


def test_where_few_can_be_judged_nobody_begins_while_a_better_one_may_come(opened: Opened) -> None:
    directory, sweep = opened(budget={"trials": 7, "tokens": None})
    with _two_that_have_run_one_each(directory, sweep, measured) as (a, b):
        last = a.claim()
        assert isinstance(last, Claim)
        assert b.claim() == "wait"
        run(last, a, measured)
        confirming = b.claim()
        assert isinstance(confirming, Claim)
        assert confirming.run.name == "study-confirm/0000"


def test_where_nobody_can_be_confirmed_idle_workers_search(opened: Opened) -> None:
    """No trial is within the bound so far: there is nothing for which what is left would be kept together."""
    directory, sweep = opened(budget={"trials": 7, "tokens": None}, constraints={"val/general/forgetting": {"max": 0.5}})

    def broken(params: dict[str, Any]) -> dict[str, float]:
        return {**measured(params), "val/general/forgetting": 0.9}

    with _two_that_have_run_one_each(directory, sweep, broken) as (a, b):
        assert isinstance(a.claim(), Claim)
        beside = b.claim()
        assert isinstance(beside, Claim)
        assert beside.run.name == "study/0003"


def test_a_search_over_seeds_alone_under_a_bound_ends_confirmed(
    write_sweep: WriteSweep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing in the space explains what they differ by: no model is fitted."""
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    path = write_sweep(
        space={"seed": {"low": 0, "high": 99}},
        search={"name": "random", "confirm": True},
        budget={"trials": 12},
        constraints={"val/general/forgetting": {"max": 0.5}},
    )
    sweep = load_sweep(str(path), [])
    directory = open_study(sweep)

    def moved(params: dict[str, Any]) -> dict[str, float]:
        return {
            "val/domain/loss": 2 + SEED_SHIFTS[params["seed"] % 8],
            "val/general/forgetting": 0.3 + 0.001 * (params["seed"] % 7),
        }

    run_to_the_end(Study(directory, sweep, "w"), moved)
    assert load_study(directory).confirmed is not None


def test_more_can_be_confirmed_afterwards_and_is_not_charged(opened: Opened) -> None:
    directory, sweep = opened(budget={"trials": 14, "tokens": None})
    run_to_the_end(Study(directory, sweep, "w"))
    before = read_status(directory)
    assert before.study.confirmed is not None
    more = open_confirmation(before.study, top=1, seeds=6, workers=1)
    run_all(more, lambda trial: measured(trial.params or {})["val/domain/loss"])
    after = read_status(directory)
    assert after.budget.trials == before.budget.trials
    assert after.is_finished
    assert after.study.confirmation is not None
    confirmed = after.study.confirmation.candidate(before.study.confirmed.number)
    assert confirmed is not None
    assert len(confirmed.values) == 6
    assert Study(directory, sweep, "later").claim() == "done"


def test_nobody_else_confirms_while_its_workers_do(opened: Opened) -> None:
    directory, sweep = opened(budget={"trials": 10, "tokens": None})
    run_to_the_end(Study(directory, sweep, "w"))
    with announced(directory, "here-1-aa"):
        write_json(directory.worker_file("here-1-aa"), {"id": "here-1-aa", "pid": 1, "host": socket.gethostname()})
        with pytest.raises(InputError, match=r"study: its workers confirm its best themselves .* `harness stop study` first"):
            open_confirmation(load_study(directory), top=1, seeds=6, workers=1)
    assert open_confirmation(load_study(directory), top=1, seeds=6, workers=1) == confirmation_directory(directory)


def test_a_larger_budget_goes_on_with_both(opened: Opened, make_sweep: MakeSweep) -> None:
    directory, sweep = opened(budget={"trials": 10, "tokens": None})
    run_to_the_end(Study(directory, sweep, "w"))
    few = load_study(directory)
    more = make_sweep(search={"confirm": True}, budget={"trials": 30, "tokens": None})
    run_to_the_end(Study(open_study(more), more, "w2"))
    many = load_study(directory)
    assert len(many.runs) > len(few.runs)
    assert len(many.paid_for) > len(few.paid_for)


def test_nobody_waits_for_a_run_that_a_confirmation_left(opened: Opened, make_sweep: MakeSweep) -> None:
    """`harness confirm --seeds 6`, killed in its first run; then the study goes on with a larger budget."""
    bound = {"val/general/forgetting": {"max": 0.5}}
    directory, sweep = opened(budget={"trials": 8, "tokens": None}, constraints=bound)
    run_to_the_end(Study(directory, sweep, "w"))
    before = load_study(directory)
    assert before.confirmed is not None
    more = open_confirmation(before, top=1, seeds=6, workers=1, trials=[before.confirmed.number])
    assert isinstance(left := Study(more, thaw(more.sweep), "killed").claim(), Claim)

    larger = make_sweep(search={"confirm": True}, budget={"trials": 20, "tokens": None}, constraints=bound)

    def worse(params: dict[str, Any]) -> dict[str, float]:
        return measured(params) if "seed" in params else {"val/domain/loss": 9.0 + params["optim.lr"]}

    done = run_to_the_end(Study(open_study(larger), larger, "w2"), worse)
    assert left.run.name not in done
    assert len(load_study(directory).runs) > len(before.runs)


@pytest.mark.parametrize(
    ("sections", "problem"),
    [
        ({"budget": {"trials": FEWEST_RUNS, "tokens": None}}, "search.confirm=true: budget.trials=4 holds no trial beside 4 runs"),
        ({"search": {"name": "grid"}}, "search.confirm=true: not with search=grid"),
    ],
)
def test_what_cannot_confirm_itself_is_refused(make_sweep: MakeSweep, sections: dict[str, Any], problem: str) -> None:
    sweep = make_sweep(**{**sections, "search": {"confirm": True, **sections.get("search", {})}})
    with pytest.raises(InputError, match=problem):
        check(sweep)


def test_a_trunk_search_confirms_by_itself_where_its_budget_holds_it(make_sweep: MakeSweep) -> None:
    trunk = {"name": "trunk", "rungs": 2, "reduction_factor": 2}
    small = make_sweep(search=trunk, budget={"trials": None, "tokens": 4 * TRIAL_TOKENS})
    assert any(line.startswith("search.confirm is off: budget.tokens=") for line in advice(small))
    large = make_sweep(search=trunk, budget={"trials": None, "tokens": 5 * TRIAL_TOKENS})
    assert not any("search.confirm" in line for line in advice(large))


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"trials": 32, "tokens": 20 * TRIAL_TOKENS}, "budget.trials=null"),
        ({"trials": 32, "tokens": None}, f"budget.trials=null budget.tokens={32 * TRIAL_TOKENS} (that of 32 whole runs)"),
        ({"trials": 200, "tokens": 20 * TRIAL_TOKENS}, None),
        ({"trials": None, "tokens": 20 * TRIAL_TOKENS}, None),
    ],
)
def test_a_trunk_search_that_trials_may_end_before_tokens_is_told_so(
    make_sweep: MakeSweep, budget: dict[str, int | None], said: str | None
) -> None:
    sweep = make_sweep(search={"name": "trunk", "rungs": 2, "reduction_factor": 2}, budget=budget)
    found = [line for line in advice(sweep) if "counts as a trial" in line]
    assert (found[0].endswith(said) and len(found) == 1) if said else not found


@pytest.mark.parametrize(("runs", "holds"), [(16, False), (26, False), (27, True)])
def test_first_finds_are_confirmed_early_where_enough_is_left_for_the_last(make_sweep: MakeSweep, runs: int, holds: bool) -> None:
    """Of 16 runs that take part, 4.8 are held back: with half of them spent, the best could not be compared with another."""
    assert holds_two_races(make_sweep(budget={"trials": None, "tokens": runs * TRIAL_TOKENS})) == holds


@pytest.mark.parametrize(
    ("trials", "runs", "held"),
    [(32, 10, (4, 4)), (32, 20, (6, 6)), (32, 32, (10, 9.6)), (10, 100, (4, 4)), (32, None, (10, None)), (None, 20, (None, 6))],
)
def test_no_more_is_held_back_of_a_unit_than_the_other_can_pay_for(
    make_sweep: MakeSweep, trials: int | None, runs: int | None, held: tuple[int | None, float | None]
) -> None:
    """A trunk search of 32 trials and the tokens of ten full runs has 28 trials: those tokens hold four runs over fresh seeds."""
    found = held_back(make_sweep(budget={"trials": trials, "tokens": runs and runs * TRIAL_TOKENS}), [])
    assert held[0] is None or found.trials == held[0]
    assert held[1] is None or found.tokens == pytest.approx(held[1] * TRIAL_TOKENS, abs=1)


def test_another_study_s_confirmation_is_in_the_way(opened: Opened, make_sweep: MakeSweep) -> None:
    directory, sweep = opened(budget={"trials": 10, "tokens": None})
    run_to_the_end(Study(directory, sweep, "w"))
    shutil.rmtree(directory.path)
    with pytest.raises(InputError, match="confirms an earlier study of the name study; move it away"):
        open_study(sweep)
    assert not directory.sweep.exists()


def test_hours_are_held_back_as_trials_and_tokens_are(opened: Opened) -> None:
    """Attempts of a minute each, on a budget of half an hour of devices: none runs beyond it, and a part of it is for fresh seeds."""
    now = 1e9
    directory, sweep = opened(budget={"trials": None, "tokens": None, "gpu_hours": 0.5})
    study = Study(directory, sweep, "w", clock=lambda: now)
    while isinstance(claim := study.claim(), Claim):
        assert claim.lease_ends <= 1e9 + 1800
        now += 60
        run(claim, study, measured)
    record = load_study(directory)
    seconds = [one.trial.seconds for one in (*record.runs, *record.paid_for) if one.trial]
    assert sum(seconds) <= 1800
    assert len(seconds) >= 25
    assert len(record.paid_for) >= 5
    assert record.confirmed is not None


@pytest.mark.parametrize(("limits", "workers"), [({"gpu_hours": 11 / 60}, 1), ({"wall_hours": 8 / 60}, 3)])
def test_under_a_bound_the_hours_held_back_are_enough_for_a_winner(opened: Opened, limits: dict[str, float], workers: int) -> None:
    """Attempts of a minute, that lease a minute and a half: what is held back, 30 %, holds the three that a winner needs."""
    now = 1e9
    bound = {"val/general/forgetting": {"max": 0.5}}
    launcher = {"name": "local", "workers": workers}
    directory, sweep = opened(budget={"trials": None, "tokens": None, **limits}, constraints=bound, launcher=launcher)
    with ExitStack() as stack:
        ids = [f"w{number}" for number in range(workers)]
        studies = [Study(directory, sweep, id_, stack.enter_context(announced(directory, id_)), clock=lambda: now) for id_ in ids]
        while claims := [(claim, study) for study in studies if isinstance(claim := study.claim(), Claim)]:
            now += 60
            for claim, study in claims:
                run(claim, study, measured)
    record = load_study(directory)
    runs = [*record.runs, *record.paid_for]
    assert sum(one.trial.seconds for one in runs if one.trial) <= 3600 * limits.get("gpu_hours", math.inf)
    assert now - 1e9 <= 3600 * limits.get("wall_hours", math.inf)
    assert record.confirmed is not None
