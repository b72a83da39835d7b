"""Rows as tensors: plain indexing into memory maps, which costs next to nothing beside a training step.

Isolation is by position ids: they start over at 0 with every piece, which is what attention masks are made from. Padding at the end of a
row is a piece of its own, so that it neither joins the last document nor falls into documents of one token each. Only with `padded`
packing, one piece a row, do positions run on through the padding: then plain causal attention is right, and no mask is needed at all.
A piece that shares the beginning of the one before it (Packing.shares_prompts) has positions from there on: models that are given such
rows see by these what it goes on from, see `harness.models.document_mask`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from harness.data.labels import IGNORED
from harness.data.packing import Packing
from harness.data.prompt import prompt_ids
from harness.data.ragged import Int64, spans
from harness.data.training_data import PackedSource, TrainingData
from harness.schedule.batch_size import BatchSize

Batch = dict[str, torch.Tensor]


class PackedRows(Dataset[Batch]):
    """The rows of a run by their position in its data order."""

    def __init__(self, data: TrainingData) -> None:
        self._data = data

    def __getitems__(self, positions: list[int]) -> Batch:
        """Rows at these positions, each tensor int64[b, L]:

        input_ids     token ids, 0 in the padding at the end; those of a soft prompt are negative, see prompt_ids
        position_ids  0, 1, … within each piece; of one that shares the beginning of the piece before it, from there on
        labels        the next token of the same piece (shifted already); -100 where it is not trained, at a piece's last token, and in
                      the padding

        Where the sources have samples of a teacher, also its prediction of the label; 0 where there is none:
        teacher_samples  int64[b, L, S]
        teacher_entropy  float32[b, L], nats

        Where the sources hold answers, of which A are in these rows, of pairs chosen and rejected in turn, in the order of the rows:
        answer_tokens    int64[A], trained predictions of each
        answer_reference float32[A], their log-probability under the reference, in nats; where there is one
        answer_labels    bool[A], whether they are good; where they stand alone with their labels
        holds_answers    bool[b], of which rows are answers
        tokens_an_example    float32[], see TrainingData
        """
        shape = len(positions), self._data.context_length
        input_ids, labels = np.zeros(shape, dtype=np.int64), np.full(shape, IGNORED, dtype=np.int64)
        position_ids = np.empty(shape, dtype=np.int64)
        source, row = self._data.order.at(np.array(positions, dtype=np.int64))
        for i in np.unique(source).tolist():
            mine = np.flatnonzero(source == i)
            _fill(self._data.sources[i], row[mine], mine, input_ids, position_ids, labels)
        batch = {
            "input_ids": input_ids,
            "position_ids": position_ids,
            "labels": labels,
            **self._teacher(source, row),
            **self._answers(source, row),
        }
        return {name: torch.from_numpy(rows) for name, rows in batch.items()}

    def _teacher(self, source: Int64, row: Int64) -> dict[str, NDArray[Any]]:
        """The teacher's predictions for rows of sources (two int64[b]); empty where there is no teacher."""
        if self._data.sources[0].teacher is None:
            return {}
        shape = len(row), self._data.context_length
        samples = np.zeros((*shape, self._data.sources[0].teacher.count), dtype=np.int64)
        entropy = np.zeros(shape, dtype=np.float32)
        for i in np.unique(source).tolist():
            mine = np.flatnonzero(source == i)
            teacher = self._data.sources[i].teacher
            assert teacher is not None, "of all sources or of none"
            index, place = _own_tokens(self._data.sources[i], row[mine], mine)
            samples.reshape(-1, teacher.count)[place] = teacher.tokens[index]
            entropy.reshape(-1)[place] = teacher.entropy[index]
        return {"teacher_samples": samples, "teacher_entropy": entropy}

    def _answers(self, source: Int64, row: Int64) -> dict[str, NDArray[Any]]:
        """Of the answers in rows of sources (two int64[b]); empty where no source holds any."""
        sources = self._data.sources
        if not any(one.documents.are_answers for one in sources):
            return {}
        at, tokens, reference, labels = [], [], [], [np.empty(0, np.bool_)]
        for i in np.unique(source).tolist():
            if sources[i].documents.are_answers:
                mine, packing = np.flatnonzero(source == i), sources[i].packing
                pieces = packing.pieces_of(row[mine])
                documents = packing.piece_document[pieces]
                at.append(np.repeat(mine, sources[i].row_answers[row[mine]]))
                tokens.append(sources[i].piece_targets[pieces])
                logps, good = sources[i].reference, sources[i].documents.labels
                reference.append(np.zeros(0) if logps is None else logps[documents])
                labels.append(np.zeros(0, np.bool_) if good is None else good[documents])
        order = np.argsort(np.concatenate([np.empty(0, np.int64), *at]), kind="stable")
        answers: dict[str, NDArray[Any]] = {
            "answer_tokens": np.concatenate([np.empty(0, np.int64), *tokens])[order],
            "holds_answers": np.array([one.documents.are_answers for one in sources])[source],
            "tokens_an_example": np.array(self._data.tokens_an_example, dtype=np.float32),
        }
        if any(one.documents.labels is not None for one in sources):
            answers["answer_labels"] = np.concatenate(labels)[order]
        if any(one.reference is not None for one in sources):
            answers["answer_reference"] = np.concatenate([np.empty(0), *reference])[order].astype(np.float32)
            assert np.isfinite(answers["answer_reference"]).all(), "prepared for these rows"
        return answers

    def __getitem__(self, position: int) -> Batch:
        """One row, each tensor int64[L]; of its answers as they are."""
        batch = self.__getitems__([position])
        shape = (1, self._data.context_length)
        return {name: rows[0] if rows.shape[:2] == shape else rows for name, rows in batch.items()}


