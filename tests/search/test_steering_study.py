"""The sweep over steering: what it has to beat is tried in the same study, random directions in the place of its best trial."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from harness.config.errors import InputError
from harness.config.schema import GenerationConfig
from harness.config.steering_controls import AGREEMENT
from harness.config.validate import to_plain
from harness.models.steering.vector_file import VectorSettings, vector_fingerprint, write_vector
from harness.report.confirmation_table import how_to_confirm
from harness.runs.directory import StudyDirectory
from harness.runs.files import write_yaml
from harness.runs.on_report import on_report
from harness.runs.record import StudyRecord, load_study
from harness.runs.result import Result, write_result
from harness.runs.trial import read_trial
from harness.search import steering_controls
from harness.search.checks import advice
from harness.search.confirm import _point, fresh_values, refuse_without_noise
from harness.search.load_sweep import load_sweep
from harness.search.reserve import trials_of_search, why_not
from harness.search.space import parse_space
from harness.search.steering_controls import around_controls, check_blocks, prompt_advice
from harness.search.study import Claim, Study
from harness.search.sweep import Sweep, thaw
from harness.training.steering import steering_fingerprints
from harness.work.start_study import has_trained
from tests.merging.models import tensors, write_model
from tests.search.studies import Attempt
from tests.support.command import run_harness
from tests.support.corpus import TinyText

MARGIN, KL = "contrast/trait/margin", "val/general/kl"


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What sweeps/steer.yaml leaves to the user."""
    root = tmp_path_factory.mktemp("given")
    write_model(root / "model", tensors(0), config={"max_position_embeddings": 64})
    for name in ("pairs", "trait"):
        rows = [{"prompt": f"a {index}", "positive": f"b {name}", "negative": f"c {name}"} for index in range(4)]
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "general.jsonl").write_text('{"text": "a b c"}\n')
    return [
        f"model.path={root / 'model'}",
        f"adapter.pairs={root / 'pairs.jsonl'}",
        f"data.contrast.trait.path={root / 'trait.jsonl'}",
        "data.contrast.trait.instruction=d",
        f"data.validation.general.path={root / 'general.jsonl'}",
        "data.context_length=32",
    ]


@pytest.fixture(scope="module")
def sweep(given: list[str]) -> Sweep:
    # A Gaussian process takes longer than all of the rest.
    return load_sweep("steer", [*given, "budget.trials=20", "search.name=tpe"])


def test_controls_come_first_and_the_blocks_are_the_models(sweep: Sweep) -> None:
    assert sweep.start.points == [{"adapter.control": "nothing"}, {"adapter.control": "prompt"}]
    assert (sweep.space["adapter.block"].low, sweep.space["adapter.block"].high) == (0, 1)
    config = sweep.trial_config(sweep.start.points[1])
    assert (config.adapter.control, config.data.kl, config.trainer.max_steps) == ("prompt", True, 0)


def test_all_other_trials_steer_and_random_directions_take_the_best_place(sweep: Sweep, tmp_path: Path) -> None:
    directory = StudyDirectory(tmp_path / "runs" / "steer")
    directory.path.mkdir(parents=True)
    write_yaml(directory.sweep, {**sweep.frozen(), "launched": "now"})
    study = Study(directory, thaw(directory.sweep), "here-1-aa")
    while isinstance(claim := study.claim(), Claim):
        trial = read_trial(claim.run)
        assert trial is not None
        assert trial.params is not None
        assert study.prepare(claim)
        study.settle(claim, Attempt(claim.run).complete(**measured(trial.params)))  # type: ignore[arg-type]
    runs = load_study(directory).runs
    assert [run.params["adapter.control"] for run in runs] == ["nothing", "prompt", *[None] * 15, *["random"] * 3]
    steering = [run for run in runs if run.params["adapter.control"] is None]
    assert len({run.params["adapter.coefficient"] for run in steering}) == 15
    best = max((run for run in steering if run.result.feasible is not False), key=lambda run: run.result.metrics[MARGIN])
    assert any(run.result.metrics[MARGIN] > best.result.metrics[MARGIN] for run in steering), "the bound matters here"
    for draw, run in enumerate(runs[-3:]):
        same = {f"adapter.{key}": best.params[f"adapter.{key}"] for key in ("block", "width", "coefficient", "positions")}
        assert run.params == {"adapter.control": "random", "adapter.draw": draw, **same}
    assert [sorted(run.params) for run in runs[:2]] == [["adapter.control"]] * 2
    # The sampler learns from trials that steer: it finds the block that is worth more, at a coefficient that the bound allows.
    late = steering[9:]
    assert sum(run.params["adapter.block"] == 1 for run in late) >= 4


