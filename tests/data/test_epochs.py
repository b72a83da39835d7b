"""A source is not gone through more often than its cap: known, and said with what would do, before a run starts."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from harness.config.errors import InputError
from harness.config.schema import DataConfig
from harness.data.epochs import check_epochs
from harness.data.training_data import TrainingData
from harness.schedule.batch_size import BatchSize
from tests.support.datasets import training_data

BATCH = BatchSize((1, 2), 4)


@pytest.fixture
def data(config: DataConfig, tokenizer: Any) -> TrainingData:
    return training_data(config, tokenizer, 0)


def refuse(config: DataConfig, data: TrainingData, steps: int) -> None:
    check_epochs(config, data, BATCH, steps)


def capped(config: DataConfig, **caps: float) -> DataConfig:
    return replace(config, sources={name: replace(source, max_epochs=caps.get(name)) for name, source in config.sources.items()})


def test_the_length_that_is_named_is_the_longest_valid_one(config: DataConfig, data: TrainingData) -> None:
    config = replace(capped(config, base=100.0), max_epochs=1.5)
    with pytest.raises(InputError, match=r"^data\.max_epochs=1\.5: this run would go through data\.sources\.docs \d\.\d\d times") as caught:
        refuse(config, data, 400)
    tokens, steps = (int(number) for number in re.findall(r"trainer\.max_tokens=(\d+) \((\d+) steps\)", str(caught.value))[0])
    assert (steps, data.tokens_after(BATCH, steps)[-1]) == (data.steps_for(tokens, BATCH)[0], tokens)
    refuse(config, data, steps)
    with pytest.raises(InputError, match="docs"):
        refuse(config, data, steps + 1)


def test_a_source_has_a_cap_of_its_own(config: DataConfig, data: TrainingData) -> None:
    refuse(config, data, 400)  # without any
    one_epoch = sum(data.order.source_rows) // BATCH.full
    refuse(capped(config, docs=2.0, base=2.0), data, one_epoch)
    with pytest.raises(InputError, match=r"^data\.sources\.base\.max_epochs=0\.1: .* with 2\d\.\d% of its tokens.*\(data\.replay_share\)$"):
        refuse(replace(capped(config, base=0.1), max_epochs=100.0), data, one_epoch)


def test_a_cap_below_the_first_step_leaves_no_length(config: DataConfig, data: TrainingData) -> None:
    with pytest.raises(InputError, match="valid: no length, or at this length a share of at most about"):
        refuse(capped(config, docs=0.001), data, 10)


def test_a_length_in_epochs_is_the_most_whole_steps(data: TrainingData) -> None:
    for max_epochs in (0.5, 1.0, 2.5):
        steps = data.steps_within(max_epochs, BATCH)
        assert data.epochs(BATCH, steps) <= max_epochs < data.epochs(BATCH, steps + 1)
    with pytest.raises(InputError, match=r"trainer\.max_epochs=0\.001: less than one step, which goes 0\.\d+ times through a source"):
        data.steps_within(0.001, BATCH)


def test_replay_does_not_end_a_run(data: TrainingData) -> None:
    often = data.replaying([(0, 0.9)])
    steps = often.steps_within(1.0, BATCH)
    assert often.order.epochs(int(BATCH.rows_before(steps)[-1]))["base"] > 1


@pytest.mark.parametrize(("steps", "warned"), [(2000, True), (4, False)])
def test_many_repetitions_are_warned_of(
    config: DataConfig, data: TrainingData, steps: int, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(config, data, steps)
    assert ("this run goes through data.sources.docs" in caplog.text) is warned
    caplog.clear()
    refuse(capped(config, docs=1e3, base=1e3), data, steps)  # said to be meant
    assert not caplog.records
