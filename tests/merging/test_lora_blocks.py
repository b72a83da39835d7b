"""A matrix with an update, read a few rows at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from harness.merging.lora import UpdatedTensor
from harness.merging.operands import ArrayRows, Floats
from harness.merging.source import LowRank


@dataclass(frozen=True)
class Counted(ArrayRows):
    """Rows that say how often they were read."""

    read_rows: list[int] = field(default_factory=list)

    def read(self, start: int, stop: int) -> Floats:
        self.read_rows.append(stop - start)
        return super().read(start, stop)


@pytest.mark.parametrize("transposed", [False, True])
def test_factors_are_read_once_for_all_blocks_and_not_kept(transposed: bool) -> None:
    random = np.random.default_rng(0)
    down, up = (Counted(random.normal(size=shape).astype(np.float32)) for shape in ((2, 4), (6, 2)))
    product = up.array @ down.array
    wanted = product.T if transposed else product
    base: Any = ArrayRows(np.zeros(wanted.shape, np.float32))
    update: Any = (down, up, 0.5, transposed)
    tensor = UpdatedTensor(base, LowRank(*update))
    for _ in range(2):
        blocks = [tensor.read(start, start + 1) for start in range(len(wanted))]
        np.testing.assert_allclose(np.concatenate(blocks), 0.5 * wanted, rtol=1e-6)
        assert not tensor._kept
    assert down.read_rows == [2, 2], "once in each pass"
    assert sum(up.read_rows) == 12
