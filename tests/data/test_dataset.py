from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from harness.config.schema import DataConfig
from harness.data.dataset import PackedRows, StepSampler, build_loader
from harness.data.labels import IGNORED
from harness.data.training_data import TrainingData
from harness.schedule.batch_size import BatchSize
from tests.support.datasets import training_data


@pytest.fixture(params=["best_fit", "concat", "padded", "best_fit 3", "concat 3", "padded 3"])
def data(request: pytest.FixtureRequest, config: DataConfig, tokenizer: Any) -> TrainingData:
    """Every packing, without a soft prompt and with one of three tokens."""
    packing, _, prompt = request.param.partition(" ")
    return training_data(replace(config, packing=packing), tokenizer, seed=0, prompt=int(prompt or 0))


def plainly(data: TrainingData, position: int) -> dict[str, list[int]]:
    """A row, built piece by piece."""
    source, row = (int(values[0]) for values in data.order.rows(position, position + 1))
    packing, documents = data.sources[source].packing, data.sources[source].documents
    ids: list[int] = []
    positions: list[int] = []
    labels: list[int] = []
    for piece in range(packing.row_offsets[row], packing.row_offsets[row + 1]):
        first = int(documents.offsets[packing.piece_document[piece]] + packing.piece_start[piece])
        tokens = documents.tokens[first : first + int(packing.piece_length[piece])].tolist()
        prompt = [-1, -2, -3][: packing.prompt]
        ids += [*prompt, *tokens]
        positions += range(len(prompt) + len(tokens))
        labels += [*(IGNORED for _ in prompt), *tokens[1:], IGNORED]
    padding = packing.context_length - len(ids)
    from_here = len(ids) if packing.name == "padded" else 0
    return {
        "input_ids": ids + [0] * padding,
        "position_ids": [*positions, *range(from_here, from_here + padding)],
        "labels": labels + [IGNORED] * padding,
    }


def test_rows_are_their_pieces(data: TrainingData) -> None:
    positions = [5, 0, 17, 400, 399, 1001]
    batch = PackedRows(data).__getitems__(positions)
    for i, position in enumerate(positions):
        expected = plainly(data, position)
        assert {name: rows[i].tolist() for name, rows in batch.items()} == expected
        assert {name: row.tolist() for name, row in PackedRows(data)[position].items()} == expected
    assert all(rows.dtype == torch.int64 and rows.shape == (6, 32) for rows in batch.values())


def test_an_epoch_trains_every_token_of_a_source_once(config: DataConfig, tokenizer: Any) -> None:
    data = training_data(replace(config, replay_share=0.0), tokenizer, seed=0)
    batch = PackedRows(data).__getitems__(list(range(data.sources[0].packing.rows)))
    real = torch.arange(32) < torch.from_numpy(data.row_tokens(0, len(batch["labels"])))[:, None]
    assert Counter(batch["input_ids"][real].tolist()) == Counter(data.sources[0].documents.tokens.tolist())


def test_targets_and_tokens_count_what_the_rows_hold(data: TrainingData) -> None:
    labels = PackedRows(data).__getitems__(list(range(60)))["labels"]
    assert data.targets_of(BatchSize((), 12), 5).tolist() == (labels != IGNORED).reshape(5, -1).sum(dim=1).tolist()
    assert data.row_tokens(10, 60).tolist() == data.row_tokens(0, 60)[10:].tolist()


@pytest.mark.parametrize(("micro_batch_size", "world_size"), [(12, 1), (4, 1), (6, 2), (2, 3), (1, 12)])
def test_a_step_is_the_same_rows_however_it_is_divided(micro_batch_size: int, world_size: int) -> None:
    samplers = [
        StepSampler(
            BatchSize((), 12),
            accumulation=12 // micro_batch_size // world_size,
            start_step=3,
            stop_step=5,
            rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]
    per_step = 12 // (micro_batch_size * world_size)
    batches = [list(sampler) for sampler in samplers]
    assert {len(sampler) for sampler in samplers} == {len(mine) for mine in batches} == {2 * per_step}
    for step in range(2):
        rows = [row for mine in batches for micro in mine[step * per_step : (step + 1) * per_step] for row in micro]
        assert sorted(rows) == list(range((3 + step) * 12, (4 + step) * 12))


def test_micro_batches_go_to_the_ranks_in_turn() -> None:
    sampler = StepSampler(BatchSize((), 8), accumulation=2, start_step=1, stop_step=2, rank=1, world_size=2)
    assert list(sampler) == [[10, 11], [14, 15]]


@pytest.mark.parametrize("workers", [0, 1])
def test_loaders_started_in_the_middle_go_on_with_the_same_rows(data: TrainingData, workers: int) -> None:
    def batches(start_step: int, stop_step: int, workers: int = 0) -> list[dict[str, torch.Tensor]]:
        return list(build_loader(data, BatchSize((), 4), accumulation=2, start_step=start_step, stop_step=stop_step, workers=workers))

    whole, resumed = batches(0, 6), batches(2, 6, workers)
    assert (len(whole), len(resumed)) == (12, 8)
    for a, b in zip(whole[4:], resumed, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in ("input_ids", "position_ids", "labels"))


def test_a_pickled_dataset_maps_the_tokens_again(data: TrainingData) -> None:
    rows = pickle.loads(pickle.dumps(PackedRows(data)))
    assert torch.equal(rows[3]["labels"], PackedRows(data)[3]["labels"])


def test_other_seeds_give_other_orders_of_the_same_rows(config: DataConfig, tokenizer: Any) -> None:
    orders = [training_data(config, tokenizer, seed=seed).order.rows(0, 200) for seed in (0, 1)]
    assert (orders[0][0] == orders[1][0]).all()
    assert not np.array_equal(orders[0][1], orders[1][1])
