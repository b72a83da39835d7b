"""Trunk search as a pure function of the trials so far, and with real training."""

from __future__ import annotations

import math
import statistics
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.errors import InputError
from harness.runs.directory import StudyDirectory, runs_root
from harness.runs.record import RunRecord, load_study
from harness.runs.result import Result, write_result
from harness.runs.trial import Trial, read_trial, write_trial
from harness.search.confirm import open_confirmation
from harness.search.load_sweep import load_sweep
from harness.search.open_study import open_study
from harness.search.parameter import Parameter
from harness.search.study import Claim, Study
from harness.search.sweep import Sweep, thaw
from harness.search.trunk_search import Proposal, Rungs, TrialSummary, proposals, rung_lengths, trials_to_learn_from
from tests.search.conftest import MakeSweep, WriteSweep
from tests.search.studies import TRIAL_TOKENS, Attempt, alive
from tests.support.command import run_harness

DECAY = Parameter("schedule.decay_fraction", low=0.1, high=0.5)
RUNGS = Rungs(rung_lengths(900, 3, 3), "trainer.max_steps", 3, branches=2, late=(DECAY,))


def trial(number: int, loss: float, rung: int = 0, parent: int | None = None, state: str = "complete", decay: float = 0.2) -> TrialSummary:
    return TrialSummary(number, rung, parent, {"optim.lr": loss, DECAY.key: decay}, state, (0.0, loss))


def test_rungs_grow_by_the_factor_to_the_full_length() -> None:
    assert rung_lengths(900, 3, 3) == (100, 300, 900)
    assert rung_lengths(900, 1, 3) == (900,)


def test_the_first_thing_is_a_new_trunk() -> None:
    assert list(proposals(RUNGS, [], 0)) == [Proposal(rung=0)]


def test_one_in_three_goes_on_the_best_first_and_only_once() -> None:
    seen = [trial(number, loss) for number, loss in enumerate([5.0, 3.0, 4.0, 1.0, 2.0, 6.0])]
    first, second, *_ = proposals(RUNGS, seen, 0)
    assert [(first.rung, first.parent), (second.rung, second.parent)] == [(1, 3), (1, 4)]
    assert first.params == seen[3].params
    under_way = [*seen, trial(6, 0.0, rung=1, parent=3, state="running")]
    assert next(proposals(RUNGS, under_way, 0)).parent == 4


def test_two_of_a_rung_are_too_few_to_go_on_while_new_trunks_fit() -> None:
    seen = [trial(0, 2.0), trial(1, 1.0)]
    assert list(proposals(RUNGS, seen, 0)) == [
        Proposal(rung=0),
        Proposal(rung=1, parent=1, params=seen[1].params),
        Proposal(rung=1, parent=0, params=seen[0].params),
    ]


def test_the_decay_of_the_best_trunk_is_varied_at_full_length() -> None:
    top = trial(9, 1.0, rung=2, parent=8)
    variation = next(proposals(RUNGS, [top], 0))
    assert (variation.rung, variation.parent) == (2, 9)
    assert variation.params is not None
    assert variation.params["optim.lr"] == 1.0
    assert variation.params[DECAY.key] != 0.2
    varied = [TrialSummary(10 + n, 2, 9, {"optim.lr": 1.0, DECAY.key: 0.3 + n / 10}, "complete", (0.0, 2.0)) for n in range(2)]
    assert next(proposals(RUNGS, [top, *varied], 0)) == Proposal(rung=0)


def test_what_breaks_a_constraint_comes_last() -> None:
    seen = [TrialSummary(n, 0, None, {}, "complete", loss) for n, loss in enumerate([(0.5, 1.0), (0.0, 3.0), (0.1, 2.0)])]
    assert next(proposals(RUNGS, seen, 0)).parent == 1


def test_samplers_learn_from_the_highest_rung_with_enough_trials() -> None:
    lower = [trial(n, n) for n in range(9)]
    higher = [trial(9 + n, n, rung=1) for n in range(3)]
    seen = [*lower, *higher, trial(12, 0.0, rung=2), trial(13, 0.0, state="running")]
    assert trials_to_learn_from(RUNGS, seen, enough=3) == {9, 10, 11, 13}
    assert trials_to_learn_from(RUNGS, seen, enough=4) == {*range(9), 13}
    assert trials_to_learn_from(RUNGS, seen, enough=50) == {*range(9), 13}


DRAWN = st.tuples(st.integers(0, 2), st.floats(0, 10), st.sampled_from(["complete", "running", "failed", "waiting"]))


