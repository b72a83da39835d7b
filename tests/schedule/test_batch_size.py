"""The batch as a function of the step."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.config.schema import Config, DataConfig, TrainerConfig
from harness.schedule.batch_size import BatchSize, resolve_batch_size


def config(**trainer: object) -> Config:
    base = TrainerConfig(batch_tokens=80, max_steps=10)
    return Config(data=DataConfig(context_length=10), trainer=replace(base, **trainer))  # type: ignore[arg-type]


def test_no_warm_up_is_a_full_batch_from_the_start() -> None:
    assert resolve_batch_size(config()).rows_before(3).tolist() == [0, 8, 16, 24]


@pytest.mark.parametrize(
    ("given", "ramp"),
    [
        # Rows grow with the rows trained: after 2 of 16 rows an eighth of the way from 2 to 8, rounded down.
        ({"initial_batch_tokens": 20, "batch_warmup": 2}, (2, 2, 3, 4, 6)),
        ({"initial_batch_tokens": 20, "batch_warmup": "160 tokens"}, (2, 2, 3, 4, 6)),
        ({"initial_batch_tokens": 20, "batch_warmup": 0.2}, (2, 2, 3, 4, 6)),
        # Two micro-batches: always an even number.
        ({"initial_batch_tokens": 20, "batch_warmup": 2, "micro_batch_size": 4}, (2, 2, 2, 4, 4, 6)),
        ({"initial_batch_tokens": 20, "batch_warmup": 0.2, "max_steps": None, "max_tokens": 800}, (2, 2, 3, 4, 6)),
        ({"initial_batch_tokens": 20, "batch_warmup": 0}, ()),
    ],
)
def test_warm_up_arithmetic(given: dict[str, object], ramp: tuple[int, ...]) -> None:
    size = resolve_batch_size(config(**given))
    assert size == BatchSize(ramp, 8)


@given(st.integers(1, 8), st.integers(0, 10), st.sampled_from([None, 1, 2, 4, 8]))
def test_batches_grow_to_full_and_hold_whole_micro_batches(initial: int, warmup: int, micro: int | None) -> None:
    size = resolve_batch_size(config(initial_batch_tokens=10 * initial, batch_warmup=warmup, micro_batch_size=micro))
    assert list(size.ramp) == sorted(size.ramp)
    assert all(0 < rows <= 8 and rows % (8 // (micro or 8)) == 0 for rows in size.ramp)
