"""Trials that are given up: by comparison with others, or because they break a constraint again and again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from harness.config.errors import InputError
from harness.config.sweep_schema import StudyObjectiveConfig
from harness.runs.constraints import Bound
from harness.runs.files import read_yaml, write_yaml
from harness.runs.result import read_result
from harness.search.checks import check
from harness.search.load_sweep import load_sweep
from harness.search.open_study import open_study
from harness.search.stopping import broken_for_good, judged
from harness.search.study import Claim, Study
from tests.search.conftest import MakeSweep, WriteSweep
from tests.search.studies import TRIAL_TOKENS, Attempt, alive, check_in_step, optuna_trials
from tests.search.test_study import claimed

EVERY = 10
EVALUATIONS = 9


def begun(study: Study, *, shared: int = 0) -> tuple[Claim, Attempt]:
    claim = claimed(study)
    assert study.prepare(claim)
    config = read_yaml(claim.run.config)
    config["trainer"]["evaluate_every_steps"] = EVERY
    write_yaml(claim.run.config, config)
    return claim, Attempt(claim.run, shared=shared)


def evaluate(attempt: Attempt, number: int, loss: float, forgetting: float = 0.0) -> None:
    row = {"step": number * EVERY, "tokens": number * 50, "val/domain/loss": loss, "val/general/forgetting": forgetting}
    attempt.run.metrics.append(row)


@pytest.mark.parametrize(
    ("stopping", "given_up"),
    [
        ({"name": "none"}, False),
        ({"name": "median", "startup_trials": 3, "warmup_evaluations": 2}, 3),
        ({"name": "successive_halving", "reduction_factor": 2}, 1),
        ({"name": "hyperband", "reduction_factor": 3}, True),
    ],
)
def test_a_trial_that_is_worse_than_the_others_is_given_up(make_sweep: MakeSweep, stopping: dict[str, Any], given_up: int | bool) -> None:
    sweep = make_sweep(stopping=stopping, budget={"trials": 5})
    directory = open_study(sweep)
    study = Study(directory, sweep, "w")
    for _ in range(4):
        claim, attempt = begun(study)
        for number in range(1, EVALUATIONS + 1):
            evaluate(attempt, number, 3.0 - 0.1 * number)
            assert study.watch(claim) is None or stopping["name"] == "successive_halving"
        study.settle(claim, attempt.complete(2.0))
    claim, attempt = begun(study)
    for number in range(1, EVALUATIONS + 1):
        evaluate(attempt, number, 5.0 - 0.1 * number)
        reason = study.watch(claim)
        if reason is not None:
            break
    if given_up is False:
        assert reason is None
        return
    assert reason is not None
    assert given_up is True or number == given_up
    result = study.settle(claim, attempt.stop(number * 50))
    assert (result.state, result.reason, result.tokens.trained) == ("pruned", reason, number * 50)
    assert study.claim() == "done"
    trial = optuna_trials(directory)[4]
    assert (trial.state, list(trial.intermediate_values)) == (TrialState.PRUNED, list(range(1, number + 1)))
    assert check_in_step(directory, ended=True).runs[4].state == "pruned"


def test_a_decision_outlives_whoever_took_it_and_costs_what_was_trained(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(stopping={"constraint_patience": 2}, constraints={"val/general/forgetting": {"max": 0.3}}, budget={"tokens": 10**6})
    directory = open_study(sweep)
    with alive(directory, "a"):
        study = Study(directory, sweep, "a")
        claim, attempt = begun(study)
        evaluate(attempt, 1, 2.0, forgetting=0.5)
        assert study.watch(claim) is None
        evaluate(attempt, 2, 2.0, forgetting=0.4)
        assert study.watch(claim) is not None
        attempt.stop(100)
    other = Study(directory, sweep, "b")
    assert claimed(other).number == 1
    result = read_result(claim.run)
    assert (result.state, result.tokens.trained) == ("pruned", 100)
    assert result.reason == "val/general/forgetting was outside its bound (max 0.3) at 2 evaluations in a row, last 0.4"


def test_a_trial_that_recovers_and_one_that_ends_anyway_are_kept(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(stopping={"constraint_patience": 2}, constraints={"val/general/forgetting": {"max": 0.3}})
    study = Study(open_study(sweep), sweep, "w")
    claim, attempt = begun(study)
    for number, forgetting in enumerate((0.5, 0.2, 0.5), start=1):
        evaluate(attempt, number, 2.0, forgetting)
        assert study.watch(claim) is None
    evaluate(attempt, 4, 2.0, 0.5)
    assert study.watch(claim)
    assert study.settle(claim, attempt.complete(2.0)).state == "complete"


def test_evaluations_are_reported_once_and_the_last_not_at_all(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(stopping={"name": "median"})
    directory = open_study(sweep)
    study = Study(directory, sweep, "w")
    claim, attempt = begun(study)
    evaluate(attempt, 1, 2.5)
    study.watch(claim)
    size = directory.journal.stat().st_size
    evaluate(attempt, 1, 2.5)  # gone over again by a later attempt
    attempt.run.metrics.append({"step": 11, "tokens": 55, "train/loss": 3.0})
    attempt.run.metrics.append({"step": 100, "tokens": TRIAL_TOKENS, "val/domain/loss": 2.0})
    assert study.watch(claim) is None
    assert directory.journal.stat().st_size == size
    assert optuna_trials(directory)[0].intermediate_values == {1: 2.5}


def test_evaluations_beyond_what_a_trunk_saved_are_seen_too(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(stopping={"name": "median", "constraint_patience": 1}, constraints={"val/general/forgetting": {"max": 0.3}})
    directory = open_study(sweep)
    study = Study(directory, sweep, "w")
    claim, attempt = begun(study, shared=TRIAL_TOKENS * 3 // 4)
    evaluate(attempt, 8, 2.5)  # at 400 of 512 tokens, 384 of which another trial has trained
    assert study.watch(claim) is None
    assert optuna_trials(directory)[0].intermediate_values == {8: 2.5}
    evaluate(attempt, 9, 2.5, forgetting=0.5)
    assert study.watch(claim)


def test_a_trial_that_was_killed_after_it_was_given_up_is_pruned_with_its_tokens(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(stopping={"constraint_patience": 1}, constraints={"val/general/forgetting": {"max": 0.3}})
    study = Study(open_study(sweep), sweep, "w")
    claim, attempt = begun(study)
    evaluate(attempt, 1, 2.0, forgetting=0.5)
    assert study.watch(claim)
    result = study.settle(claim, attempt.vanish(60))
    assert (result.state, result.tokens.trained) == ("pruned", 60 + 128)


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"stopping": {"name": "median"}}, "no trial is evaluated before its end; set trainer.evaluate_every_steps"),
        ({"stopping": {"constraint_patience": 2}}, "there are no constraints to break"),
        ({"stopping": {"name": "median"}, "objective": {"also": [{"metric": "val/domain/forgetting"}]}}, "Optuna #3450"),
    ],
)
def test_stopping_that_cannot_work_is_refused(make_sweep: MakeSweep, sections: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        check(make_sweep(**sections))
    assert said in str(caught.value)


QUIZ = "generation/quiz/accuracy"


@pytest.mark.parametrize(
    ("every", "sections", "said"),
    [
        (None, {"objective": {"metric": QUIZ, "direction": "maximize"}, "stopping": "median"}, "objective.metric=generation/quiz/accuracy"),
        (None, {"constraints": {QUIZ: {"min": 0.5}}, "stopping": {"constraint_patience": 2}}, "constraints: generation/quiz/accuracy"),
        (9, {"constraints": {QUIZ: {"min": 0.5}}, "stopping": {"constraint_patience": 2}}, "data.generation.quiz.every_evaluations=9"),
        (None, {"constraints": {QUIZ: {"min": 0.5}}, "stopping": "median"}, None),
        (2, {"constraints": {QUIZ: {"min": 0.5}}, "stopping": {"constraint_patience": 2}}, None),
    ],
)
def test_what_trials_are_given_up_by_is_measured_before_their_end(
    write_sweep: WriteSweep, tmp_path: Path, every: int | None, sections: dict[str, Any], said: str | None
) -> None:
    (tmp_path / "quiz.jsonl").write_text('{"prompt": "1 + 1 =", "answer": "2"}\n')
    quiz = {"path": tmp_path / "quiz.jsonl", "verifier": "exact", "every_evaluations": "null" if every is None else every}
    base = [f"data.generation.quiz.{key}={value}" for key, value in quiz.items()]
    path = str(write_sweep(base=[*base, "trainer.evaluate_every_steps=1"], **sections))
    if said is None:
        assert load_sweep(path, []).evaluations == 4
        return
    with pytest.raises(InputError, match=r"data\.generation\.quiz\.every_evaluations=") as caught:
        load_sweep(path, [])
    assert said in str(caught.value)


def rows(*values: tuple[float | None, float | None]) -> dict[int, dict[str, float]]:
    """Evaluations of a loss and of an accuracy that is measured more rarely."""
    both = [{"loss": loss, QUIZ: accuracy} for loss, accuracy in values]
    return {number: {name: value for name, value in row.items() if value is not None} for number, row in enumerate(both, start=1)}


def test_a_constraint_that_is_rarely_measured_counts_by_its_last_value() -> None:
    seen = rows((3, None), (3, 0.25), (3, None), (3, 0.75), (3, None), (None, 0.25))
    values = judged(seen, StudyObjectiveConfig(metric="loss"), {QUIZ: {"min": 0.5}})
    assert values == {1: 3, 2: 1253, 3: 1253, 4: 3, 5: 3, 6: None}


def test_patience_counts_the_evaluations_that_measure_the_constraint() -> None:
    bounds: dict[str, Bound] = {"loss": {"max": 4}, QUIZ: {"min": 0.5}}
    assert broken_for_good(rows((3, 0.25), (3, None)), bounds, 2) is None
    assert broken_for_good(rows((3, 0.25), (3, None), (3, 0.75), (3, None)), bounds, 2) is None
    reason = f"{QUIZ} was outside its bound (min 0.5) at 2 evaluations in a row, last 0.3"
    assert broken_for_good(rows((3, 0.25), (3, None), (3, 0.3), (3, None)), bounds, 2) == reason


def test_several_objectives_are_told_and_the_front_is_kept(make_sweep: MakeSweep) -> None:
    sweep = make_sweep(objective={"also": [{"metric": "val/general/forgetting"}]}, search={"name": "tpe", "startup_trials": 2})
    directory = open_study(sweep)
    study = Study(directory, sweep, "w")
    for loss, forgetting in ((2.0, 0.3), (2.5, 0.1), (2.6, 0.2), (3.0, 0.0)):
        claim = claimed(study)
        study.settle(claim, Attempt(claim.run).complete(loss, **{"val/general/forgetting": forgetting}))
    from harness.search.status import read_status

    status = read_status(directory).to_json()
    assert [run["number"] for run in status["pareto"]] == [0, 1, 3]
    assert status["best"]["number"] == 0
    assert [trial.values for trial in optuna_trials(directory)] == [[2.0, 0.3], [2.5, 0.1], [2.6, 0.2], [3.0, 0.0]]
    assert len(optuna.load_study(study_name="study", storage=study._optuna._storage).best_trials) == 3