@given(st.lists(DRAWN, max_size=30))
def test_only_complete_trials_go_on_by_one_rung(drawn: list[tuple[int, float, str]]) -> None:
    seen = [TrialSummary(n, rung, None, {"optim.lr": n, DECAY.key: 0.2}, state, (0.0, loss)) for n, (rung, loss, state) in enumerate(drawn)]
    found = list(proposals(RUNGS, seen, 0))
    assert Proposal(rung=0) in found
    for proposal in found:
        if proposal.parent is not None:
            parent = seen[proposal.parent]
            assert parent.state == "complete"
            assert proposal.rung == min(parent.rung + 1, RUNGS.last)


BASE = ["schedule=wsd", "schedule.warmup=2", "trainer.max_steps=36"]
SPACE: dict[str, Any] = {
    "optim.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "schedule.decay_fraction": {"low": 0.2, "high": 0.5},
}
TRUNK = {"name": "trunk", "rungs": 3, "reduction_factor": 2, "branches": 2, "startup_trials": 4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": [*BASE, "schedule.warmup=0.1"]}, "schedule.warmup=0.1: with search=trunk a share of the run would differ"),
        ({"space": {**SPACE, "trainer.max_tokens": {"low": 2560, "high": 5120}}}, "search=trunk chooses the length of each run itself"),
        ({"stopping": "median", "base": [*BASE, "trainer.evaluate_every_steps=5"]}, "stopping=median: not beside search=trunk"),
        ({"search": {**TRUNK, "rungs": 6}}, "search.rungs=6: the shortest runs"),
        (
            {"space": {**SPACE, "schedule.decay_fraction": {"low": 0.2, "high": 0.9}}},
            "schedule.decay_fraction=0.9, trainer.max_steps=9 is not valid",
        ),
        ({"objective": [{"metric": "val/domain/loss"}, {"metric": "val/general/loss"}]}, "search.name=trunk: takes one objective"),
    ],
)
def test_sweeps_that_no_trunk_could_serve_are_refused(change: dict[str, Any], message: str, write_sweep: WriteSweep) -> None:
    document = {"base": BASE, "space": SPACE, "search": TRUNK, **change}
    with pytest.raises(InputError) as error:
        load_sweep(str(write_sweep(**document)), [])
    assert message in str(error.value)


@pytest.mark.slow
@pytest.mark.long
def test_a_trunk_search_spends_its_budget_on_annealed_runs_that_go_on(write_sweep: WriteSweep, tmp_path: Path) -> None:
    whole = 36 * 256  # tokens of a full run, at most
    sweep = write_sweep(
        "trunks", base=BASE, space=SPACE, search=TRUNK, budget={"tokens": 5 * whole}, launcher={"name": "local", "workers": 2}
    )
    done = run_harness("sweep", sweep, cwd=tmp_path, timeout_seconds=400)
    assert done.rc == 0, done
    study = load_study(StudyDirectory(runs_root() / "trunks"))
    assert {run.state for run in study.runs} == {"complete"}
    trials = {run.number: run for run in study.runs}
    assert {run.trial.rung for run in study.runs if run.trial} == {0, 1, 2}
    for run in study.runs:
        assert run.trial is not None
        tokens = run.result.tokens
        assert tokens.trained == tokens.budgeted <= run.trial.tokens
        if run.trial.parent is not None:
            assert tokens.shared > 0
            assert run.params["optim.lr"] == trials[run.trial.parent].params["optim.lr"]
    assert sum(run.result.tokens.trained for run in study.runs) <= 5 * whole
    assert study.best is not None
    assert study.best.trial is not None
    assert study.best.trial.rung == 2


BOUND, SHIFT = 0.5, 0.15


def place(params: dict[str, Any]) -> float:
    """Where the rate lies in its range, from 0 to 1: the more of it the lower the loss, and the more is forgotten."""
    return (math.log10(params["optim.lr"]) + 4) / 3


def runs_of(sweep: Sweep) -> list[RunRecord]:
    """The trials of a study that spends its budget, training nothing."""
    directory = open_study(sweep)
    study = Study(directory, thaw(directory.sweep), "here-1-aa")
    while isinstance(claim := study.claim(), Claim):
        found = read_trial(claim.run)
        assert found is not None
        assert found.params is not None
        loss = 3.0 - place(found.params) + 0.5 * (2 - (found.rung or 0))
        study.settle(claim, Attempt(claim.run).complete(loss, **{"val/general/forgetting": place(found.params)}))
    return load_study(directory).runs


