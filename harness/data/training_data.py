"""The training data of a run: packed sources, the order of their rows, and counts of tokens."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from harness.config.errors import InputError, wrong_value
from harness.data.order import DataOrder, Float64, Regime, row_rates
from harness.data.packing import Packing
from harness.data.ragged import Int64, offsets_of, spans
from harness.data.teacher_samples import TeacherSamples
from harness.data.token_cache import TokenizedDocuments
from harness.schedule.batch_size import BatchSize


@dataclass(frozen=True, eq=False)
class PackedSource:
    """A source as rows."""

    name: str
    documents: TokenizedDocuments
    """All documents, those held out for validation included; only `packing` says which are used."""
    packing: Packing
    used: Int64
    """int64[n]: the documents that are trained on, before any is dropped for its length."""
    share: float
    """Share in the tokens of the sources of its kind: replayed, or not."""
    replay: bool
    """Whether it is text of the model's base domain."""
    fingerprint: str
    """Hex digest of the used documents and of how they are packed."""
    teacher: TeacherSamples | None = None
    """A teacher's samples at the positions in `packing`, for distillation from samples."""
    reference: Float64 | None = None
    """float64[n]: log-probability of the trained tokens of each document under a reference, of those in the rows that are asked for; NaN of
    others."""
    mismatched_reference: Float64 | None = None
    """The same of answers after prompts that are not theirs, by the document of the prompt, see `partners`."""

    @cached_property
    def row_targets(self) -> Int64:
        """Trained predictions in each row: the tokens that the loss is on, except the first of every piece: int64[rows]."""
        return np.diff(offsets_of(self.piece_targets)[self.packing.row_offsets])

    @cached_property
    def piece_targets(self) -> Int64:
        """The same in each piece: int64[p]."""
        packing, trained = self.packing, self.documents.trained
        if trained is None:
            return packing.piece_length - 1
        upto = offsets_of(trained)
        first = packing.first_tokens(self.documents.offsets)
        targets: Int64 = upto[first + packing.piece_length] - upto[first + 1]
        return targets

    @cached_property
    def row_answers(self) -> Int64:
        """Answers in each row, none of other documents: int64[rows]."""
        pieces = np.diff(self.packing.row_offsets)
        return pieces if self.documents.are_answers else np.zeros_like(pieces)

    @cached_property
    def row_examples(self) -> Int64:
        """Pairs of answers in each row, or answers that stand alone with their labels: int64[rows]."""
        return self.row_answers // 2 if self.documents.are_pairs else self.row_answers

    @cached_property
    def row_read(self) -> Int64:
        """Tokens that training reads for each row: those in it; of answers with labels, also each prompt with the answer of its partner:
        int64[rows]. Raises InputError as `partners` does."""
        packing = self.packing
        if self.documents.labels is None:
            return packing.row_tokens
        before, follows = self.mismatched_lengths(packing.piece_document)
        read: Int64 = packing.row_tokens + np.diff(offsets_of(before + follows)[packing.row_offsets])
        return read

    def mismatched_lengths(self, documents: Int64) -> tuple[Int64, Int64]:
        """Tokens of the prompts of these documents (int64[d], of its rows), and of the answer of each one's partner, cut where a row would
        end: two int64[d]. Raises InputError as `partners` does."""
        own, partners = self.documents, self.partners[documents]
        assert (partners >= 0).all(), "documents of its rows"
        before = own.answer_starts[documents] - own.offsets[documents]
        answers = own.offsets[partners + 1] - own.answer_starts[partners]
        return before, np.minimum(answers, self.packing.context_length - self.packing.prompt - before)

    @cached_property
    def partners(self) -> Int64:
        """Of the documents in the rows, each of which is an answer: those whose answers may stand after its prompt though they answer
        another one; -1 of documents that are in no row: int64[n]. Raises InputError where one prompt has more than half of the answers."""
        found = np.full(self.documents.documents, -1, dtype=np.int64)
        inside = np.unique(self.packing.piece_document)
        inside = inside[np.argsort(self.documents.hashes[inside], kind="stable")]
        _, answers = np.unique(self.documents.hashes[inside], return_counts=True)
        most = int(answers.max())
        if 2 * most > len(inside):
            raise InputError(
                f"data.sources.{self.name}: {most} of its {len(inside)} answers are to one prompt; objective.kind=kto reads each prompt "
                "with the answer to another one; valid: at least half of the answers to other prompts"
            )
        # Answers to one prompt lie together: as many on, there is another one.
        found[inside] = np.roll(inside, -most)
        return found


@dataclass(frozen=True)
class Statistics:
    """Counts of one epoch of a source, or of all."""

    tokens: int
    """Real tokens in the rows."""
    rows: int
    efficiency: float
    """Real tokens per position of the rows."""
    tokens_kept: float
    """Share of the documents' tokens that is in the rows."""
    trained_tokens: int
    """Predictions that the loss is on: tokens in the rows but the first of every piece, of conversations those that data.loss_on trains."""
    documents: int
    """Those that are not held out; of pairs each answer after its prompt is one."""
    documents_cut: int
    """Documents that were split over pieces, truncated or dropped."""
    pairs: int
    """Pairs of answers in the rows."""
    bytes: int
    """UTF-8 bytes of the documents' text, of conversations of their trained text."""
    share: float
    """Share of the training tokens, of those of the first step where it changes."""


