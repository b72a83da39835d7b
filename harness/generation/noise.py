"""Randomness as a function of what it is for: a row, a position of its text and a token. So no text depends on what is computed beside it.

All of it is splitmix64 of a counter: the finalizer of a generator that passes BigCrush (doi 10.1145/2660193.2660195). 64-bit integers are
held as int64, whose multiplication and addition wrap around, on a CPU as on a GPU.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import torch
from torch import Tensor

GOLDEN_RATIO = 0x9E3779B97F4A7C15
"""Splitmix64's step: consecutive counters lie far apart."""
CACHED_NUMBERS = 2**16
"""At a time on a CPU: with many, most of the time goes into memory for what lies between."""

MOST_AHEAD = 16
"""Positions: a text may end at any."""


def row_key(seed: int, id: str, draw: int) -> int:
    """What all noise of one text depends on, in [0, 2^64)."""
    return int.from_bytes(hashlib.blake2b(json.dumps([seed, id, draw]).encode(), digest_size=8).digest(), "little")


def as_int64(keys: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
    """Integers of [0, 2^64) as the int64 of the same bits."""
    return torch.tensor([_signed(key) for key in keys], dtype=torch.int64, device=device)


def counted(keys: Tensor, counters: Tensor) -> Tensor:
    """64 random bits for each (key, counter): int64 of their common shape."""
    return _mix(counters * _signed(GOLDEN_RATIO) + mixed(keys))


def to_uniform(bits: Tensor) -> Tensor:
    """Of 64 random bits (int64) a number in [0, 1), float64."""
    return _shifted(bits, 11).double().mul_(2.0**-53)


def uniform(keys: Tensor, positions: Tensor, stream: int) -> Tensor:
    """float64 in [0, 1) for each row: what a sampler draws for itself at this position.

    Args: keys, positions int64 [B]; stream: 1, 2, …, one for each use, so that none sees what another draws (0 is `gumbel`'s).
    """
    return to_uniform(counted(_stream(keys, stream), positions))


def gumbel(keys: Tensor, positions: Tensor, tokens: Tensor) -> Tensor:
    """Gumbel noise, float32: argmax(logits + noise) is a draw from softmax(logits).

    Args: int64 tensors that broadcast. All of a vocabulary: keys [B, 1], positions [B, 1], tokens arange(V); some pairs of rows and tokens:
    [N] each. A pair's value is the same either way.
    """
    # -log(-log(1 - u)), since the small values of u, which give the large ones of the noise, are the fine ones: 1 - u is exact, and its
    # logarithm a half of log1p's time. Logarithms may differ from device to device, but in digits of float64 that float32 does not have.
    u = to_uniform(counted(counted(_stream(keys, 0), positions), tokens)).clamp_(min=2.0**-53)
    return u.neg_().add_(1).log_().neg_().log_().float().neg_()


class NoiseAhead:
    """`gumbel`'s noise of rows that are written on, of several positions at a time: of one position of a few rows, most of the time goes
    into the calls."""

    def __init__(self) -> None:
        self._keys: list[int] = []
        self._firsts: list[int] = []
        self._noise_PBV = torch.empty(0)

    def add(self, logits_BV: Tensor, keys: Sequence[int], positions: Sequence[int]) -> Tensor:
        """As `noisy`, to the bit."""
        rows, vocabulary = logits_BV.shape
        count = min(MOST_AHEAD, CACHED_NUMBERS // (rows * vocabulary))
        if count < 2:
            return noisy(logits_BV, as_int64(keys, logits_BV.device), torch.tensor(positions, device=logits_BV.device))
        steps = {position - first for position, first in zip(positions, self._firsts, strict=False)}
        if list(keys) != self._keys or len(steps) != 1 or not 0 <= min(steps) < len(self._noise_PBV):
            self._keys, self._firsts, steps = list(keys), list(positions), {0}
            self._noise_PBV = self._made(count, vocabulary, logits_BV.device)
        return logits_BV + self._noise_PBV[steps.pop()]

    def _made(self, count: int, vocabulary: int, device: torch.device) -> Tensor:
        ahead_P11 = torch.arange(count, device=device)[:, None, None]
        positions_PB1 = torch.tensor(self._firsts, device=device)[:, None] + ahead_P11
        return gumbel(as_int64(self._keys, device)[:, None], positions_PB1, torch.arange(vocabulary, device=device))


def noisy(logits_BV: Tensor, keys_B: Tensor, positions_B: Tensor) -> Tensor:
    """Logits with `gumbel`'s noise of their row and token, [B, V]; the highest is a draw from softmax(logits).

    Noise is made only for tokens that are not removed, where they are few.
    """
    finite = logits_BV > -torch.inf
    if 4 * int(finite.sum()) > finite.numel():
        return _noisy_all(logits_BV, keys_B[:, None], positions_B[:, None])
    rows, tokens = finite.nonzero(as_tuple=True)
    found = torch.full_like(logits_BV, -torch.inf)
    found[rows, tokens] = logits_BV[rows, tokens] + gumbel(keys_B[rows], positions_B[rows], tokens)
    return found


def _noisy_all(logits_BV: Tensor, keys_B1: Tensor, positions_B1: Tensor) -> Tensor:
    """With noise for every token, so many at a time as a CPU's cache holds."""
    vocabulary = logits_BV.shape[1]
    width = max(1, CACHED_NUMBERS // len(logits_BV)) if logits_BV.device.type == "cpu" else vocabulary
    found = torch.empty_like(logits_BV)
    for first in range(0, vocabulary, width):
        part = slice(first, first + width)
        tokens = torch.arange(first, min(vocabulary, first + width), device=logits_BV.device)
        torch.add(logits_BV[:, part], gumbel(keys_B1, positions_B1, tokens), out=found[:, part])
    return found


def mixed(z: Tensor) -> Tensor:
    """Splitmix64's finalizer of int64."""
    return _mix(z.clone())


def _mix(z: Tensor) -> Tensor:
    """The same in place: of a whole vocabulary, memory that is touched for the first time costs more than what is computed."""
    shifted = torch.empty_like(z)
    z.bitwise_xor_(_shifted(z, 30, out=shifted)).mul_(_signed(0xBF58476D1CE4E5B9))
    z.bitwise_xor_(_shifted(z, 27, out=shifted)).mul_(_signed(0x94D049BB133111EB))
    return z.bitwise_xor_(_shifted(z, 31, out=shifted))


def _stream(keys: Tensor, stream: int) -> Tensor:
    # Not 0 for key 0 of stream 0: the finalizer leaves 0 as it is.
    return keys ^ _signed((stream + 1) * GOLDEN_RATIO % 2**64)


def _shifted(z: Tensor, bits: int, out: Tensor | None = None) -> Tensor:
    """Shifted to the right, with zeros coming in."""
    return torch.bitwise_right_shift(z, bits, out=out).bitwise_and_((1 << (64 - bits)) - 1)


def _signed(unsigned: int) -> int:
    return unsigned - 2**64 if unsigned >= 2**63 else unsigned
