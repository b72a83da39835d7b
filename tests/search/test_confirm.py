"""What a confirmation plans, and what it makes of its runs, over studies whose training costs nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.cli.sweep import end_lines
from harness.config.errors import InputError
from harness.report.comparison import compare
from harness.report.confirmation_table import confirmation_section, verdict
from harness.report.json_csv import to_json
from harness.runs.confirmation import Candidate, Confirmation
from harness.runs.confirmation_plan import ConfirmationPlan, read_plan
from harness.runs.directory import StudyDirectory
from harness.runs.exit_codes import DONE
from harness.runs.files import write_yaml
from harness.runs.record import StudyRecord, load_study
from harness.runs.result import Result, write_result
from harness.runs.trial import Trial, read_trial, write_trial
from harness.search.confirm import fresh_values, open_confirmation
from harness.search.load_sweep import load_sweep
from harness.search.open_study import open_study
from harness.search.status import read_status
from harness.search.study import Claim, Study
from harness.search.sweep import Sweep, thaw
from tests.search.conftest import MakeSweep, WriteSweep
from tests.search.studies import METRICS, Attempt, check_in_step, run_all

pytestmark = pytest.mark.usefixtures("composed_once")
LOSSES = {0: 2.30, 1: 2.20, 2: 2.25, 3: 2.90}


@pytest.fixture
def searched(make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Callable[..., StudyRecord]:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))

    def search(**sections: Any) -> StudyRecord:
        directory = open_study(make_sweep(**sections))
        run_all(directory, lambda trial: LOSSES[trial.number])
        return load_study(directory)

    return search


def confirmed(study: StudyRecord, loss: Callable[[int, int], float | None], *, top: int = 3, seeds: int = 3) -> StudyRecord:
    """loss: by candidate and seed."""
    directory = open_confirmation(study, top=top, seeds=seeds, workers=1)
    plan = read_plan(directory)
    assert plan is not None
    run_all(directory, lambda trial: loss(plan.runs[trial.number]["candidate"], plan.runs[trial.number]["seed"]))
    check_in_step(directory, ended=True)
    return load_study(study.directory)


def test_a_database_that_is_gone_leaves_nothing_behind(searched: Callable[..., StudyRecord]) -> None:
    study = searched()
    write_yaml(study.directory.sweep, {**study.sweep, "storage": "postgresql://nobody@127.0.0.1:1/db"})
    before = sorted(study.directory.path.parent.rglob("*"))
    with pytest.raises(InputError, match="postgresql://nobody@127"):
        open_confirmation(load_study(study.directory), top=2, seeds=2, workers=1)
    assert sorted(study.directory.path.parent.rglob("*")) == before


def test_every_candidate_runs_with_its_own_values_and_the_same_fresh_seeds(searched: Callable[..., StudyRecord]) -> None:
    study = searched()
    directory = open_confirmation(study, top=2, seeds=3, workers=None)
    plan = read_plan(directory)
    assert plan is not None
    assert [(run["candidate"], run["seed"]) for run in plan.runs] == [(1, 1), (2, 1), (1, 2), (2, 2), (1, 3), (2, 3)]
    sweep = thaw(directory.sweep)
    worker = Study(directory, sweep, "here-1-aa")
    for run in plan.runs:
        claim = worker.claim()
        assert isinstance(claim, Claim)
        trial = read_trial(claim.run)
        assert trial is not None
        assert trial.params == {**study.runs[run["candidate"]].params, "seed": run["seed"]}
        assert sweep.trial_config(trial.params).seed == run["seed"]
        Attempt(claim.run).complete(2.0)
        worker.settle(claim, DONE)
    assert worker.claim() == "done"


def test_texts_are_judged_again_after_other_prompts_and_with_other_noise(write_sweep: WriteSweep, tmp_path: Path) -> None:
    """Where the study judges texts; a set that it only looks at stays as it is."""
    rows = [{"prompt": f"{n} + 1 =", "answer": str(n + 1)} for n in range(67)]
    (tmp_path / "quiz.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sets = [f"data.generation.{name}.path={tmp_path}/quiz.jsonl" for name in ("quiz", "seen")]
    quiz = ["data.generation.quiz.verifier=exact", "data.generation.quiz.max_prompts=20"]
    objective = {"metric": "generation/quiz/accuracy", "direction": "maximize"}
    sweep = load_sweep(str(write_sweep(base=[*sets, *quiz], objective=objective)), [])
    params = {"optim.lr": 1e-3, "sampling.seed": 5}
    key = "data.generation.quiz.skip_prompts"
    assert fresh_values(sweep, params, 7, place=0) == {"seed": 7, "sampling.seed": 7, key: 20}
    assert fresh_values(sweep, params, 8, place=1) == {"seed": 8, "sampling.seed": 8, key: 40}
    assert fresh_values(sweep, params, 9, place=2) == {"seed": 9, "sampling.seed": 9, key: 20}, "there are two blocks behind the search's"
    for most, skip in ((50, {key: 50}), (67, {}), (200, {}), (None, {})):
        kept = load_sweep(
            str(write_sweep(base=[*sets, *quiz[:1], f"data.generation.quiz.max_prompts={most or 'null'}"], objective=objective)), []
        )
        assert fresh_values(kept, params, 7, place=0) == {"seed": 7, "sampling.seed": 7, **skip}
    losses = load_sweep(str(write_sweep(base=[*sets, *quiz])), [])
    assert fresh_values(losses, params, 7, place=0) == {"seed": 7}


def test_the_search_is_not_touched_and_not_charged(searched: Callable[..., StudyRecord]) -> None:
    study = searched()
    before = {path: path.read_bytes() for path in study.directory.path.rglob("*") if path.is_file()}
    budget = read_status(study.directory).budget
    confirmed(study, lambda candidate, seed: 2.0 + candidate + 0.01 * seed)
    assert {path: path.read_bytes() for path in study.directory.path.rglob("*") if path.is_file()} == before
    assert read_status(study.directory).budget.trials == budget.trials
    assert read_status(study.directory).budget.tokens == budget.tokens


def test_a_larger_confirmation_keeps_what_was_run(searched: Callable[..., StudyRecord]) -> None:
    study = searched()
    first = confirmed(study, lambda candidate, seed: 2.0 + 0.1 * candidate + 0.001 * seed, top=2, seeds=2).confirmation
    assert first is not None
    larger = open_confirmation(study, top=3, seeds=3, workers=1)
    plan = read_plan(larger)
    assert plan is not None
    assert plan.runs[:4] == first.plan.runs
    assert len(plan.runs) == 9
    assert load_study(study.directory).confirmed is None, "unconfirmed until all planned runs have ended"
    run_all(larger, lambda trial: 2.0)
    assert len(load_study(larger).runs) == 9
    smaller = open_confirmation(study, top=1, seeds=2, workers=1)
    assert read_plan(smaller) == plan


def test_a_confirmation_merges_either_old_ingredients_or_new_ones(searched: Callable[..., StudyRecord]) -> None:
    study = searched()
    new = {"docs": "{run}@5"}
    directory = open_confirmation(study, top=1, seeds=2, workers=1)
    with pytest.raises(InputError, match=r"--retrain: the runs in .*-confirm merged other ingredients; valid: move it away, or without"):
        open_confirmation(study, top=1, seeds=2, workers=1, retrained=new)
    shutil.rmtree(directory.path)
    plan = read_plan(open_confirmation(study, top=1, seeds=2, workers=1, retrained=new))
    assert plan is not None
    assert plan.retrained == new
    points = thaw(directory.sweep).start.points
    assert [point["model.merge.ingredients.docs.path"] for point in points] == [
        f"{directory.path}/ingredients/docs-seed-{seed}@5" for seed in plan.seeds
    ]
    assert read_plan(open_confirmation(study, top=2, seeds=2, workers=1)) != plan, "a later one need not say it again"


def test_what_its_runs_need_is_there_before_a_worker_may_start_them(searched: Callable[..., StudyRecord]) -> None:
    seen = []

    def first(directory: StudyDirectory, plan: ConfirmationPlan) -> None:
        seen.append((read_plan(directory) == plan, directory.sweep.exists()))

    directory = open_confirmation(searched(), top=1, seeds=2, workers=1, first=first)
    assert (seen, directory.sweep.exists()) == ([(True, False)], True)


def test_the_winner_over_seeds_comes_before_the_best_of_the_search(searched: Callable[..., StudyRecord]) -> None:
    study = searched()
    assert study.best is not None
    assert study.best.number == 1
    record = confirmed(study, lambda candidate, seed: {1: 2.4, 2: 2.3, 0: 2.5}[candidate] + 0.01 * seed + 0.001 * (seed == candidate))
    assert record.best is not None
    assert record.best.number == 2
    best = read_status(study.directory).to_json()["best"]
    assert best["number"] == 2
    assert best["confirmed"] is True
    assert best["interval"][0] < best["objective"] < best["interval"][1]
    assert best["objective"] == pytest.approx((2.31 + 2.321 + 2.33) / 3)
    compared = compare([record], [])
    assert compared.best is not None
    assert compared.best.number == 2
    assert record.confirmation is not None
    document = record.confirmation.to_json()
    assert (document["winner"], document["runner_up"]) == (2, 1)
    assert document["difference"]["mean"] == pytest.approx(0.1)
    assert document["difference"]["within_noise"] is False
    assert document["probability_best"] > 0.99
    assert "beyond seed noise" in " ".join(verdict(record))


def test_draws_of_the_same_pairs_narrow_no_interval(searched: Callable[..., StudyRecord]) -> None:
    """The sd of three is the standard error, beside that of their mean: sqrt(1 + 1/3) in place of sqrt(1/3)."""
    record = confirmed(searched(), lambda candidate, seed: {1: 2.4, 2: 2.3, 0: 2.5}[candidate] + 0.01 * seed + 0.001 * (seed == candidate))
    adapter = {"name": "steering", "pairs": "pairs.jsonl"}
    write_yaml(record.directory.sweep, {**record.sweep, "config": {**record.sweep["config"], "adapter": adapter}})
    drawn = load_study(record.directory)
    assert record.confirmed is not None
    assert drawn.confirmed is not None
    assert record.confirmed.interval is not None
    assert drawn.confirmed.interval is not None
    assert drawn.confirmed.number == record.confirmed.number
    assert drawn.confirmed.interval.half_width == pytest.approx(2 * record.confirmed.interval.half_width)
    assert drawn.confirmation is not None
    assert drawn.confirmation.to_json()["probability_best"] is None
    said = " ".join(verdict(drawn))
    assert "beyond the noise of the pairs" in said
    assert "paired over 3 draws of the pairs)" in said
    assert "narrow" in confirmation_section(drawn)


def test_differences_within_the_noise_of_seeds_are_said_and_marked(searched: Callable[..., StudyRecord]) -> None:
    record = confirmed(searched(), lambda candidate, seed: 2.3 + 0.1 * ((candidate * 7 + seed * 5 + candidate * seed) % 4), top=3)
    assert record.confirmation is not None
    assert record.confirmation.to_json()["difference"]["within_noise"] is True
    assert "within seed noise" in " ".join(verdict(record))
    runs = {run["number"]: run for run in to_json(compare([record], []))["runs"]}
    assert record.best is not None
    assert record.confirmation.noise is not None
    for number, run in runs.items():
        reach = record.confirmation.noise.least_difference
        near = abs(LOSSES[number] - LOSSES[record.best.number or 0]) < reach
        assert run["within_noise"] == (None if number == record.best.number else near)
    assert "~" in confirmation_section(record)


def test_the_mean_decides_whether_the_constraints_hold(searched: Callable[..., StudyRecord]) -> None:
    study = searched(constraints={"val/general/forgetting": {"max": 0.2}})
    assert study.constraints
    directory = open_confirmation(study, top=2, seeds=2, workers=1)
    plan = read_plan(directory)
    assert plan is not None
    forgetting = {(1, 1): 0.1, (1, 2): 0.5, (2, 1): 0.25, (2, 2): 0.1}
    for number, run in enumerate(plan.runs):
        metrics = {
            **METRICS,
            "val/domain/loss": 2.0 + run["candidate"],
            "val/general/forgetting": forgetting[run["candidate"], run["seed"]],
        }
        write_trial(directory.trial(number), Trial(number=number, params={}, tokens=1))
        write_result(directory.trial(number), Result(state="complete", metrics=metrics, objective=metrics["val/domain/loss"]))
    confirmation = load_study(study.directory).confirmation
    assert confirmation is not None
    assert [(candidate.number, candidate.feasible) for candidate in confirmation.candidates] == [(1, False), (2, True)]
    assert confirmation.winner is not None
    assert confirmation.winner.number == 2


@pytest.mark.parametrize("outside", [{3}, {0, 1, 2, 3}])
def test_a_winner_that_the_search_saw_outside_of_a_bound_is_the_best(
    make_sweep: MakeSweep, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], outside: set[int]
) -> None:
    """outside: the trials that broke the bound with the search's seed, among others or all."""
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    bound = "val/general/forgetting"
    directory = open_study(make_sweep(constraints={bound: {"max": 0.3}}))
    search = Study(directory, thaw(directory.sweep), "here-1-aa")
    while isinstance(claim := search.claim(), Claim):
        search.settle(claim, Attempt(claim.run).complete(LOSSES[claim.number], **{bound: 0.31 if claim.number in outside else 0.2}))
    run_all(open_confirmation(load_study(directory), top=3, seeds=3, workers=1, trials=[3]), lambda _: 2.0, **{bound: 0.29})

    study, status = load_study(directory), read_status(directory)
    assert study.confirmed is not None
    assert study.best is not None
    assert study.confirmed.number == study.best.number == 3
    said = "\n".join(end_lines(status, status.standings_text()))
    assert "trial 3 is the winner" in said
    assert "no trial" not in said
    monkeypatch.setattr("sys.argv", ["harness", "best", "study", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    found = json.loads(capsys.readouterr().out)
    assert (ended.value.code, found["number"], found["confirmed"]) == (0, 3, True)
    assert found["metrics"][bound] == pytest.approx(0.29)
    comparison = compare([study], [])
    assert comparison.best is comparison.runs[0]
    assert (comparison.runs[0].number, comparison.shown_state(comparison.runs[0])) == (3, "complete")


def test_a_candidate_that_fails_with_one_seed_is_not_the_winner(searched: Callable[..., StudyRecord]) -> None:
    record = confirmed(searched(), lambda candidate, seed: None if (candidate, seed) == (1, 2) else 2.0 + candidate, top=2)
    assert record.confirmed is not None
    assert record.confirmed.number == 2
    assert record.confirmation is not None
    (failed,) = [candidate for candidate in record.confirmation.to_json()["candidates"] if candidate["failed"]]
    assert failed["number"] == 1
    assert "nan" in failed["failed"]["2"]


def over_some_seeds(study: StudyRecord, values: dict[int, list[float]]) -> StudyRecord:
    """The study with a confirmation whose candidates went on over more seeds or fewer, as those of search.confirm do."""
    runs = [{"candidate": number, "seed": 1 + place} for number, losses in values.items() for place in range(len(losses))]
    plan = ConfirmationPlan("study", None, 1, runs, list(range(len(runs))))
    candidates = [
        Candidate(
            number,
            {1 + place: Result(state="complete", metrics={**METRICS, "val/domain/loss": loss}) for place, loss in enumerate(losses)},
            "val/domain/loss",
            {},
        )
        for number, losses in values.items()
    ]
    return replace(study, confirmation=Confirmation(study.directory, plan, "minimize", candidates=candidates))


def test_a_rival_over_fewer_seeds_is_what_the_winner_is_compared_with(searched: Callable[..., StudyRecord]) -> None:
    """The third seed of the leader does not make the others disappear."""
    record = over_some_seeds(searched(), {1: [2.20, 2.31, 2.19], 2: [2.28, 2.27], 0: [2.60, 2.66], 3: [2.9]})
    found = record.confirmation
    assert found is not None
    assert [candidate.number for candidate in found.ranked] == [1, 2, 0], "one seed tells too little"
    assert found.winner is found.ranked[0]
    assert sum(found.probabilities.values()) == pytest.approx(1)
    assert 0.5 < found.probabilities[1] < 0.9
    said = " ".join(verdict(record))
    assert "within seed noise, more seeds may turn it: better than trial 2 by 0.0200" in said
    assert "paired over 2 seeds" in said
    assert "the best of these 3 with probability" in said
    assert found.to_json()["runner_up"] == 2
    assert found.noise is not None
    assert found.degrees == 3


def test_who_has_too_few_seeds_is_no_winner_whatever_its_mean(searched: Callable[..., StudyRecord]) -> None:
    record = over_some_seeds(searched(), {1: [2.30, 2.31, 2.29], 2: [2.20, 2.22]})
    found = record.confirmation
    assert found is not None
    assert found.winner is not None
    assert found.winner.number == 1
    assert found.probabilities[2] > 0.5
    assert "worse than trial 2 by 0.0950" in " ".join(verdict(record))


def test_who_lacks_a_seed_is_told_how_to_get_it(searched: Callable[..., StudyRecord]) -> None:
    """The one with seeds enough diverged in one of them."""
    record = over_some_seeds(searched(), {1: [2.30, 2.31, 2.29], 2: [2.20, 2.22]})
    assert record.confirmation is not None
    first, second = record.confirmation.candidates
    failed = replace(first, results={**first.results, 3: Result(state="failed", reason="the loss is nan")})
    record = replace(record, confirmation=replace(record.confirmation, candidates=[failed, second]))
    (said, *_) = verdict(record)
    assert said.startswith(
        "not confirmed: trial 2 comes through its 2 seeds, and a winner has 3; `harness confirm study --trial 2 --seeds 3`"
    )


def test_a_lone_candidate_is_said_to_be_alone(searched: Callable[..., StudyRecord]) -> None:
    record = over_some_seeds(searched(), {1: [2.30, 2.31, 2.29]})
    assert verdict(record)[0] == "no other trial ran over fresh seeds: there was nothing to compare it with"


def test_where_no_candidate_is_left_it_says_how_to_go_on(searched: Callable[..., StudyRecord]) -> None:
    record = confirmed(searched(), lambda candidate, seed: None if seed == 2 else 2.0 + candidate, top=2)
    assert record.confirmed is None
    none, failed, how = verdict(record)[:3]
    assert none == "not confirmed: none of its 2 candidates comes through every seed"
    assert failed == "2 of 6 runs failed: the loss is nan"
    assert f"harness confirm {record.name}" in how
    assert "--top of more than 2" in how
    assert "--rounds" not in how, "nothing is constrained"


@pytest.mark.parametrize(
    ("state", "trials", "fragments"),
    [("complete", [4], ["--trial=4", "0 to 3"]), ("pruned", [2], ["--trial=2", "pruned", "complete and of full length"])],
)
def test_a_trial_that_cannot_be_a_candidate_is_refused(
    searched: Callable[..., StudyRecord], state: Any, trials: list[int], fragments: list[str]
) -> None:
    study = searched()
    write_result(study.runs[2].directory, replace(study.runs[2].result, state=state))
    with pytest.raises(InputError) as refused:
        open_confirmation(load_study(study.directory), top=1, seeds=2, workers=None, trials=trials)
    assert all(fragment in str(refused.value) for fragment in fragments)
    assert not (study.directory.path.parent / "study-confirm").exists()


def test_the_same_configuration_is_one_candidate(searched: Callable[..., StudyRecord]) -> None:
    study = searched()
    again = study.runs[2]
    assert again.trial is not None
    again.trial.params = dict(study.runs[1].params)
    plan = read_plan(open_confirmation(study, top=2, seeds=2, workers=1))
    assert plan is not None
    assert plan.candidates == [1, 0]


def test_configurations_that_came_to_the_same_to_the_last_bit_are_one_candidate(searched: Callable[..., StudyRecord]) -> None:
    study = searched()
    other, best, same, _ = study.runs
    assert same.params != best.params
    write_result(same.directory, best.result)
    plan = read_plan(open_confirmation(load_study(study.directory), top=2, seeds=2, workers=1))
    assert plan is not None
    assert plan.candidates == [best.number, other.number]


def test_the_same_score_after_another_training_is_another_candidate(searched: Callable[..., StudyRecord]) -> None:
    """An accuracy over few questions is often the same; an objective need not be of a validation at all."""
    study = searched()
    for run in study.runs[:2]:
        write_result(
            run.directory, replace(run.result, objective=2.0, metrics={"val/domain/loss": 2.0, "train/loss": 2.0 + 0.1 * run.number})
        )
    for run in study.runs[2:]:
        write_result(run.directory, replace(run.result, objective=3.0 + run.number, metrics={}))
    plan = read_plan(open_confirmation(load_study(study.directory), top=4, seeds=2, workers=1))
    assert plan is not None
    assert len(plan.candidates) == 4


def test_a_short_run_of_a_trunk_search_is_no_candidate(searched: Callable[..., StudyRecord]) -> None:
    study = searched()
    base = thaw(study.directory.sweep).base.config.trainer
    for number, steps in ((1, 1), (2, base.max_steps)):
        trial = study.runs[number].trial
        assert trial is not None
        assert trial.params is not None
        trial.params["trainer.max_steps"] = steps
    directory = open_confirmation(study, top=2, seeds=2, workers=1)
    plan = read_plan(directory)
    assert plan is not None
    assert plan.candidates == [2, 0]
    assert "trainer.max_steps" not in thaw(directory.sweep).start.points[0]


def test_what_is_maximized_is_best_when_it_is_largest(searched: Callable[..., StudyRecord]) -> None:
    study = searched(objective={"direction": "maximize"})
    record = confirmed(study, lambda candidate, seed: {3: 2.5, 0: 2.6}[candidate] + 0.01 * seed + 0.002 * (seed == 2 == candidate), top=2)
    assert record.confirmed is not None
    assert record.confirmed.number == 0
    assert record.confirmation is not None
    assert record.confirmation.probabilities[0] > 0.99
    assert "better than trial 3 by 0.1" in " ".join(verdict(record))


@pytest.mark.parametrize(
    ("top", "seeds", "fragments"),
    [(2, 1, ["--seeds=1", "at least 2"]), (5, 2, ["--top=5", "has 4"]), (0, 2, ["--top=0", "at least 1"])],
)
def test_numbers_that_cannot_be_are_refused(searched: Callable[..., StudyRecord], top: int, seeds: int, fragments: list[str]) -> None:
    study = searched()
    with pytest.raises(InputError) as refused:
        open_confirmation(study, top=top, seeds=seeds, workers=None)
    assert all(fragment in str(refused.value) for fragment in fragments)
    assert not (study.directory.path.parent / "study-confirm").exists()


def test_a_study_without_a_complete_trial_has_nothing_to_confirm(make_sweep: Callable[..., Sweep], monkeypatch: Any, tmp_path: Any) -> None:
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    with pytest.raises(InputError, match="nothing to confirm"):
        open_confirmation(load_study(open_study(make_sweep())), top=1, seeds=2, workers=None)


def test_another_study_of_that_name_is_left_alone(searched: Callable[..., StudyRecord]) -> None:
    study = searched()
    other = study.directory.path.parent / "study-confirm"
    write_yaml(other / "sweep.yaml", {"name": "mine"})
    with pytest.raises(InputError, match="no confirmation of study"):
        open_confirmation(study, top=1, seeds=2, workers=None)
    (other / "sweep.yaml").unlink()
    directory = open_confirmation(study, top=1, seeds=2, workers=None)
    with pytest.raises(InputError, match="harness confirm study"):
        open_confirmation(load_study(directory), top=1, seeds=2, workers=None)


def test_the_confirmation_of_an_earlier_study_of_the_same_name_does_not_count(searched: Callable[..., StudyRecord]) -> None:
    study = searched()
    confirmed(study, lambda candidate, seed: 2.0 + candidate)
    write_yaml(study.directory.sweep, {**study.sweep, "launched": "2031-01-01"})
    later = load_study(study.directory)
    assert later.confirmation is None
    with pytest.raises(InputError, match="earlier study"):
        open_confirmation(later, top=1, seeds=2, workers=None)