class TrainingData:
    """Rows by their position in the run: 0, 1, 2, … without end, since sources start over when they are used up."""

    def __init__(self, sources: Sequence[PackedSource], seed: int, replay_shares: Sequence[tuple[int, float]]) -> None:
        """Args: sources, at least one, each with at least one row; replay_shares, from which position on which share of the tokens is
        drawn from the sources marked replay, the first from 0."""
        self.sources = tuple(sources)
        self.seed = seed
        self.replay_shares = tuple(replay_shares)
        self.context_length = sources[0].packing.context_length
        self._mean_tokens = np.array([source.packing.tokens / source.packing.rows for source in sources])
        self.order = DataOrder(
            seed=seed,
            names=[source.name for source in sources],
            rows=[source.packing.rows for source in sources],
            regimes=[Regime(start, row_rates(self.token_shares(share), self._mean_tokens)) for start, share in replay_shares],
        )
        self._first_row = offsets_of(np.array(self.order.source_rows, dtype=np.int64))[:-1]

    def token_shares(self, replay_share: float) -> Float64:
        """Share of each source in the training tokens while this share of them is replayed: float64[K]."""
        return np.array([source.share * (replay_share if source.replay else 1 - replay_share) for source in self.sources])

    @property
    def largest_id(self) -> int:
        """The largest token id of its sources."""
        return max(source.documents.largest_id for source in self.sources)

    def replaying(self, shares: Sequence[tuple[int, float]]) -> TrainingData:
        """The same sources, with other shares of replay from some positions on."""
        return TrainingData(self.sources, self.seed, shares)

    def with_teacher(self, samples: Mapping[str, TeacherSamples]) -> TrainingData:
        """The same data, with a teacher's samples of each source, by name."""
        sources = [replace(source, teacher=samples[source.name]) for source in self.sources]
        return TrainingData(sources, self.seed, self.replay_shares)

    def with_reference(self, logps: Mapping[str, Float64], mismatched: Mapping[str, Float64] | None = None) -> TrainingData:
        """The same data, with the log-probabilities of their documents under a reference, by source, where there are any; mismatched: see
        PackedSource.mismatched_reference."""
        further = mismatched or {}
        sources = [
            replace(source, reference=logps.get(source.name), mismatched_reference=further.get(source.name)) for source in self.sources
        ]
        return TrainingData(sources, self.seed, self.replay_shares)

    @property
    def fingerprint(self) -> str:
        """Hex digest of the drawn sources and their shares; with the seed, it fixes the data of every position."""
        drawn = self.token_shares(max(share for _, share in self.replay_shares)) > 0
        parts = zip(self.sources, self._shares.tolist(), drawn.tolist(), strict=True)
        recipe: list[object] = [[source.name, source.fingerprint, share] for source, share, is_drawn in parts if is_drawn]
        if len(self.replay_shares) > 1:
            recipe.append(self.replay_shares)
        return hashlib.sha256(json.dumps(recipe).encode()).hexdigest()

    def row_tokens(self, start: int, stop: int) -> Int64:
        """Tokens read for the rows at positions start … stop - 1, see PackedSource.row_read: int64[stop - start]."""
        return self._all_tokens[self._rows_at(start, stop)]

    def targets_of(self, batch_size: BatchSize, steps: int) -> Int64:
        """Trained predictions in each of the first `steps` steps, see PackedSource.row_targets: int64[steps]."""
        return self._by_step([source.row_targets for source in self.sources], batch_size, steps)

    def answers_of(self, batch_size: BatchSize, steps: int) -> Int64:
        """Answers in each of the first `steps` steps: int64[steps]."""
        return self._by_step([source.row_answers for source in self.sources], batch_size, steps)

    def examples_of(self, batch_size: BatchSize, steps: int) -> Float64:
        """Pairs of answers, or answers with labels, in each of the first `steps` steps: float64[steps]. Predictions of other documents,
        trained beside them, count as 1 / `tokens_an_example`."""
        examples = self._by_step([source.row_examples for source in self.sources], batch_size, steps)
        others = [source.row_targets * (not source.documents.are_answers) for source in self.sources]
        counted: Float64 = examples + self._by_step(others, batch_size, steps) / self.tokens_an_example
        return counted

    @property
    def examples_a_row(self) -> float:
        """Pairs of answers, or answers with labels, in a row at the beginning, on average over the mixture."""
        return float(self.order.regimes[0].rates @ np.array([source.row_examples.mean() for source in self.sources]))

    @cached_property
    def tokens_an_example(self) -> float:
        """Trained predictions of a pair of answers, or of an answer with a label, on average."""
        sources = [source for source in self.sources if source.documents.are_answers]
        return sum(int(source.row_targets.sum()) for source in sources) / sum(int(source.row_examples.sum()) for source in sources)

    def _by_step(self, of_rows: Sequence[Int64], batch_size: BatchSize, steps: int) -> Int64:
        """The sums over the rows of each step of what each source has for its rows: int64[steps]."""
        before = batch_size.rows_before(steps)
        sums: Int64 = np.add.reduceat(np.concatenate(of_rows)[self._rows_at(0, int(before[-1]))], before[:-1])
        return sums

    def tokens_after(self, batch_size: BatchSize, steps: int) -> Int64:
        """Tokens read after each of the first `steps` steps, see PackedSource.row_read: int64[steps]."""
        before = batch_size.rows_before(steps)
        return np.cumsum(np.add.reduceat(self.row_tokens(0, int(before[-1])), before[:-1]))

    def steps_for(self, max_tokens: int, batch_size: BatchSize) -> tuple[int, Int64]:
        """The most whole steps that together read at most `max_tokens`; and the tokens after each, int64[steps].

        Raises InputError if not even one step fits.
        """
        mean_row_tokens = float(self.order.regimes[0].rates @ self._mean_tokens)
        looked_at = int(max_tokens / (mean_row_tokens * batch_size.full)) + 1
        after = self.tokens_after(batch_size, looked_at)
        while after[-1] <= max_tokens:
            looked_at += looked_at // 8 + 1
            after = self.tokens_after(batch_size, looked_at)
        steps = int(np.searchsorted(after, max_tokens, side="right"))
        if steps == 0:
            raise wrong_value("trainer.max_tokens", max_tokens, f"less than one step; the first one has {after[0]} tokens in its rows")
        return steps, after[:steps]

    def epochs(self, batch_size: BatchSize, steps: int) -> float:
        """How often the first `steps` steps go through a source, that of the most; sources marked replay do not count."""
        epochs = self.order.epochs(int(batch_size.rows_before(steps)[-1]))
        return max(epochs[source.name] for source in self.sources if not source.replay)

    def steps_within(self, max_epochs: float, batch_size: BatchSize) -> int:
        """The most whole steps that go through no source more than `max_epochs` times, see `epochs`.

        Raises InputError if not even one step fits.
        """
        if self.epochs(batch_size, 1) > max_epochs:
            problem = f"less than one step, which goes {self.epochs(batch_size, 1):.2f} times through a source (trainer.batch_tokens)"
            raise wrong_value("trainer.max_epochs", f"{max_epochs:g}", problem)
        beyond = 2
        while self.epochs(batch_size, beyond) <= max_epochs:
            beyond *= 2
        return bisect_right(range(1, beyond), max_epochs, key=lambda steps: self.epochs(batch_size, steps))

    def documents_at(self, start: int, stop: int) -> dict[str, Int64]:
        """The documents of which there is a piece at positions start … stop - 1, by source: numbers from 0 in the order of its files,
        sorted, int64[n]."""
        source, row = self.order.rows(start, stop)
        found = {}
        for i in np.unique(source).tolist():
            packing = self.sources[i].packing
            rows = row[source == i]
            first, last = packing.row_offsets[rows], packing.row_offsets[rows + 1]
            found[self.sources[i].name] = np.unique(packing.piece_document[spans(first, last - first)])
        return found

    def rows_until(self, stop: int | None) -> dict[str, Int64]:
        """The rows of each source at positions 0 … stop - 1, None: all rows; by source, sorted, int64[n]."""
        if stop is None:
            return {source.name: np.arange(source.packing.rows, dtype=np.int64) for source in self.sources}
        source, row = self.order.rows(0, stop)
        return {one.name: np.unique(row[source == i]) for i, one in enumerate(self.sources)}

    def statistics(self) -> dict[str, Statistics]:
        """Each source's, by name."""
        return {source.name: _statistics([source], float(share)) for source, share in zip(self.sources, self._shares, strict=True)}

    def total(self) -> Statistics:
        """All sources together, one epoch of each."""
        return _statistics(self.sources, 1.0)

    @property
    def _shares(self) -> Float64:
        return self.token_shares(self.replay_shares[0][1])

    def _rows_at(self, start: int, stop: int) -> Int64:
        """Positions as rows of all sources one after the other: int64[stop - start]."""
        source, row = self.order.rows(start, stop)
        return self._first_row[source] + row

    @cached_property
    def _all_tokens(self) -> Int64:
        return np.concatenate([source.row_read for source in self.sources])


def _statistics(sources: Sequence[PackedSource], share: float) -> Statistics:
    packings = [source.packing for source in sources]
    tokens, rows = sum(packing.tokens for packing in packings), sum(packing.rows for packing in packings)
    return Statistics(
        tokens=tokens,
        rows=rows,
        efficiency=tokens / (rows * packings[0].context_length),
        tokens_kept=tokens / sum(packing.tokens_given for packing in packings),
        trained_tokens=sum(int(source.row_targets.sum()) for source in sources),
        documents=sum(len(source.used) for source in sources),
        documents_cut=sum(packing.documents_cut for packing in packings),
        pairs=sum(int(source.row_examples.sum()) for source in sources if source.documents.are_pairs),
        bytes=sum(int(source.documents.bytes[source.used].sum()) for source in sources),
        share=share,
    )