def measured(params: dict[str, Any]) -> dict[str, float]:
    """More of a vector does more and costs more, behind block 1 at a better price; random directions cost and do nothing."""
    amount = params.get("adapter.coefficient", 0.0)
    worth = 0.0 if params["adapter.control"] else amount * (1 + params["adapter.block"])
    return {MARGIN: worth, KL: amount**2}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["budget.trials=5"], r"budget\.trials=5: the last 3 trials of a steering study are random directions .*; valid: at least 6"),
        (
            ["budget.trials=8", "search.confirm=true"],
            r"budget\.trials=8: .* at least 6 beside what search\.confirm holds back \(4 of these\)",
        ),
        (["data.contrast.trait.instruction=null"], r"adapter\.control=prompt: nothing asks for the trait in words; valid: data\.contrast"),
        (["space.adapter.control.choices=[null,nothing,random]", "space.adapter.draw.choices=[0,1]"], r"space\.adapter\.draw: 3 random"),
        (["space.adapter.control.choices=[nothing,random]"], r"space\.adapter\.method\.when\.adapter\.control=None: never happens"),
        (["data.kl=false"], r"unknown metric 'val/general/kl'"),
        (["constraints.val/general/report/kl.max=1"], r"is measured on what is kept for the report"),
    ],
)
def test_bad_questions_are_refused(given: list[str], overrides: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_sweep("steer", [*given, *overrides])


def test_a_study_without_a_prompt_says_so(given: list[str]) -> None:
    without = [one for one in given if "instruction" not in one]
    sweep = load_sweep("steer", [*without, "space.adapter.control.choices=[null,nothing,random]"])
    assert sweep.start.points == [{"adapter.control": "nothing"}]


def test_how_much_of_a_vector_file_is_a_study(given: list[str], tmp_path: Path) -> None:
    of_file = [*(one for one in given if not one.startswith("adapter.pairs")), f"adapter.vector={tmp_path}"]
    left_out = [f"~space.adapter.{key}" for key in ("method", "reading", "block", "width")]
    found = load_sweep("steer", [*of_file, *left_out])
    assert [parameter.key for parameter in found.space.parameters] == [
        *("adapter.control", "adapter.draw", "adapter.sign", "adapter.coefficient", "adapter.positions")
    ]
    with pytest.raises(InputError, match=r"valid: adapter\.pairs, or no such key \(of a study: ~space\.adapter\.method\)"):
        load_sweep("steer", of_file)
    save_file({"block.1": torch.ones(4)}, tmp_path / "vector.safetensors")
    with pytest.raises(InputError, match=r"no direction for block 0, which .*; valid: ~space\.adapter\.block ~space\.adapter\.width"):
        load_sweep("steer", [*of_file, *left_out[:2]])
    load_sweep("steer", [*of_file, *left_out])


BLOCKS = 12
CONTROLS = {"choices": [None, "nothing", "random"]}
STEERS = {"when": {"adapter.control": [None, "random"]}}
WIDE: dict[str, Any] = {"choices": [0, 1], **STEERS}


@pytest.mark.parametrize(
    ("held", "space", "fixed", "missing"),
    [
        ([3, 5], {"adapter.block": {"choices": [3, 5]}}, {}, ""),
        ([3, 5], {"adapter.block": {"choices": [3, 4, 5]}}, {}, "block 4"),
        ([3, 5], {"adapter.block": {"low": 3, "high": 5, "step": 2}}, {}, ""),
        ([2, 3, 4, 10], {"adapter.block": {"low": 2, "high": 10}}, {}, "blocks 5, 6, 7, 8, 9"),
        ([3, 5], {"adapter.block": {"choices": [3, 5]}}, {"width": 1}, "blocks 2, 4, 6"),
        ([9, 10, 11], {"adapter.block": {"choices": [11]}, "adapter.width": {"low": 0, "high": 2}}, {}, ""),
        ([9, 10, 11], {"adapter.width": {"low": 0, "high": 2}}, {"block": 10}, "block 8"),
        (
            [3, 5],
            {"adapter.block": {"choices": [3, 5]}, "adapter.width": {"choices": [0, 1], "when": {"adapter.block": 5}}},
            {},
            "blocks 4, 6",
        ),
        ([3, 5], {"adapter.block": {"choices": [None, 3]}}, {}, ""),
        ([3, 5], {"adapter.width": {"choices": [0, 1]}}, {}, "blocks 4, 6"),
        ([3, 5], {"adapter.block": {"low": 0, "high": 11}}, {"method": "random"}, ""),
        ([3, 5], {"adapter.control": CONTROLS, "adapter.block": {"low": 0, "high": 11, "when": {"adapter.control": "random"}}}, {}, ""),
        ([4, 5, 6], {"adapter.control": CONTROLS, "adapter.block": {"choices": [5], **STEERS}, "adapter.width": WIDE}, {}, ""),
        ([2, 3, 4, 5], {"adapter.control": CONTROLS, "adapter.block": {"choices": [3], **STEERS}, "adapter.width": WIDE}, {}, ""),
    ],
)
def test_blocks_without_a_direction_are_refused_where_a_trial_may_have_them(
    sweep: Sweep,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    held: list[int],
    space: dict[str, Any],
    fixed: dict[str, Any],
    missing: str,
) -> None:
    """Without a block, a file is steered about the strongest of its own."""
    save_file({f"block.{block}": torch.ones(4) for block in held}, tmp_path / "vector.safetensors")
    (tmp_path / "steering.json").write_text(json.dumps({"coefficients": {"3": 0.1, "5": -0.3}}))
    monkeypatch.setattr(steering_controls, "layers_of", lambda model: BLOCKS)
    adapter = dataclasses.replace(sweep.base.config.adapter, pairs=None, vector=str(tmp_path), **fixed)
    config = dataclasses.replace(sweep.base.config, adapter=adapter)
    if not missing:
        check_blocks(config, parse_space(space))
        return
    with pytest.raises(InputError, match=f"it has no direction for {missing}, which "):
        check_blocks(config, parse_space(space))


def test_a_prompt_that_is_not_asked_where_the_model_writes_is_said(sweep: Sweep) -> None:
    """No more than said: what is written may be the price alone, as accuracy is."""
    written = GenerationConfig(path="stories.jsonl")

    def said(sweep: Sweep, **sets: GenerationConfig) -> list[str]:
        config = sweep.base.config
        return list(prompt_advice(dataclasses.replace(config, data=dataclasses.replace(config.data, generation=sets)), sweep.space))

    assert said(sweep) == []
    assert said(sweep, stories=written, sums=dataclasses.replace(written, instruction="d")) == []
    (line,) = said(sweep, stories=written)
    assert line.startswith("adapter.control=prompt: nothing asks for the trait where the model writes (data.generation.stories)")
    assert "data.generation.stories.instruction=TEXT" in line
    no_prompt = parse_space({"adapter.control": {"choices": [None, "nothing"]}})
    asked = parse_space({"adapter.control": {"choices": [None, "prompt"]}, "data.generation.stories.instruction": {"choices": ["d", "e"]}})
    for space in (no_prompt, asked):
        other = dataclasses.replace(sweep)
        vars(other).update({**vars(sweep), "space": space})
        assert said(other, stories=written) == []


def test_advice_of_a_sweep_speaks_of_the_prompt(given: list[str], tmp_path: Path) -> None:
    (tmp_path / "stories.jsonl").write_text('{"prompt": "a"}\n')
    sets = [f"data.generation.stories.path={tmp_path / 'stories.jsonl'}", "data.generation.stories.max_new_tokens=4"]
    loaded = load_sweep("steer", [*given, *sets, "budget.trials=20", "search.name=tpe"])
    assert any("where the model writes" in line for line in advice(loaded))


@pytest.mark.parametrize(("then", "goes_on"), [("now", True), ("before", False)])
def test_a_study_does_not_go_on_where_a_coefficient_means_something_else(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str, goes_on: bool
) -> None:
    """Of trials begun before, those without a coefficient are as they were."""
    monkeypatch.setenv("HARNESS_RUNS", str(tmp_path / "runs"))
    settings = VectorSettings("m", "f", "mean_difference", "last", "add", "all", {0: 0.1, 1: 0.3}, [1.0] * 2, 1, None, [1.0] * 2, [0.0] * 2)
    write_vector(tmp_path / "found", {0: torch.ones(4), 1: torch.ones(4)}, settings)
    plain = vector_fingerprint(tmp_path / "found")
    adapter = dataclasses.replace(sweep.base.config.adapter, pairs=None, vector=str(tmp_path / "found"))
    config = dataclasses.replace(sweep.base.config, adapter=adapter)
    going_on = dataclasses.replace(sweep)
    vars(going_on).update({**vars(sweep), "base": dataclasses.replace(sweep.base, config=config)})
    for number, coefficient in enumerate((None, 0.5)):
        run = StudyDirectory(tmp_path / "runs" / sweep.name).trial(number)
        run.path.mkdir(parents=True)
        of_trial = dataclasses.replace(config, adapter=dataclasses.replace(adapter, coefficient=coefficient))
        write_yaml(run.config, to_plain(of_trial))
        known = steering_fingerprints(of_trial, None) if then == "now" else {"adapter.vector": plain}
        write_result(run, Result(state="complete", fingerprints=known))
    if goes_on:
        assert has_trained(going_on)
        return
    with pytest.raises(InputError, match=r"the adapter\.vector changed since this run began; going on would mix two runs"):
        has_trained(going_on)


def test_a_confirmation_keeps_the_block(sweep: Sweep) -> None:
    """data.validation.NAME.block is another one's: which documents a seed is judged on."""
    params = {"adapter.control": None, "adapter.block": 1, "adapter.coefficient": 0.1, "seed": 3, "data.validation.general.block": 2}
    space = dataclasses.replace(sweep.config, space={**sweep.config.space, **{key: {"low": 0, "high": 9} for key in list(params)[3:]}})
    wider = dataclasses.replace(sweep, config=space)
    assert _point(wider, params) == {"adapter.control": None, "adapter.block": 1, "adapter.coefficient": 0.1}
    assert fresh_values(sweep, params, 7, place=1) == {"seed": 7, "adapter.draw": 4}


def test_a_study_of_a_file_holds_nothing_back_for_a_confirmation(sweep: Sweep) -> None:
    """search.confirm would spend its share on runs that are the same with every seed."""
    confirms = _confirming(sweep)
    assert why_not(confirms) is None
    adapter = dataclasses.replace(sweep.base.config.adapter, pairs=None, vector="found.safetensors")
    base = dataclasses.replace(sweep.base, config=dataclasses.replace(sweep.base.config, adapter=adapter))
    vars(confirms)["base"] = base
    assert why_not(confirms) == "the direction of adapter.vector is the same with every seed"


def test_random_directions_come_before_a_confirmation_of_the_study_itself(sweep: Sweep) -> None:
    """Its runs over fresh seeds are of budget.trials, and no trials of the search: those end 6 of 20 earlier."""
    confirms = _confirming(sweep)
    last = trials_of_search(confirms)
    assert (last, trials_of_search(sweep)) == (14, 20)
    given = [around_controls({}, confirms.config, confirms.space, number, last, list).pinned for number in range(10, 16)]
    assert [point.get("adapter.draw") for point in given] == [None, *range(3), None, None]


def _confirming(sweep: Sweep) -> Sweep:
    """The same with search.confirm; what was composed is shared."""
    config = dataclasses.replace(sweep.config, search=dataclasses.replace(sweep.config.search, confirm=True))
    found = dataclasses.replace(sweep, config=config)
    vars(found).update({**vars(sweep), "config": config})
    return found


def test_a_direction_of_a_file_is_not_confirmed(tmp_path: Path) -> None:
    """Nothing about it is left to chance: that is said, and no confirmation asked for."""
    config = {"adapter": {"name": "steering", "vector": "happy", "pairs": None}, "trainer": {"max_steps": 0}, "data": {"generation": {}}}
    study = StudyRecord(StudyDirectory(tmp_path / "found"), {"config": config}, [])
    assert how_to_confirm(study) == "nothing to confirm: the direction of adapter.vector is the same with every seed"
    with pytest.raises(InputError, match=r"found: the direction of adapter\.vector is the same with every seed; harness best found says"):
        refuse_without_noise(study)
    of_pairs = dataclasses.replace(study, sweep={"config": {**config, "adapter": {"name": "steering", "vector": None, "pairs": "p.jsonl"}}})
    assert how_to_confirm(of_pairs) == "`harness confirm found` runs the best over other draws of the pairs"
    trained = dataclasses.replace(study, sweep={"config": {**config, "trainer": {"max_steps": 9}}})
    assert how_to_confirm(trained) == "`harness confirm found` runs the best over seeds"
    refuse_without_noise(trained)


MOODS = {
    "pairs": ([" the lazy dog jumps", " green hills"], [" the old kettle sang", " a small garden"]),
    "trait": ([" the quick fox", " brown dog jumps"], [" a kettle in the garden", " an old song"]),
}


@pytest.mark.slow
def test_a_real_study_says_what_it_found_and_what_that_is_worth(tiny_text: TinyText, tiny_model: Path, tmp_path: Path) -> None:
    for name, sides in MOODS.items():
        both = [(a, b) for a, b in zip(*sides, strict=True)]
        rows = [{"prompt": f"{n} and", "positive": a, "negative": b} for n in range(8) for a, b in both]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = [
        f"model.path={tiny_model}",
        "adapter.pairs=pairs.jsonl",
        "data.contrast.trait.path=trait.jsonl",
        "data.contrast.trait.instruction='rain falls '",
        f"data.validation.general.path={tiny_text.general}",
        "data.validation.general.max_tokens=300",
        "data.context_length=32",
        "trainer=cpu",
        "tracking=none",
    ]
    done = run_harness("sweep", "steer", *given, "budget.trials=8", "search.startup_trials=1", "launcher.workers=1", cwd=tmp_path)
    assert done.rc == 0, done
    assert "adapter.pairs: 16 pairs, adapter.reading=last: by block agreement" in done.stderr
    study = load_study(StudyDirectory(tmp_path / "runs" / "steer"))
    assert [run.state for run in study.runs] == ["complete"] * 8
    nothing, prompt, *steering, first, second, third = study.runs
    base = {name: value for name, value in nothing.result.metrics.items() if name.startswith("val/general/")}
    assert base["val/general/kl"] == 0 == base["val/general/report/kl"]
    # A prompt changes what is read, and nothing of the model.
    assert {name: prompt.result.metrics[name] for name in base} == base
    assert prompt.result.metrics[MARGIN] != nothing.result.metrics[MARGIN]
    assert all(run.result.metrics[KL] > 0 for run in (*steering, first, second, third))
    assert len({run.result.metrics[MARGIN] for run in study.runs}) == 8, "three random directions are three"
    found = on_report(study)
    assert found is not None
    assert {rival.kind for rival in found.rivals} | {(found.is_baseline or ("", ""))[0]} >= {"nothing", "prompt", "random"}
    assert all(rival.lead is not None for rival in found.rivals)
    said = run_harness("best", "steer", cwd=tmp_path)
    assert "on documents that chose nothing" in said.stdout
    assert "its pairs agree to" in said.stdout or found.is_baseline is not None
    assert [AGREEMENT in run.result.metrics for run in study.runs] == [False, False, True, True, True, False, False, False]
    # Each seed has a draw of the pairs of its own.
    steered = max(steering, key=lambda run: abs(run.result.metrics[MARGIN] - nothing.result.metrics[MARGIN]))
    confirmed = run_harness("confirm", "steer", "--trial", f"{steered.number}", "--seeds", "2", cwd=tmp_path)
    assert confirmed.rc == 0, confirmed
    runs = load_study(StudyDirectory(tmp_path / "runs" / "steer-confirm")).runs
    place = {key: value for key, value in steered.params.items() if key != "adapter.draw"}
    again = [run for run in runs if place.items() <= run.params.items()]
    assert [run.params["adapter.draw"] for run in again] == [3, 4]
    assert len({run.result.metrics[MARGIN] for run in (*again, steered)}) == 3
