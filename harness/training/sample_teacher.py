"""Samples of a teacher, drawn once and cached: tokens from its distribution at every trained position."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from harness.config.schema import Config
from harness.data.cache_entry import open_and_fill
from harness.data.ragged import Int64
from harness.data.teacher_samples import SampleFiles, TeacherSamples, create_samples, fingerprint, open_samples, undrawn, windows
from harness.data.tokenization import Progress
from harness.data.training_data import PackedSource, TrainingData
from harness.generation.noise import counted, to_uniform
from harness.models.device import computes_on_gpu
from harness.models.pretrained import pretrained_fingerprint
from harness.models.teacher import distilled_ids, load_teacher
from harness.runs.cache import default_cache_dir
from harness.training.predictions import predict

CHUNK_POSITIONS = 1024
"""Positions whose distribution is held at once in float64, where trained tokens are not limited otherwise."""


def teacher_fingerprint(config: Config) -> str:
    """A hash of the teacher's weights, see `pretrained_fingerprint`."""
    assert config.objective.teacher is not None, "checked: a distillation has a teacher"
    return pretrained_fingerprint(config.objective.teacher, key="objective.teacher")


def with_teacher_samples(
    config: Config, data: TrainingData, tokenizer: Any, progress: Progress | None = None, *, rows: int | None = None
) -> TrainingData:
    """The data with objective.teacher_samples tokens at each position of its first `rows` rows: from the cache, or drawn now.

    rows: None, of all rows of its sources. Raises InputError for a teacher that cannot be used, see `load_teacher`.
    """
    weights, vocabulary = teacher_fingerprint(config), distilled_ids(config, tokenizer)

    @cache
    def teacher() -> PreTrainedModel:
        model: torch.nn.Module = load_teacher(config)
        return cast("PreTrainedModel", model.to("cuda" if computes_on_gpu(config.trainer) else "cpu"))

    needed = data.rows_until(rows)
    samples = {}
    for source in data.sources:
        report = None if progress is None else partial(progress, f"objective.teacher for data.sources.{source.name}")
        samples[source.name] = _samples(config, source, needed[source.name], weights, teacher, vocabulary, report)
    return data.with_teacher(samples)


def _samples(
    config: Config,
    source: PackedSource,
    rows: Int64,
    weights: str,
    teacher: Callable[[], PreTrainedModel],
    vocabulary: int,
    progress: Callable[[int, int], None] | None,
) -> TeacherSamples:
    """A source's entry of the cache, with everything in it that `rows` (int64[r]) of the source need."""
    samples, temperature = config.objective.teacher_samples, config.objective.temperature
    assert samples is not None, "asked for"
    name = fingerprint(source, teacher=weights, vocabulary=vocabulary, samples=samples, temperature=temperature, seed=config.seed)
    entry = default_cache_dir(config.data.cache_dir) / "teacher" / name

    def fill(found: TeacherSamples, pieces: Int64) -> None:
        positions = undrawn(source, rows, found)[1]
        _draw_pieces(config, source, pieces, positions, SampleFiles(found), teacher(), vocabulary, progress)

    return open_and_fill(
        entry,
        open_samples,
        partial(create_samples, tokens=len(source.documents.tokens), samples=samples, vocabulary=vocabulary),
        lambda found: undrawn(source, rows, found)[0],
        fill,
    )


def _draw_pieces(
    config: Config,
    source: PackedSource,
    pieces: Int64,
    positions: int,
    files: SampleFiles,
    model: PreTrainedModel,
    vocabulary: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Let the teacher read the pieces (int64[p]), in which so many positions are not drawn yet, and write what it says."""
    samples, temperature, seed = config.objective.teacher_samples, config.objective.temperature, config.seed
    assert samples is not None, "asked for"
    in_chunks = config.trainer.loss_chunk_tokens is not None
    chunk = config.trainer.loss_chunk_tokens or CHUNK_POSITIONS
    row_bytes, done = files.row_bytes, 0
    for window in windows(source, pieces, config.trainer.evaluation_batch_tokens):
        input_ids = torch.from_numpy(window.input_ids).to(model.device)
        # Padding is on the right, where causal attention does not look.
        position_ids = torch.arange(input_ids.shape[1], device=model.device).expand_as(input_ids)
        batch = {"input_ids": input_ids, "position_ids": position_ids}
        with torch.no_grad():
            predicted = predict(model, batch, torch.from_numpy(window.predicted).to(model.device), in_chunks=in_chunks)
            for part, at in zip(torch.split(predicted.rows, chunk), torch.split(torch.from_numpy(window.at), chunk), strict=True):
                offsets = torch.from_numpy(uniform_offsets(at.numpy(), seed)).to(part.device)
                drawn, entropy = draw(predicted.to_logits(part)[:, :vocabulary] / temperature, offsets, samples)
                files.write(at.numpy(), drawn.cpu().numpy(), entropy.cpu().numpy())
        done += len(window.at)
        if progress is not None:
            progress(done * row_bytes, positions * row_bytes)
    files.mark()


def draw(logits_NV: Tensor, offsets_N: Tensor, samples: int) -> tuple[Tensor, Tensor]:
    """Tokens drawn from softmax(logits) by systematic sampling, and the entropy of that distribution in nats.

    The points (offset + i) / samples, i = 0, 1, …, are mapped through the inverse of the cumulative distribution. With an offset that is
    uniform in [0, 1), a token of probability p is drawn samples * p times on average, so that counts / samples is without bias, like with
    independent draws (arXiv 2503.16870), but it is never off by more than one draw.

    Args: logits [N, V]; offsets float64 [N]. Returns (int64 [N, samples], float64 [N]).
    """
    log_p = logits_NV.double().log_softmax(dim=-1)
    p = log_p.exp()
    cumulative = p.cumsum(dim=-1)
    points = (offsets_N[:, None] + torch.arange(samples, device=offsets_N.device)) / samples
    # Rounding may leave the last value beside 1.
    drawn = torch.searchsorted(cumulative, points * cumulative[:, -1:], right=True).clamp(max=logits_NV.shape[1] - 1)
    return drawn, torch.special.entr(p).sum(dim=-1)


def uniform_offsets(at: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Uniform in [0, 1), a function of (position, seed) alone, so that samples do not depend on batches: float64[n] for int64[n]."""
    return to_uniform(counted(torch.tensor(seed), torch.from_numpy(at))).numpy()
