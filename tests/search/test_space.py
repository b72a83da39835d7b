"""The space of a study: what can be declared, what is refused and in which words, and what comes out of it."""

from __future__ import annotations

import math
import random
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.config.errors import InputError
from harness.config.load import load
from harness.config.schema import AdapterConfig
from harness.search.cube import Cube
from harness.search.space import Space, parse_space

optuna.logging.set_verbosity(optuna.logging.ERROR)
pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def points(space: Space, count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [space.suggest(study.ask()) for _ in range(count)]


# What is drawn.


def test_a_parameter_takes_part_only_where_its_condition_holds() -> None:
    space = parse_space(
        {
            "schedule.decay_fraction": {"low": 0.1, "high": 0.5, "when": {"schedule": "wsd"}},
            "schedule": {"choices": ["cosine", "linear", "wsd"]},
        }
    )
    drawn = points(space, 60)
    assert {point["schedule"] for point in drawn} == {"cosine", "linear", "wsd"}
    for point in drawn:
        assert ("schedule.decay_fraction" in point) == (point["schedule"] == "wsd")


def test_the_rank_of_an_adapter_takes_part_only_where_there_is_one(tiny: list[str]) -> None:
    space = parse_space(
        {
            "adapter": {"choices": ["none", "lora"]},
            "adapter.rank": {"low": 2, "high": 16, "when": {"adapter": "lora"}},
            "adapter.variant": {"choices": ["plain", "dora"], "when": {"adapter": "lora"}},
        }
    )
    seen = set()
    for point in points(space, 12):
        assert ("adapter.rank" in point) == (point["adapter"] == "lora")
        groups, values = space.split(point)
        adapter = load([*tiny, *groups], values).config.adapter
        assert adapter.name == point["adapter"]
        assert adapter.rank == point.get("adapter.rank", AdapterConfig().rank)
        seen.add(adapter.name)
    assert seen == {"none", "lora"}


def test_conditions_chain_and_take_lists() -> None:
    space = parse_space(
        {
            "schedule": {"choices": ["cosine", "wsd", "linear"]},
            "schedule.floor": {"choices": [0.0, 0.1], "when": {"schedule": ["wsd", "cosine"]}},
            "optim.weight_decay": {"low": 0.0, "high": 0.2, "when": {"schedule.floor": 0.1, "schedule": "wsd"}},
        }
    )
    assert space.conditions("optim.weight_decay") == {"schedule": ("wsd",), "schedule.floor": (0.1,)}
    drawn = points(space, 100)
    for point in drawn:
        assert ("schedule.floor" in point) == (point["schedule"] != "linear")
        assert ("optim.weight_decay" in point) == (point["schedule"] == "wsd" and point["schedule.floor"] == 0.1)
    assert any("optim.weight_decay" in point for point in drawn)


def test_choices_keep_their_types() -> None:
    choices: list[Any] = [None, True, 3, 0.5, "text", [0.9, 0.95], [0.9, 0.99]]
    space = parse_space({"optim.betas": {"choices": choices}})
    drawn = [point["optim.betas"] for point in points(space, 200)]
    for choice in choices:
        assert any(type(value) is type(choice) and value == choice for value in drawn), choice


def test_integers_may_be_written_as_floats() -> None:
    space = parse_space(
        {
            "trainer.max_tokens": {"low": 1e6, "high": 2e6, "step": 5e5},
            "trainer.micro_batch_size": {"choices": [1.0, 2.0]},
            "trainer.log_every_steps": {"low": 1, "high": 1000.0, "log": True},
        }
    )
    for point in points(space, 50):
        assert point["trainer.max_tokens"] in (1_000_000, 1_500_000, 2_000_000)
        assert all(type(value) is int for value in point.values()), point


def test_whole_numbers_stay_whole_where_fractions_mean_something_else() -> None:
    """A warm-up of 10 is steps, of 0.1 a fraction: nothing between 10 and 100 but whole steps would be valid."""
    steps = parse_space({"schedule.warmup": {"low": 10, "high": 100}})
    assert all(type(point["schedule.warmup"]) is int for point in points(steps, 20))
    shares = parse_space({"schedule.warmup": {"low": 0.0, "high": 0.2}})
    assert all(type(point["schedule.warmup"]) is float for point in points(shares, 20))
    decays = parse_space({"optim.weight_decay": {"low": 0, "high": 1}})
    assert all(type(point["optim.weight_decay"]) is float for point in points(decays, 20))


def test_a_range_ends_on_its_grid() -> None:
    space = parse_space({"data.replay_share": {"low": 0.0, "high": 0.5, "step": 0.2}, "optim.lr": {"low": 1e-3, "high": 1e-3}})
    assert space["data.replay_share"].extremes == [0.0, 0.4]
    drawn = points(space, 50)
    assert {round(point["data.replay_share"], 9) for point in drawn} == {0.0, 0.2, 0.4}
    assert {point["optim.lr"] for point in drawn} == {1e-3}
    assert parse_space({"data.replay_share": {"low": 0, "high": 0.3, "step": 0.1}})["data.replay_share"].high == 0.3


@settings(deadline=None, max_examples=60)
@given(
    low=st.integers(1, 10**7).map(lambda millionths: millionths / 1e6),
    width=st.integers(0, 10**7).map(lambda millionths: millionths / 1e6),
    step=st.one_of(st.none(), st.integers(10**3, 10**7).map(lambda millionths: millionths / 1e6)),
    log=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_numbers_lie_in_their_range_and_on_their_grid(low: float, width: float, step: float | None, log: bool, seed: int) -> None:
    high = round(low + width, 6)
    spec: dict[str, Any] = {"low": low, "high": high, "log": log and step is None}
    if step is not None:
        spec["step"] = step
    for point in points(parse_space({"optim.lr": spec}), 5, seed=seed):
        value = point["optim.lr"]
        assert low <= value <= high
        if step is not None:
            offset = (value - low) / step
            assert math.isclose(offset, round(offset), abs_tol=1e-6)


@settings(deadline=None, max_examples=60)
@given(
    low=st.integers(1, 100),
    width=st.integers(0, 1000),
    step=st.one_of(st.none(), st.integers(1, 2000)),
    log=st.booleans(),
    seed=st.integers(0, 99),
)
def test_integers_lie_in_their_range_and_on_their_grid(low: int, width: int, step: int | None, log: bool, seed: int) -> None:
    spec: dict[str, Any] = {"low": low, "high": low + width, "log": log and step is None}
    if step is not None:
        spec["step"] = step
    for point in points(parse_space({"trainer.max_steps": spec}), 5, seed=seed):
        value = point["trainer.max_steps"]
        assert type(value) is int
        assert low <= value <= low + width
        assert (value - low) % (step or 1) == 0


@pytest.mark.parametrize(
    ("spec", "ends", "valid"),
    [
        ({"low": 1000, "high": 9000, "log": True, "multiple_of": 512}, [1024, 8704], {512 * n for n in range(2, 18)}),
        ({"low": 1000, "high": 2000, "multiple_of": 512}, [1024, 1536], {1024, 1536}),
        ({"low": 512, "high": 512, "log": True, "multiple_of": 512}, [512, 512], {512}),
        ({"low": 1, "high": 1e3, "log": True, "multiple_of": 1}, [1, 1000], set(range(1, 1001))),
    ],
)
def test_what_lies_between_multiples_is_moved_to_the_nearest(spec: dict[str, Any], ends: list[int], valid: set[int]) -> None:
    parameter = parse_space({"trainer.max_steps": spec})["trainer.max_steps"]
    assert parameter.extremes == ends
    drawn = [point["trainer.max_steps"] for point in points(Space((parameter,)), 60)]
    assert set(drawn) <= valid
    assert all(type(value) is int and parameter.holds(value) for value in drawn)
    assert set(parameter.representatives) <= valid


def test_multiples_of_a_fraction_are_written_as_it_is() -> None:
    space = parse_space({"optim.lr": {"low": 0.1, "high": 1.0, "log": True, "multiple_of": 0.1}})
    assert {point["optim.lr"] for point in points(space, 200)} == {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0}
    assert not space["optim.lr"].holds(0.25)


def test_ordered_choices_are_places_to_a_sampler_and_neighbours_to_a_model() -> None:
    choices = ["padded", "concat", "best_fit"]
    parameter = parse_space({"data.packing": {"choices": choices, "ordered": True}})["data.packing"]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = []
    for _ in range(20):
        trial = study.ask()
        drawn.append(parameter.suggest(trial))
        assert trial.params["data.packing"] == parameter.in_optuna(drawn[-1]) == choices.index(drawn[-1])
    assert set(drawn) == set(choices)
    cube = Cube(Space((parameter,)))
    assert cube.encoded([{"data.packing": choice} for choice in choices]).tolist() == [[0.0], [0.5], [1.0]]
    moved = {cube.near({"data.packing": "padded"}, random.Random(seed), 0.1)["data.packing"] for seed in range(40)}
    assert moved == {"padded", "concat"}, "the next one, not the last"


def test_stepped_values_are_written_as_their_step_is() -> None:
    space = parse_space({"data.replay_share": {"low": 0.0, "high": 0.5, "step": 0.05}})
    assert {point["data.replay_share"] for point in points(space, 200)} == {n / 20 for n in range(11)}


def test_the_order_of_parameters_is_the_same_in_every_process() -> None:
    """Proposals draw one value after the other: another order would be another proposal."""
    keys = ["optim.lr", "schedule", "data.packing", "schedule.decay_fraction", "data.replay_share"]
    space = parse_space(
        {
            "optim.lr": {"low": 1e-4, "high": 1e-2},
            "schedule": {"choices": ["wsd", "cosine"]},
            "data.packing": {"choices": ["best_fit", "concat"]},
            "schedule.decay_fraction": {"low": 0.1, "high": 0.5, "when": {"schedule": "wsd", "data.packing": "concat"}},
            "data.replay_share": {"low": 0.0, "high": 0.5},
        }
    )
    assert sorted(parameter.key for parameter in space.parameters) == sorted(keys)
    assert [parameter.key for parameter in space.parameters] == ["optim.lr", "schedule", "data.packing", "data.replay_share", keys[3]]


# What is refused.

RANGE = {"low": 1e-4, "high": 1e-1}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "space: empty; declare at least one parameter"),
    "unknown key": ({"optim.lrr": RANGE}, "space: unknown key 'optim.lrr'. Did you mean 'optim.lr'?"),
    "a section": ({"trainer": RANGE}, "space.trainer: trainer is a configuration group; give choices, of auto, cpu, ddp, fsdp2, gpu"),
    "a bare value": ({"optim.lr": 3e-4}, "space.optim.lr=0.0003: expected {low: …, high: …} or {choices: […]}"),
    "unknown sub-key": ({"optim.lr": {"low": 1, "hihg": 2}}, "space.optim.lr: unknown key 'hihg'. Did you mean 'high'?"),
    "no high": ({"optim.lr": {"low": 1}}, "space.optim.lr.high=null: expected a number"),
    "text": ({"optim.lr": {"low": "a", "high": 2}}, "space.optim.lr.low=a: expected a number"),
    "a flag": ({"optim.lr": {"low": True, "high": 2}}, "space.optim.lr.low=True: expected a number"),
    "not a number": ({"optim.lr": {"low": 1, "high": math.nan}}, "space.optim.lr.high=nan: expected a number"),
    "infinite": ({"optim.lr": {"low": 1, "high": math.inf}}, "space.optim.lr.high=inf: expected a number"),
    "upside down": ({"optim.lr": {"low": 1, "high": 0.1}}, "space.optim.lr.low=1: must not exceed high=0.1"),
    "log from 0": ({"optim.lr": {"low": 0, "high": 1, "log": True}}, "space.optim.lr.low=0: must be > 0 on a log scale"),
    "log is a flag": ({"optim.lr": {**RANGE, "log": "yes"}}, "space.optim.lr.log=yes: expected true or false"),
    "no step": ({"optim.lr": {**RANGE, "step": 0}}, "space.optim.lr.step=0: must be > 0"),
    "log and step": ({"optim.lr": {**RANGE, "log": True, "step": 0.1}}, "space.optim.lr: log and step exclude each other"),
    "endless steps": ({"optim.weight_decay": {"low": 0, "high": 1, "step": 1e-300}}, "step=1e-300: more than 1e+15 values from 0 to 1"),
    "no multiple": ({"optim.lr": {**RANGE, "multiple_of": 0}}, "space.optim.lr.multiple_of=0: must be > 0"),
    "no multiple within": (
        {"trainer.max_steps": {"low": 11, "high": 19, "multiple_of": 10}},
        "multiple_of=10: no multiple lies from 11 to 19",
    ),
    "broken multiple": (
        {"trainer.max_steps": {"low": 1, "high": 9, "multiple_of": 1.5}},
        "multiple_of=1.5: trainer.max_steps is an integer",
    ),
    "step and multiple": (
        {"optim.lr": {**RANGE, "step": 0.1, "multiple_of": 0.1}},
        "space.optim.lr: step and multiple_of exclude each other",
    ),
    "choices and a multiple": (
        {"optim.lr": {"choices": [1], "multiple_of": 1}},
        "space.optim.lr: choices and multiple_of exclude each other",
    ),
    "an ordered range": ({"optim.lr": {**RANGE, "ordered": True}}, "space.optim.lr.ordered: of choices alone, a range has its order"),
    "ordered is a flag": ({"optim.lr": {"choices": [1, 2], "ordered": "up"}}, "space.optim.lr.ordered=up: expected true or false"),
    "broken integer": ({"trainer.max_steps": {"low": 1.5, "high": 3}}, "space.trainer.max_steps.low=1.5: trainer.max_steps is an integer"),
    "range of words": ({"data.packing": RANGE}, "space.data.packing: data.packing is no number but one of best_fit, concat, padded"),
    "range and choices": ({"optim.lr": {"low": 1, "choices": [1]}}, "space.optim.lr: choices and low exclude each other"),
    "no choice": ({"data.packing": {"choices": []}}, "space.data.packing.choices=[]: expected a list of at least one value"),
    "one choice": ({"data.packing": {"choices": "concat"}}, "space.data.packing.choices=concat: expected a list of at least one value"),
    "twice": ({"data.packing": {"choices": ["concat", "concat"]}}, "a value stands there twice"),
    "unknown choice": ({"schedule": {"choices": ["cosin"]}}, "space.schedule: unknown choice for schedule 'cosin'. Did you mean 'cosine'?"),
    "group and its name": (
        {"schedule": {"choices": ["wsd", "linear"]}, "schedule.name": {"choices": ["wsd", "linear"]}},
        "space.schedule.name: schedule is a parameter of this space and chooses it already",
    ),
    "when is no mapping": ({"optim.lr": {**RANGE, "when": "wsd"}}, "space.optim.lr.when=wsd: expected {PARAMETER: VALUE}"),
    "when on no parameter": (
        {"optim.lr": {**RANGE, "when": {"scheduel": "wsd"}}, "schedule": {"choices": ["wsd"]}},
        "space.optim.lr.when: 'scheduel' is not a parameter of this space. Did you mean 'schedule'? Valid: schedule.",
    ),
    "when on a range": (
        {"optim.lr": {**RANGE, "when": {"data.replay_share": 0.1}}, "data.replay_share": {"low": 0, "high": 0.5}},
        "space.optim.lr.when: data.replay_share has a range; conditions are on choices",
    ),
    "when on another value": (
        {"optim.lr": {**RANGE, "when": {"schedule": "linear"}}, "schedule": {"choices": ["wsd", "cosine"]}},
        "space.optim.lr.when.schedule=linear: never happens, schedule is one of wsd, cosine",
    ),
    "when on no value": (
        {"optim.lr": {**RANGE, "when": {"schedule": []}}, "schedule": {"choices": ["wsd", "cosine"]}},
        "space.optim.lr.when: never happens",
    ),
    "when contradicts": (
        {
            "schedule": {"choices": ["wsd", "cosine"]},
            "schedule.floor": {"choices": [0.0, 0.1], "when": {"schedule": "wsd"}},
            "optim.lr": {**RANGE, "when": {"schedule": "cosine", "schedule.floor": 0.1}},
        },
        "space.optim.lr.when: never happens, its conditions ask for different values of schedule",
    ),
    "circle": (
        {
            "data.packing": {"choices": ["concat"], "when": {"schedule": "wsd"}},
            "schedule": {"choices": ["wsd"], "when": {"data.packing": "concat"}},
        },
        "go round in a circle",
    ),
    "circle of one": ({"schedule": {"choices": ["wsd"], "when": {"schedule": "wsd"}}}, "the conditions of schedule go round in a circle"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_impossible_spaces_are_refused_in_words(case: str) -> None:
    raw, message = REFUSED[case]
    with pytest.raises(InputError) as caught:
        parse_space(raw)
    assert message in str(caught.value)