def batch_of(source: PackedSource, row: Int64) -> Batch:
    """Rows of one source (int64[b]): input_ids, position_ids and labels, see `PackedRows`."""
    shape = len(row), source.packing.context_length
    input_ids, labels = np.zeros(shape, dtype=np.int64), np.full(shape, IGNORED, dtype=np.int64)
    position_ids = np.empty(shape, dtype=np.int64)
    _fill(source, row, np.arange(len(row), dtype=np.int64), input_ids, position_ids, labels)
    arrays = {"input_ids": input_ids, "position_ids": position_ids, "labels": labels}
    return {name: torch.from_numpy(rows) for name, rows in arrays.items()}


def _own_tokens(source: PackedSource, row: Int64, at: Int64) -> tuple[Int64, Int64]:
    """The tokens of a source's rows (int64[r]), and where they go in the rows `at` (int64[r]) of a batch: two int64[tokens]."""
    first, length = _pieces(source, row)
    own = spans(0, length + source.packing.prompt) >= source.packing.prompt
    return spans(first, length), _places(source, row, at)[own]


def _pieces(source: PackedSource, row: Int64) -> tuple[Int64, Int64]:
    """Where the pieces in a source's rows (int64[r]) begin among its tokens, and the tokens of each: two int64[p]."""
    pieces = source.packing.pieces_of(row)
    return source.packing.first_tokens(source.documents.offsets, pieces), source.packing.piece_length[pieces]


def _places(source: PackedSource, row: Int64, at: Int64) -> Int64:
    """Where the positions of a source's rows (int64[r]) that are no padding go in the rows `at` (int64[r]) of a batch: int64[positions]."""
    return spans(at * source.packing.context_length, source.packing.row_positions[row])


def _fill(source: PackedSource, row: Int64, at: Int64, input_ids: Int64, position_ids: Int64, labels: Int64) -> None:
    """Write a source's rows (int64[r]) into the rows `at` (int64[r]) of the batch's arrays, each int64[b, L]."""
    packing, documents = source.packing, source.documents
    first, length = _pieces(source, row)
    index, place = spans(first, length), _places(source, row, at)
    tokens = documents.tokens[index].astype(np.int64)
    following = np.empty_like(tokens)
    following[:-1] = tokens[1:] if documents.trained is None else np.where(documents.trained[index[1:]], tokens[1:], IGNORED)
    following[np.cumsum(length) - 1] = IGNORED
    begins = packing.piece_start[packing.pieces_of(row)] if packing.shares_prompts else 0
    position = spans(begins, length + packing.prompt)
    if packing.prompt:
        own = position >= packing.prompt
        tokens, following = _at(own, tokens, prompt_ids(position)), _at(own, following, np.full_like(position, IGNORED))
    position_ids[at] = _padding_positions(packing, row)
    for array, values in ((input_ids, tokens), (position_ids, position), (labels, following)):
        array.reshape(-1)[place] = values


def _at(places: NDArray[np.bool_], values: Int64, elsewhere: Int64) -> Int64:
    elsewhere[places] = values
    return elsewhere


def _padding_positions(packing: Packing, row: Int64) -> Int64:
    """Position ids as they are in the padding of each row: int64[r, L], to be overwritten where there are tokens."""
    positions = np.broadcast_to(np.arange(packing.context_length, dtype=np.int64), (len(row), packing.context_length))
    return positions if packing.name == "padded" else positions - packing.row_positions[row, None]


class StepSampler(Sampler[list[int]]):
    """Positions of the micro-batches of one rank: in order, those of step `start_step` first.

    A step takes the next positions, as many as its batch has rows. They are cut into accumulation * world_size micro-batches of one size;
    the m-th of every rank come one after the other, so that the rows of a step are the same however it is divided.
    """

    def __init__(
        self, batch_size: BatchSize, *, accumulation: int, start_step: int, stop_step: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self._rows_before = batch_size.rows_before(stop_step)
        self._accumulation = accumulation
        self._steps = range(start_step, stop_step)
        self._rank, self._world_size = rank, world_size

    def __len__(self) -> int:
        return len(self._steps) * self._accumulation

    def __iter__(self) -> Iterator[list[int]]:
        parts = self._accumulation * self._world_size
        for step in self._steps:
            first, end = int(self._rows_before[step]), int(self._rows_before[step + 1])
            micro, rest = divmod(end - first, parts)
            assert rest == 0, "checked with the configuration"
            for part in range(self._rank, parts, self._world_size):
                yield list(range(first + part * micro, first + (part + 1) * micro))


def build_loader(
    data: TrainingData,
    batch_size: BatchSize,
    *,
    accumulation: int,
    start_step: int,
    stop_step: int,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
) -> DataLoader[Batch]:
    """Micro-batches of the steps start_step … stop_step - 1 for one rank. Rows are made so fast that no worker process is needed."""
    sampler = StepSampler(
        batch_size, accumulation=accumulation, start_step=start_step, stop_step=stop_step, rank=rank, world_size=world_size
    )
    # Copies from pinned memory do not wait for queued kernels.
    pinned = torch.cuda.is_available()
    return DataLoader(PackedRows(data), batch_sampler=sampler, collate_fn=_as_is, num_workers=workers, pin_memory=pinned)


def _as_is(batch: Any) -> Any:
    """`PackedRows.__getitems__` has collated already."""
    return batch
