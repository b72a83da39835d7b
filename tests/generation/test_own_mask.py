"""Steps of rows of several lengths, whose mask the model is given as its layers want it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.generation.decode import CachedBatch, Reader
from harness.generation.probe import way_of_writing
from tests.models.test_isolation import ISOLATED, RESCUED, build

TAKES = {family: ISOLATED.get(family) or RESCUED[family] for family in (*ISOLATED, "falcon", "opt") if family not in ("mistral", "gemma2")}
WINDOW: dict[str, Any] = {"sliding_window": 12}
SLIDES = {
    "mistral": ISOLATED["mistral"] | WINDOW,
    "mistral, of layers that are said to see all": ISOLATED["mistral"] | WINDOW | {"layer_types": ["full_attention"] * 2},
    "gemma2": ISOLATED["gemma2"] | WINDOW,
    "phi3": ISOLATED["phi3"] | WINDOW,
    "qwen3": ISOLATED["qwen3"] | WINDOW | {"use_sliding_window": True, "max_window_layers": 1},
    "gpt_oss": RESCUED["gpt_oss"] | WINDOW,
}
OTHERS = {"mpt": RESCUED["mpt"], "falcon": RESCUED["falcon"] | {"alibi": True}}
"""They count from where a text begins, which a mask of four dimensions does not tell them."""
LENGTHS = (5, 9, 17)
STEPS = 12


def written(reader: Reader, *, own_mask: bool) -> tuple[Tensor, Tensor]:
    """The logits of steps [S, B, V], and those of each row alone."""
    generator = torch.Generator().manual_seed(1)
    texts = [torch.randint(3, 64, (length + STEPS,), generator=generator).tolist() for length in LENGTHS]
    batch = CachedBatch(reader, own_mask=own_mask)
    batch.replace([], [text[:length] for text, length in zip(texts, LENGTHS, strict=True)], range(len(texts)))
    steps, alone = [], []
    for step in range(STEPS):
        steps.append(batch.step([text[length + step] for text, length in zip(texts, LENGTHS, strict=True)]))
        alone += [reader.alone(text[: length + step + 1], length) for text, length in zip(texts, LENGTHS, strict=True)]
    return torch.stack(steps), torch.cat(alone).view(STEPS, len(texts), -1)


@pytest.mark.parametrize("family", TAKES)
@torch.no_grad()
def test_logits_are_those_of_the_mask_that_the_model_makes(family: str) -> None:
    reader = Reader(build(family, TAKES[family]).eval())
    assert way_of_writing(reader) == "own_mask"
    found, alone = written(reader, own_mask=True)
    assert torch.equal(found, written(reader, own_mask=False)[0])
    torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("family", "shape"), [*SLIDES.items(), *OTHERS.items()], ids=[*SLIDES, *OTHERS])
@torch.no_grad()
def test_models_that_want_another_one_make_it(family: str, shape: dict[str, Any]) -> None:
    """Windows are shorter than the texts here, and longer than those of the probe, which would not see them."""
    reader = Reader(build(family.partition(",")[0], shape).eval())
    assert way_of_writing(reader) == "batches"
    found, alone = written(reader, own_mask=False)
    torch.testing.assert_close(found, alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_model_that_is_not_read_by_torchs_attention_makes_it() -> None:
    assert way_of_writing(Reader(build("llama", ISOLATED["llama"], attention="eager").eval())) == "batches"