def whole_runs(sweep: Sweep) -> list[RunRecord]:
    """Those at full length."""
    return [run for run in runs_of(sweep) if run.trial is not None and run.trial.rung == 2]


@pytest.mark.slow
def test_no_short_run_begins_that_could_not_be_followed_to_full_length(
    write_sweep: WriteSweep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    search = {**TRUNK, "confirm": False}
    base, space = [*BASE, "schedule.decay_fraction=0.25"], {"optim.lr": SPACE["optim.lr"]}
    path = str(write_sweep(base=base, space=space, search=search, budget={"tokens": 10**9}))
    whole = load_sweep(path, []).largest_trial_tokens
    spent, most = 0, 5 * whole
    for run in runs_of(load_sweep(path, [f"budget.tokens={most}"])):
        assert run.trial is not None
        spent += run.result.tokens.spent
        if run.trial.rung != 2:
            assert spent + whole - 0.75 * run.trial.tokens <= most, "and what its trunk has not trained of a run of full length"
    last = runs_of(load_sweep(str(write_sweep("few", base=base, space=space, search=search, budget={"trials": 9})), []))[-1]
    assert last.number == 8
    assert last.trial is not None
    assert last.trial.rung == 2


def test_where_no_run_of_full_length_fits_short_ones_are_better_than_nothing(
    write_sweep: WriteSweep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    path = write_sweep(base=BASE, space=SPACE, search={**TRUNK, "confirm": False}, budget={"tokens": 36 * 256 * 3 // 4})
    assert {run.trial.rung for run in runs_of(load_sweep(str(path), [])) if run.trial} == {0, 1}


@pytest.mark.slow
@pytest.mark.parametrize("is_confirmed", [True, False])
def test_after_a_confirmation_it_goes_on_to_where_the_constraints_hold_with_fresh_seeds(
    is_confirmed: bool, write_sweep: WriteSweep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    constraints, whole = {"val/general/forgetting": {"max": BOUND}}, 36 * 256
    space = {"optim.lr": SPACE["optim.lr"]}
    base = [*BASE, "schedule.decay_fraction=0.25"]
    path = str(
        write_sweep(base=base, space=space, search={**TRUNK, "confirm": False}, constraints=constraints, budget={"tokens": 6 * whole})
    )
    before = whole_runs(load_sweep(path, []))
    study = load_study(StudyDirectory(runs_root() / "study"))
    assert study.best is not None
    assert BOUND - 0.05 < place(study.best.params) <= BOUND, "the best of the search lies at the edge"
    if is_confirmed:
        directory = open_confirmation(study, top=1, seeds=2, workers=1)
        metrics = {"val/domain/loss": 2.5, "val/general/forgetting": place(study.best.params) + SHIFT}
        for number in range(2):
            write_trial(directory.trial(number), Trial(number=number, params={}, tokens=1))
            write_result(directory.trial(number), Result(state="complete", metrics=metrics, objective=2.5))
    later = whole_runs(load_sweep(path, [f"budget.tokens={12 * whole}"]))[len(before) :]
    assert len(later) >= 5
    middle = statistics.median(place(run.params) for run in later)
    assert (middle < BOUND - 0.5 * SHIFT) == is_confirmed, middle


@pytest.mark.parametrize(
    ("budget", "at_once"), [({"tokens": 8 * TRIAL_TOKENS}, 1), ({"tokens": 22 * TRIAL_TOKENS}, 5), ({"wall_hours": 1.0}, 8)]
)
def test_a_trunk_search_with_few_tokens_waits_for_what_is_under_way(make_sweep: MakeSweep, budget: dict[str, float], at_once: int) -> None:
    trunk = {"name": "trunk", "rungs": 2, "reduction_factor": 2, "sampler": "random"}
    sweep = make_sweep(search=trunk, budget={"trials": None, "tokens": 100 * TRIAL_TOKENS, **budget})
    directory = open_study(sweep)
    studies = [Study(directory, sweep, f"w{number}") for number in range(8)]
    with ExitStack() as living:
        for study in studies:
            living.enter_context(alive(directory, study.worker))
        claims = [study.claim() for study in studies]
        begun = [claim for claim in claims if isinstance(claim, Claim)]
        assert (len(begun), claims[at_once:]) == (at_once, ["wait"] * (8 - at_once))
        assert studies[0].prepare(begun[0])
        studies[0].settle(begun[0], Attempt(begun[0].run).complete())
        assert isinstance(studies[-1].claim(), Claim), "and goes on then"
