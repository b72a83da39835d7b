"""A sweep file: how it is read and resolved, what is checked before anything is written, and how it is frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.config.errors import InputError
from harness.config.load import load
from harness.runs.directory import runs_root
from harness.runs.files import write_yaml
from harness.search.checks import advice
from harness.search.load_sweep import load_sweep
from harness.search.open_study import open_study
from harness.search.sweep import differences, thaw
from tests.search.conftest import SPACE, WriteSweep

# Reading.


def test_overrides_of_search_budget_and_launcher_are_the_sweep_s_all_others_the_base_s(write_sweep: WriteSweep) -> None:
    sweep = load_sweep(
        str(write_sweep(search="tpe")),
        ["search=random", "search.seed=3", "budget.trials=7", "launcher.workers=5", "optim.weight_decay=0.25", "adapter=lora"],
    )
    assert (sweep.config.search.name, sweep.config.search.seed) == ("random", 3)
    assert (sweep.config.budget.trials, sweep.config.launcher.workers) == (7, 5)
    assert (sweep.base.config.optim.weight_decay, sweep.base.config.adapter.name) == (0.25, "lora")
    assert sweep.config.base[-2:] == ["optim.weight_decay=0.25", "adapter=lora"]


@pytest.mark.parametrize(
    ("given", "overrides", "expected"),
    [
        ("random", [], ("random", 10)),
        ("tpe", ["search=random"], ("random", 10)),
        ({"name": "random", "startup_trials": 3}, [], ("random", 3)),
        ({"name": "tpe", "startup_trials": 3}, ["search=random"], ("random", 3)),
        ({"startup_trials": 3}, ["search.startup_trials=4"], ("tpe", 4)),
        (None, [], ("tpe", 10)),
    ],
)
def test_search_is_a_name_or_a_mapping(write_sweep: WriteSweep, given: Any, overrides: list[str], expected: tuple[str, int]) -> None:
    search = load_sweep(str(write_sweep(search=given)), overrides).config.search
    assert (search.name, search.startup_trials) == expected


def test_a_study_is_called_like_its_file_or_as_the_user_says(write_sweep: WriteSweep) -> None:
    path = str(write_sweep("question"))
    assert load_sweep(path, []).name == "question"
    assert load_sweep(path, [], name="question_2").name == "question_2"
    with pytest.raises(InputError, match=r"--name=\.\./x: expected a plain name"):
        load_sweep(path, [], name="../x")


def test_a_trial_s_configuration_is_the_base_s_with_the_point(write_sweep: WriteSweep) -> None:
    sweep = load_sweep(str(write_sweep()), [])
    point = {"optim.lr": 0.003, "schedule": "wsd", "schedule.decay_fraction": 0.4}
    overrides = [f"{key}={value}" for key, value in point.items()]
    assert sweep.trial_config(point) == load([*sweep.config.base, *overrides]).config
    assert sweep.trial_config({"schedule": "cosine"}) == load([*sweep.config.base, "schedule=cosine"]).config
    assert sweep.trial_config({"optim.lr": 0.003, "schedule": "cosine"}).schedule.decay_fraction == 0.2, "nothing is left from before"


# The length of its trials.


def test_the_reservation_is_what_the_longest_trial_may_train(write_sweep: WriteSweep) -> None:
    sweep = load_sweep(str(write_sweep()), [])
    assert sweep.largest_trial_tokens == 4 * 128 == sweep.trial_tokens({"optim.lr": 0.1})
    longer = load_sweep(
        str(write_sweep(space={"trainer.max_steps": {"low": 2, "high": 9}, "trainer.batch_tokens": {"choices": [64, 128]}})), []
    )
    assert longer.largest_trial_tokens == 9 * 128
    assert longer.trial_tokens({"trainer.max_steps": 3, "trainer.batch_tokens": 64}) == 3 * 64


def test_a_group_that_sets_the_length_counts(write_sweep: WriteSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, steps in (("short", 3), ("long", 50)):
        file = tmp_path / "conf" / "experiment" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# @package _global_\ntrainer: {{max_steps: {steps}}}\n")
    monkeypatch.setenv("HARNESS_CONFIG_DIR", str(tmp_path / "conf"))
    document = yaml.safe_load(write_sweep().read_text())
    base = [text for text in document["base"] if not text.startswith("trainer.max_steps")]
    path = write_sweep(space={"experiment": {"choices": ["short", "long"]}})
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "base": [*base, "experiment=short"]}))
    sweep = load_sweep(str(path), [])
    assert sweep.largest_trial_tokens == 50 * 128
    assert sweep.trial_tokens({"experiment": "short"}) == 3 * 128


# What is refused.

REFUSED: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "no budget": ({"budget": None}, [], "budget: give at least one limit"),
    "budget below one trial": ({"budget": {"tokens": 100}}, [], "budget.tokens=100: less than one trial, which may take 512 tokens"),
    "budget of a wrong kind": ({"budget": {"trials": "many"}}, [], "budget.trials=many: expected"),
    "unknown unit": ({"budget": {"trails": 3}}, [], "unknown key 'budget.trails'"),
    "unknown metric": ({"objective": {"metric": "val/domian/loss"}}, [], "Did you mean 'val/domain/loss'?"),
    "less accuracy": (
        {"objective": {"metric": "val/quiz/accuracy"}},
        ["data.multiple_choice.quiz.path=/dev/null"],
        "objective.direction=minimize: more of val/quiz/accuracy is better; valid: maximize",
    ),
    "no objective": ({"objective": None}, [], "objective.metric: required"),
    "unknown direction": ({"objective": {"metric": "val/domain/loss", "direction": "down"}}, [], "one of minimize, maximize"),
    "unknown constraint": ({"constraints": {"val/x/loss": {"max": 1}}}, [], "constraints: unknown metric 'val/x/loss'"),
    "boundless constraint": ({"constraints": {"val/general/loss": {}}}, [], "give max or min"),
    "impossible constraint": ({"constraints": {"val/general/loss": {"min": 2, "max": 1}}}, [], "min=2.0 exceeds max=1.0"),
    "unknown search": ({"search": "tpee"}, [], "Did you mean 'tpe'?"),
    "search of a wrong kind": ({"search": 5}, [], "search=5: expected a name, or a mapping"),
    "unknown override": ({}, ["budget.trails=3"], "unknown key 'budget.trails'"),
    "unknown base override": ({}, ["optim.lrr=3"], "unknown key 'optim.lrr'"),
    "base is no list": ({"base_": 1}, [], "unknown key 'base_'"),
    "space is no mapping": ({"space": ["optim.lr"]}, [], "space=['optim.lr']: expected a mapping"),
    "a value out of range": ({"space": {"optim.lr": {"low": -1, "high": 1}}}, [], "space.optim.lr: optim.lr=-1 is not valid: optim.lr=-1"),
    "an unknown value": ({"space": {"data.packing": {"choices": ["concat", "tight"]}}}, [], "data.packing=tight"),
    "a value that is never read": (
        {"space": {"schedule.decay_fraction": {"low": 0.1, "high": 0.5}}},
        [],
        "space.schedule.decay_fraction: not read by linear, only by wsd, infinite; the base has schedule.name=linear",
    ),
    "a value that is read by some": (
        {"space": {**SPACE, "schedule.decay_fraction": {"low": 0.1, "high": 0.5}}},
        [],
        "space.schedule.decay_fraction: not read by linear, only by wsd, infinite; add when: {schedule: wsd}",
    ),
    "a value that is read by two of three": (
        {
            "space": {
                "schedule": {"choices": ["linear", "wsd", "infinite"]},
                "schedule.decay_fraction": {"low": 0.1, "high": 0.5},
            }
        },
        [],
        "space.schedule.decay_fraction: not read by linear, only by wsd, infinite; add when: {schedule: [wsd, infinite]}",
    ),
    "a value that no choice reads": (
        {"space": {**SPACE, "optim": {"choices": ["adamw", "soap"]}, "optim.momentum": {"low": 0.8, "high": 0.9}}},
        [],
        "space.optim.momentum: read only by muon, and optim is never one of them",
    ),
    "an end that fails under its condition": (
        {
            "base": ["schedule.warmup=2"],
            "space": {**SPACE, "schedule.decay_fraction": {"low": 0.1, "high": 1.0, "when": {"schedule": "wsd"}}},
        },
        [],
        "space.schedule.decay_fraction: schedule=wsd, schedule.decay_fraction=1.0 is not valid",
    ),
}


def test_a_task_of_lm_eval_says_itself_whether_more_is_better(write_sweep: WriteSweep, tmp_path: Path) -> None:
    task = tmp_path / "quiz.yaml"
    write_yaml(task, {"task": "quiz", "metric_list": [{"metric": "acc"}, {"metric": "mine", "higher_is_better": False}]})

    def asked(metric: str) -> None:
        base = [f"data.lm_eval.own.tasks=[{task}]"]
        load_sweep(str(write_sweep(base=base, objective={"metric": f"lm_eval/own/quiz/{metric}", "direction": "minimize"})), [])

    asked("mine")
    with pytest.raises(InputError, match="minimize: more of lm_eval/own/quiz/acc is better; valid: maximize"):
        asked("acc")
    with pytest.raises(InputError, match="Did you mean 'lm_eval/own/quiz/mine'"):
        asked("mines")


@pytest.mark.parametrize("case", REFUSED)
def test_what_could_not_run_is_refused_before_anything_is_written(case: str, write_sweep: WriteSweep) -> None:
    document, overrides, message = REFUSED[case]
    path = write_sweep(**document)
    with pytest.raises(InputError) as caught:
        open_study(load_sweep(str(path), overrides))
    assert message in str(caught.value)
    assert all(path.name in line for line in str(caught.value).splitlines() if not overrides)
    assert not runs_root().exists()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("launcher=slurmm", "unknown choice for launcher= 'slurmm'. Did you mean 'slurm'?"),
        ("budget.trails=3", "unknown key 'budget.trails' (given in the command line)."),
        ("budget.trials=-1", "budget.trials=-1: expected an integer >= 1 or null (given in the command line)"),
        ("schedule=cosin", "unknown choice for schedule= 'cosin'. Did you mean 'cosine'?"),
        ("optim.weight_decay=-1", "optim.weight_decay=-1: expected a number >= 0 (given in the command line)"),
        ("trainer.batch_tokens=100", "trainer.batch_tokens=100: "),
        (
            "constraints.val/general/forgetting.max=abc",
            "constraints.val/general/forgetting.max=abc: expected a number or null (given in the command line)",
        ),
        ("space.optim.lr.high=1e-3,1e-2", "'space.optim.lr.high=1e-3,1e-2' asks for several values"),
        ("space.optim.lr={low: 1", "cannot read the override 'space.optim.lr={low: 1'"),
        ("~constraints", "'~constraints': which of constraints?"),
        ("search.prior=earlie", "search.prior=earlie: expected a mapping from names to values or one of scaling, earlier, none (given in"),
    ],
)
def test_what_is_wrong_on_the_command_line_is_not_the_file_s_fault(override: str, message: str, write_sweep: WriteSweep) -> None:
    path = write_sweep()
    with pytest.raises(InputError) as caught:
        load_sweep(str(path), [override])
    assert str(caught.value).startswith(message)
    assert path.name not in str(caught.value)


def test_a_base_that_is_no_list_is_refused(write_sweep: WriteSweep) -> None:
    path = write_sweep()
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "base": "experiment=cpt"}))
    with pytest.raises(InputError, match=r"base=experiment=cpt: expected a list of overrides"):
        load_sweep(str(path), [])


def test_unknown_sweeps_and_files_are_refused() -> None:
    with pytest.raises(InputError, match=r"unknown sweep 'quikstart'\. Did you mean 'quickstart'"):
        load_sweep("quikstart", [])
    with pytest.raises(InputError, match=r"sweep file sweeps/nothing.yaml: no such file"):
        load_sweep("sweeps/nothing.yaml", [])


def test_conditions_through_another_parameter_are_enough(write_sweep: WriteSweep) -> None:
    """decay_fraction is read by wsd alone; its condition says so by way of the shape's."""
    space = {
        "schedule": {"choices": ["linear", "wsd"]},
        "schedule.decay_shape": {"choices": ["linear", "1-sqrt"], "when": {"schedule": "wsd"}},
        "schedule.decay_fraction": {"low": 0.1, "high": 0.4, "when": {"schedule.decay_shape": "linear"}},
    }
    load_sweep(str(write_sweep(space=space)), [])


