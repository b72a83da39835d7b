"""Items that another thread makes: their order, their errors, and that the thread ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from harness.merging.ahead import DEPTH, ahead


def test_items_come_in_their_order_and_only_a_few_ahead() -> None:
    made: list[int] = []

    def make() -> Iterator[int]:
        for number in range(20):
            made.append(number)
            yield number

    items = ahead(make())
    assert next(items) == 0
    time.sleep(0.2)
    assert len(made) <= 1 + DEPTH + 1, "one is used, some wait, one waits for room"
    assert list(items) == list(range(1, 20))


def test_an_error_is_raised_where_its_item_would_have_come() -> None:
    def make() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    items = ahead(make())
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)


def test_whoever_stops_early_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    items = ahead(iter(range(1000)))
    assert next(items) == 0
    items.close()
    assert threading.active_count() == before


def test_numpys_warnings_are_as_they_are_here() -> None:
    with np.errstate(all="raise"):
        items = ahead(np.float32(1) / np.zeros(1, np.float32) for _ in range(1))
        with pytest.raises(FloatingPointError):
            next(items)
    with np.errstate(all="ignore"):
        (value,) = ahead(np.float32(1) / np.zeros(1, np.float32) for _ in range(1))
    assert np.isinf(value).all()
