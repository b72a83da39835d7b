"""Random masks as a function of (seed, ingredient, tensor, index): no ingredient's mask depends on the others, nor on how rows are read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NUMBERS_IN_A_STEP = 8
"""Numbers of 32 bits in one step of Philox's counter."""


@dataclass(frozen=True)
class Noise:
    """Philox4x64 (doi 10.1145/2063384.2063405), whose counter can be set: NumPy promises the stream of a bit generator."""

    seed: int

    def uniform(self, ingredient: str, tensor: str, start: int, count: int) -> npt.NDArray[np.float64]:
        """Numbers in [0, 1), float64 [count], of the elements from index `start` on."""
        words = json.dumps([self.seed, ingredient, tensor]).encode()
        key = np.frombuffer(hashlib.blake2b(words, digest_size=16).digest(), dtype="<u8")
        generator = np.random.Philox(key=key)
        first = start // NUMBERS_IN_A_STEP
        generator.advance(first)
        skipped = start - first * NUMBERS_IN_A_STEP
        raw = generator.random_raw((skipped + count + 1) // 2).astype("<u8").view("<u4")
        return raw[skipped : skipped + count] * 2.0**-32