def test_a_choice_of_a_group_counts_by_the_kind_that_it_sets(
    write_sweep: WriteSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "conf" / "schedule" / "late_decay.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("name: wsd\ndecay_fraction: 0.1\n")
    monkeypatch.setenv("HARNESS_CONFIG_DIR", str(tmp_path / "conf"))
    space = {
        "schedule": {"choices": ["linear", "late_decay"]},
        "schedule.decay_fraction": {"low": 0.1, "high": 0.4, "when": {"schedule": "late_decay"}},
    }
    load_sweep(str(write_sweep(space=space)), [])


# Freezing.


def test_the_rule_that_tested_points_of_one_curve_is_gone_and_older_studies_are_read(write_sweep: WriteSweep) -> None:
    sweep = load_sweep(str(write_sweep()), [])
    directory = open_study(sweep)
    frozen = yaml.safe_load(directory.sweep.read_text())
    frozen["stopping"]["p_threshold"] = 0.1
    directory.sweep.write_text(yaml.safe_dump(frozen))
    assert thaw(directory.sweep) == sweep
    assert open_study(sweep) == directory
    with pytest.raises(InputError, match=r"wilcoxon.*(?s:.*)median"):
        load_sweep(str(write_sweep("other", stopping="wilcoxon")), [])


def test_what_is_thawed_is_what_was_frozen(write_sweep: WriteSweep) -> None:
    sweep = load_sweep(str(write_sweep(constraints={"val/general/forgetting": {"max": 0.25}})), ["budget.tokens=1e5"])
    directory = open_study(sweep)
    thawed = thaw(directory.sweep)
    assert thawed == sweep
    assert thawed.frozen() == sweep.frozen()
    assert thawed.space == sweep.space
    assert thawed.base.config == sweep.base.config


def test_a_value_that_one_choice_of_a_group_refuses_is_found_before_the_start(write_sweep: WriteSweep) -> None:
    space = {"sampling": {"choices": ["greedy", "min_p"]}, "sampling.temperature": {"low": 0.5, "high": 1.5}}
    said = r"space\.sampling\.temperature: sampling=greedy, sampling\.temperature=0\.5 is not valid: .*greedy takes the most likely token"
    with pytest.raises(InputError, match=said):
        load_sweep(str(write_sweep(space=space)), [])
    space["sampling.temperature"]["when"] = {"sampling": "min_p"}
    assert load_sweep(str(write_sweep(space=space)), []).space.parameters


def test_a_study_of_an_older_harness_lacks_keys_that_are_at_their_defaults(write_sweep: WriteSweep, tmp_path: Path) -> None:
    sweep = load_sweep(str(write_sweep()), [])
    frozen = sweep.frozen()
    del frozen["config"]["sampling"], frozen["config"]["data"]["generation"], frozen["config"]["tracking"]["log_model"]
    del frozen["search"]["arms"]
    write_yaml(tmp_path / "sweep.yaml", frozen)
    assert thaw(tmp_path / "sweep.yaml").frozen() == sweep.frozen()
    assert differences(frozen, sweep) == []


def test_another_sweep_under_the_same_name_is_refused_and_changes_nothing(write_sweep: WriteSweep) -> None:
    directory = open_study(load_sweep(str(write_sweep()), []))
    before = {path: path.read_bytes() for path in directory.path.rglob("*") if path.is_file()}
    others: list[tuple[dict[str, Any], list[str], list[str]]] = [
        ({"space": {**SPACE, "optim.lr": {"low": 1e-4, "high": 2e-1, "log": True}}}, [], ["space.optim.lr.high: 0.1 at launch, 0.2 now"]),
        (
            {"space": {"optim.lr": SPACE["optim.lr"]}},
            [],
            ["space.schedule: {'choices': ['linear', 'wsd']} at launch, absent now"],
        ),
        ({"objective": {"metric": "val/general/loss"}}, [], ["objective.metric: val/domain/loss at launch, val/general/loss now"]),
        (
            {"constraints": {"val/general/forgetting": {"max": 1}}},
            [],
            ["constraints.val/general/forgetting: absent at launch, {'max': 1.0} now"],
        ),
        ({}, ["seed=3"], ["base: ", "config.seed: 0 at launch, 3 now"]),
        ({}, ["search.seed=3"], ["search.seed: 0 at launch, 3 now"]),
    ]
    for document, overrides, expected in others:
        with pytest.raises(InputError) as caught:
            open_study(load_sweep(str(write_sweep(**document)), overrides))
        assert "study 'study' was launched with another sweep" in str(caught.value)
        for words in expected:
            assert words in str(caught.value)
        assert {path: path.read_bytes() for path in directory.path.rglob("*") if path.is_file()} == before


def test_budget_and_launcher_may_change(write_sweep: WriteSweep) -> None:
    open_study(load_sweep(str(write_sweep()), []))
    directory = open_study(load_sweep(str(write_sweep()), ["budget.trials=9", "launcher.workers=3"]))
    thawed = thaw(directory.sweep)
    assert (thawed.config.budget.trials, thawed.config.launcher.workers) == (9, 3)


def test_a_worker_refuses_a_base_that_resolves_otherwise_by_now(write_sweep: WriteSweep, tmp_path: Path) -> None:
    directory = open_study(load_sweep(str(write_sweep()), []))
    document = yaml.safe_load(directory.sweep.read_text())
    document["config"]["optim"]["weight_decay"] = 0.7
    directory.sweep.write_text(yaml.safe_dump(document))
    with pytest.raises(InputError, match=r"config.*changed since this study was launched(.|\n)*optim.weight_decay: 0.7 at launch, 0.1 now"):
        thaw(directory.sweep)


def test_a_directory_that_is_no_study_is_left_alone(write_sweep: WriteSweep) -> None:
    (runs_root() / "study").mkdir(parents=True)
    (runs_root() / "study" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="exists, and is no study"):
        open_study(load_sweep(str(write_sweep()), []))


# Space and constraints on the command line.

Case = tuple[str, str, Any]
QUESTION: list[Case] = [
    ("space.optim.lr.low=1e-3", "optim.lr", {"low": 1e-3, "high": 1e-1, "log": True}),
    ("space.optim.lr={low: 1e-5, high: 1e-3}", "optim.lr", {"low": 1e-5, "high": 1e-3}),
    ("space.schedule.choices=[cosine,wsd]", "schedule", {"choices": ["cosine", "wsd"]}),
    ("space.data.packing={choices: [concat, padded]}", "data.packing", {"choices": ["concat", "padded"]}),
    ("~space.schedule.decay_fraction", "schedule.decay_fraction", None),
    ("space.optim.lr.when={schedule: wsd}", "optim.lr", {"low": 1e-4, "high": 1e-1, "log": True, "when": {"schedule": "wsd"}}),
]


@pytest.mark.parametrize("case", QUESTION, ids=[override for override, *_ in QUESTION])
def test_the_space_changes_on_the_command_line(write_sweep: WriteSweep, composed_once: None, case: Case) -> None:
    override, key, expected = case
    path = write_sweep()
    changed = load_sweep(str(path), [override])
    assert changed.config.space.get(key) == expected
    assert changed.given == (override,)
    assert {**SPACE, key: None} == {**changed.config.space, key: None}, "all others stand as in the file"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["constraints.val/general/forgetting.max=0.5"], {"val/general/forgetting": {"max": 0.5}}),
        (
            ["constraints.val/general/loss={min: 1}", "~constraints.val/general/forgetting"],
            {"val/general/loss": {"min": 1}},
        ),
    ],
)
def test_constraints_change_on_the_command_line(
    write_sweep: WriteSweep, composed_once: None, overrides: list[str], expected: dict[str, Any]
) -> None:
    path = write_sweep(constraints={"val/general/forgetting": {"max": 0.25}})
    assert load_sweep(str(path), overrides).constraints == expected


