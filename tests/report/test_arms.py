"""Arms are compared by the best of equally many trials, not by who had the luckiest one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.report.arms import arms, arms_figure, arms_note, expected_least
from harness.report.comparison import compare
from harness.report.json_csv import to_json
from harness.report.text import short_names
from harness.runs.generations import WrittenText
from harness.runs.record import StudyRecord


def test_the_best_of_n_is_the_mean_over_all_choices() -> None:
    assert [expected_least([3, 1, 4, 2], n) for n in (1, 2, 3, 4)] == pytest.approx([2.5, 5 / 3, 1.25, 1.0])
    assert [-expected_least([-1, -2, -3, -4], n) for n in (1, 2, 3, 4)] == pytest.approx([2.5, 10 / 3, 3.75, 4.0])


def test_arms_by_what_equally_many_trials_find(study: StudyRecord) -> None:
    study = replace(study, sweep={**study.sweep, "search": {"arms": "schedule"}})
    comparison = compare([study], [])
    found = arms(comparison)
    assert {arm.value for arm in found} == {"cosine", "linear", "wsd"}
    alike = min(arm.trials for arm in found)
    assert [arm.expected[alike - 1] for arm in found] == sorted(arm.expected[alike - 1] for arm in found)
    for arm in found:
        own = [run for run in comparison.runs if run.params["schedule"] == arm.value]
        assert arm.trials == sum(run.state in ("complete", "failed", "pruned") for run in own)
        ranked = [comparison.value(run) for run in own if comparison.is_ranked(run)]
        assert arm.best is not None
        assert arm.expected[-1] == comparison.value(arm.best) == min(value for value in ranked if value is not None)
        assert list(arm.expected) == sorted(arm.expected, reverse=True)
    assert "is not known before the best of them are confirmed" in arms_note(comparison, found)
    assert len(arms_figure(comparison, found).data) == 3
    assert [arm["value"] for arm in to_json(comparison)["arms"]] == [arm.value for arm in found]


def test_a_study_without_arms_has_none(study: StudyRecord) -> None:
    assert arms(compare([study], [])) == []


def test_the_lead_of_an_arm_is_judged_over_prompts_where_texts_were(study: StudyRecord) -> None:
    metric = "generation/quiz/accuracy"
    study = replace(
        study,
        sweep={
            **study.sweep,
            "search": {"arms": "schedule"},
            "objective": {"metric": metric, "direction": "maximize"},
            "constraints": {},
        },
        runs=[
            replace(run, result=replace(run.result, objective=1.0 if run.params["schedule"] == "linear" else 0.5, metrics={metric: 0.5}))
            for run in study.runs
        ],
    )
    comparison = compare([study], [])
    found = arms(comparison)
    assert found[0].value == "linear"
    for arm, right in ((found[0], 60), (found[1], 30)):
        assert arm.best is not None
        texts = [WrittenText("quiz", str(n), "?", 0, "!", 1, "stop", float(n < right)) for n in range(100)]
        arm.best.directory.generations.append(0, texts)
    assert "differ beyond the noise of these prompts: by 0.3000 (from 0.2" in arms_note(comparison, found)


def test_arms_that_come_to_the_same_are_level(study: StudyRecord) -> None:
    study = replace(study, sweep={**study.sweep, "search": {"arms": "schedule"}, "constraints": {}})
    level = [replace(run, result=replace(run.result, objective=1.0)) for run in study.runs if run.state == "complete"]
    comparison = compare([replace(study, runs=level)], [])
    assert "cosine, linear and wsd are level at the best of " in arms_note(comparison, arms(comparison))


def test_names_beside_axes_are_short_where_that_is_clear() -> None:
    names = short_names(["optim.lr", "a.x", "b.x"], ["val/python/loss", "loss", "task/x"])
    assert list(names.values()) == ["lr", "a.x", "b.x", "python/loss", "loss", "task/x"]
