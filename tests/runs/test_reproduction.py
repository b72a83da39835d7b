"""When a run is the same as another one: by its bits, by seed noise, or not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.runs.metrics import Row
from harness.runs.reproduction import Difference, Original, compare, compare_rows, differences
from harness.runs.result import Result

METRIC = "val/domain/loss"
ROWS: list[Row] = [
    {"step": 0, METRIC: 3.0, "evaluation_seconds": 1.0},
    {"step": 4, METRIC: 2.5, "train/loss": 2.4, "tokens_per_second": 9.0},
]
ORIGINAL = Original("winner", 0, Result(metrics={METRIC: 2.5}), ROWS, METRIC, mean=2.52, seeds=3, sd=0.01, degrees=4.0)


def judged(value: float, *, seed: int = 0, original: Original = ORIGINAL) -> str:
    rows = [ROWS[0], {**ROWS[1], METRIC: value}]
    return compare(original, seed=seed, metrics={METRIC: value}, rows=rows).verdict


def test_the_same_bits_are_exact_whatever_the_machines_speed() -> None:
    faster = [{**row, "tokens_per_second": 99.0, "evaluation_seconds": 0.1} for row in ROWS]
    found = compare(ORIGINAL, seed=0, metrics={METRIC: 2.5}, rows=faster)
    assert (found.verdict, found.rows.steps, found.rows.values) == ("exact", 2, 3)


@pytest.mark.parametrize(
    ("value", "seed", "verdict"),
    [
        (2.5 + 1e-15, 0, "within_noise"),
        # One run of the same seed: t(4) = 2.776 times sd times the root of 2 is 0.0393.
        (2.539, 0, "within_noise"),
        (2.540, 0, "differs"),
        # Of another seed, around the mean of three: 2.776 · 0.01 · √(4/3) is 0.0321.
        (2.552, 7, "within_noise"),
        (2.553, 7, "differs"),
        # The same figure of another seed is no proof of the same bits.
        (2.5, 7, "within_noise"),
    ],
)
def test_the_noise_of_seeds_is_the_measure_of_what_is_not_exact(value: float, seed: int, verdict: str) -> None:
    assert judged(value, seed=seed) == verdict


def test_without_a_confirmation_only_the_same_bits_are_the_same() -> None:
    assert judged(2.5, original=ALONE) == "exact"
    assert judged(2.5 + 1e-12, original=ALONE) == "differs", "nothing differs here, so the bits should be the same"


ALONE = replace(ORIGINAL, mean=None, seeds=0, sd=None)
OTHER_CPU, OTHER_TORCH = Difference("cpu", "X", "Y", "hardware"), Difference("torch", "2.13", "2.14", "version")


@pytest.mark.parametrize("found", [[OTHER_CPU], [OTHER_TORCH], [Difference("data", "a", "b", "input"), OTHER_CPU]])
def test_without_a_confirmation_other_hardware_leaves_unknown_what_is_noise(found: list[Difference]) -> None:
    verdict = "differs" if found[0].matters == "input" else "unknown"
    judged = compare(ALONE, seed=0, metrics={METRIC: 2.6}, rows=[ROWS[0], {**ROWS[1], METRIC: 2.6}], differences=found)
    assert (judged.verdict, judged.reach) == (verdict, None)
    assert "--seeds N" in judged.why
    assert "harness confirm" in judged.why


def test_without_a_confirmation_another_seed_and_a_gpu_leave_it_unknown() -> None:
    assert judged(2.5, seed=1, original=ALONE) == "unknown"
    on_a_gpu = replace(ALONE, result=replace(ALONE.result, hardware={"gpus": ["H"]}))
    assert judged(2.5 + 1e-12, original=on_a_gpu) == "unknown", "its sums need not come out the same twice"


def test_another_configuration_is_another_one_even_where_noise_is_unknown() -> None:
    changed = Difference("optim.lr", "0.1", "0.2", "configuration")
    assert compare(ALONE, seed=1, metrics={METRIC: 2.6}, rows=ROWS, differences=[changed]).verdict == "differs"


def test_the_first_value_that_differs_is_named() -> None:
    found = compare_rows(ROWS, [ROWS[0], {**ROWS[1], "train/loss": 2.41}])
    assert found.first_difference == "step 4, train/loss: 2.4 there, 2.41 here"
    assert compare_rows(ROWS, ROWS[:1]).first_difference == "step 4 was not logged"
    assert compare_rows([], ROWS).first_difference == "there are no rows to compare with"


def test_what_differs_is_named_with_its_kind() -> None:
    there = Result(fingerprints={"data": "a" * 64, "model": "b"}, versions={"torch": "2.13"}, hardware={"cpu": "X", "gpus": [], "cores": 4})
    here = Result(
        fingerprints={"data": "c" * 64, "model": "b"}, versions={"torch": "2.14"}, hardware={"cpu": "X", "gpus": ["H"], "cores": 2}
    )
    found = [(one.what, one.there, one.here, one.matters) for one in differences(there, here)]
    assert found == [
        ("data", "a" * 16, "c" * 16, "input"),
        ("torch", "2.13", "2.14", "version"),
        ("gpus", "none", "H", "hardware"),
    ]