def test_what_is_searched_can_be_fixed(write_sweep: WriteSweep, composed_once: None) -> None:
    sweep = load_sweep(str(write_sweep()), ["~space.optim.lr", "optim.lr=3e-3"])
    assert (sweep.base.config.optim.lr, "optim.lr" in sweep.config.space) == (3e-3, False)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("space.optim.lr.lo=1", r"^space\.optim\.lr\.lo=1: valid: space\.optim\.lr\.low=1e-5"),
        ("space.optim.lr.low=fast", r"^space\.optim\.lr\.low=fast: expected a number"),
        ("space.optim.lr.low=2", r"^space\.optim\.lr\.low=2: must not exceed high=0\.1"),
        ("space.optim.lrr={low: 1, high: 2}", r"unknown key 'optim\.lrr'.*Did you mean 'optim\.lr'"),
        ("space=3", r"'space=3': which of space\? valid: space\.optim"),
        ("~space.optim.betas", r"unknown entry of space 'optim\.betas'.*Valid: optim\.lr, schedule"),
        ("constraints.val/general/forgetting=0.5", r"^constraints\.val/general/forgetting=0\.5: valid: constraints\.val"),
        ("constraints.val/generall/loss.max=1", r"unknown metric 'val/generall/loss'"),
        ("space.optim.lr.low=1e-5,1e-4", r"'space\.optim\.lr\.low=1e-5,1e-4' asks for several values"),
        ("optim.lr=1e-3", r"'optim\.lr=1e-3': optim\.lr is searched .*~space\.optim\.lr beside it, optim\.lr is fixed"),
        ("schedule=cosine", r"'schedule=cosine': schedule is searched .*~space\.schedule beside it"),
        ("schedule.name=cosine", r"'schedule\.name=cosine': schedule is searched .*~space\.schedule beside it"),
    ],
)
def test_what_cannot_be_changed_so_is_said(write_sweep: WriteSweep, composed_once: None, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_sweep(str(write_sweep()), [override])


@pytest.mark.parametrize("text", ["optim.lr=1e-3", "schedule=cosine"])
def test_a_value_in_the_base_for_what_is_searched_is_refused(write_sweep: WriteSweep, text: str) -> None:
    key = text.partition("=")[0]
    path = write_sweep(base=[text])
    with pytest.raises(InputError) as caught:
        load_sweep(str(path), [])
    said = f"{path}: base: {text!r}: {key} is searched (space.{key}), no trial would have it; leave one of them out"
    assert str(caught.value) == said
    assert load_sweep(str(path), [f"~space.{key}", *(["~space.schedule.decay_fraction"] if key == "schedule" else [])])


def test_a_value_for_what_is_searched_is_refused_inside_a_mapping_too(write_sweep: WriteSweep, composed_once: None) -> None:
    path = write_sweep(space={"data.sources.domain.weight": {"low": 0.5, "high": 2}})
    with pytest.raises(InputError, match=r"'data\.sources\.domain=\{weight: 9\}': data\.sources\.domain\.weight is searched"):
        load_sweep(str(path), ["data.sources.domain={weight: 9}"])


def test_a_grid_too_large_to_list_is_refused_before_anything_is_written(write_sweep: WriteSweep, composed_once: None) -> None:
    """In no time, where its 10^8 points would take minutes."""
    with pytest.raises(InputError, match=r"the grid has more than 100,000 points"):
        load_sweep(str(write_sweep(search="grid")), ["space.optim.weight_decay={low: 0, high: 1, step: 1e-8}"])


def test_a_step_that_leaves_one_value_is_said(write_sweep: WriteSweep, composed_once: None) -> None:
    sweep = load_sweep(str(write_sweep()), ["space.optim.weight_decay={low: 0.01, high: 0.3, step: 5}"])
    assert "space.optim.weight_decay: step=5 leaves one value from 0.01 to 0.3, 0.01" in advice(sweep)
    assert not [line for line in advice(load_sweep(str(write_sweep()), ["space.optim.lr={low: 1e-3, high: 1e-3}"])) if "one value" in line]


def test_a_base_keeps_what_it_is_no_run_without(write_sweep: WriteSweep) -> None:
    sweep = load_sweep(str(write_sweep(space={"trainer.max_steps": {"low": 2, "high": 4}})), [])
    assert "trainer.max_steps=4" in sweep.config.base


def test_what_a_base_lacks_and_the_space_has_need_not_be_given(write_sweep: WriteSweep, composed_once: None) -> None:
    path = write_sweep(space={"trainer.max_steps": {"low": 2, "high": 4}, "optim.lr": {"low": 1e-4, "high": 1e-2}})
    document = yaml.safe_load(path.read_text())
    [source] = [text for text in document["base"] if text.startswith("data.sources.domain.path=")]
    document["base"] = [text for text in document["base"] if text != source and not text.startswith("trainer.max_steps")]
    document["space"]["data.sources.domain.path"] = {"choices": [source.partition("=")[2]]}
    path.write_text(yaml.safe_dump(document))
    sweep = load_sweep(str(path), [])
    lacking = {"trainer.max_steps=2", f"data.sources.domain.path='{source.partition('=')[2]}'"}
    assert set(sweep.config.base) - set(document["base"]) == lacking
    assert sweep.config.base[:-2] == document["base"]
    with pytest.raises(InputError, match=r"trainer.max_tokens: required"):
        load_sweep(str(path), ["~space.trainer.max_steps"])
    with pytest.raises(InputError, match="at least one must be the text to train onto"):
        load_sweep(str(path), ["~space.data.sources.domain.path"])


def test_only_what_a_base_lacks_is_taken_from_the_space(write_sweep: WriteSweep, composed_once: None) -> None:
    # The first of both widths do not go together; a trial's are moved until they do.
    widths = {"model.heads": {"choices": [3, 2]}, "model.hidden_size": {"low": 32, "high": 96}}
    path = write_sweep(space={"trainer.max_steps": {"choices": [2, 3]}, **widths})
    document = yaml.safe_load(path.read_text())
    document["base"] = [text for text in document["base"] if not text.startswith("trainer.max_steps")]
    path.write_text(yaml.safe_dump(document))
    assert load_sweep(str(path), []).config.base == [*document["base"], "trainer.max_steps=2"]


@pytest.mark.parametrize("space", [{"data.sources.*.weight": {"low": 0.5, "high": 1.0}}, {"optim.lr": {"low": 1e-4, "high": 1e-2}}])
def test_a_base_that_the_space_cannot_complete_is_told_its_own_fault(write_sweep: WriteSweep, space: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"unknown key 'trainer.max_step'.*Did you mean 'trainer.max_steps'"):
        load_sweep(str(write_sweep(base=["trainer.max_step=3"], space=space)), [])


@pytest.mark.parametrize(
    ("search", "trials", "said"),
    [
        ("tpe", 8, ["search=tpe draws its first 10 trials at random and budget.trials=8", "search.startup_trials=2"]),
        ("gp", 10, ["search=gp draws"]),
        ("tpe", 11, []),
        ("random", 8, []),
        ({"name": "tpe", "startup_trials": 6}, 8, []),
    ],
)
def test_a_search_that_learns_nothing_is_said_to(
    write_sweep: WriteSweep, composed_once: None, search: Any, trials: int, said: list[str]
) -> None:
    sweep = load_sweep(str(write_sweep(search=search, budget={"trials": trials}, space={"optim.lr": SPACE["optim.lr"]})), [])
    text = " ".join(advice(sweep))
    assert bool(text) == bool(said)
    assert all(part in text for part in said)


@pytest.mark.parametrize(("search", "workers", "said"), [("gp", 16, True), ("gp", 4, False), ("tpe", 16, False)])
def test_workers_that_would_wait_for_each_other_s_proposals_are_said_to(
    write_sweep: WriteSweep, composed_once: None, search: str, workers: int, said: bool
) -> None:
    sections = {"search": search, "launcher": {"name": "local", "workers": workers}, "space": {"optim.lr": SPACE["optim.lr"]}}
    sweep = load_sweep(str(write_sweep(budget={"trials": 100}, **sections)), [])
    line = f"search={search}: a proposal takes up to 1.0 s, one worker at a time: where runs take less than {workers} s"
    assert any(text.startswith(line) for text in advice(sweep)) == said
