from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from harness.tracking.background import Background

Done = list[str]
Opening = Callable[[], AbstractContextManager[Done]]


def opening(done: Done) -> Opening:
    @contextmanager
    def opened() -> Iterator[Done]:
        done.append("open")
        yield done
        done.append("close")

    return opened


def nothing() -> None:
    raise AssertionError("nothing had to be forced")


def test_tasks_are_done_in_order_between_opening_and_closing() -> None:
    done: Done = []
    background = Background("It", opening(done), capacity=10)
    for name in "abc":
        background.offer(lambda done, name=name: done.append(name))
    background.close(5, force=nothing)
    assert done == ["open", "a", "b", "c", "close"]


def test_more_than_its_capacity_is_dropped_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    done: Done = []
    busy, go_on = threading.Event(), threading.Event()
    background = Background("It", opening(done), capacity=3)
    background.offer(lambda _: (busy.set(), go_on.wait()))
    busy.wait()
    taken = [background.offer(lambda done, index=index: done.append(str(index))) for index in range(10)]
    background.ensure(lambda done: done.append("last"))
    assert taken == [True] * 3 + [False] * 7
    go_on.set()
    background.close(5, force=nothing)
    assert done == ["open", "0", "1", "2", "last", "close"]
    assert caplog.messages == ["It cannot keep up: it gets no further rows while 3 are waiting"]


@pytest.mark.parametrize("failure", [ValueError("broken"), SystemExit("broken")])
def test_a_failure_is_said_once_and_never_raised(caplog: pytest.LogCaptureFixture, failure: BaseException) -> None:
    def fail(_: Done) -> None:
        raise failure

    done: Done = []
    background = Background("It", opening(done), capacity=10)
    background.offer(fail)
    background.offer(fail)
    background.ensure(fail)
    background.close(5, force=nothing)
    background.offer(fail)
    assert caplog.messages == [f"It is off for the rest of this attempt; training goes on. {type(failure).__name__}: broken"]
    assert caplog.records[0].levelno == logging.WARNING


def test_what_does_not_end_is_forced_to(caplog: pytest.LogCaptureFixture) -> None:
    stop = threading.Event()

    def hang(_: Done) -> None:
        stop.wait()
        raise ConnectionError("forced")

    background = Background("It", opening([]), capacity=10)
    background.offer(hang)
    started = time.monotonic()
    background.close(0.1, force=stop.set)
    assert time.monotonic() - started < 1
    assert caplog.messages == ["It is off for the rest of this attempt; training goes on. It did not finish within 0.1 s."]


def test_a_full_queue_takes_no_time() -> None:
    go_on = threading.Event()
    background = Background("It", opening([]), capacity=100)
    background.offer(lambda _: go_on.wait())
    started = time.perf_counter()
    for _ in range(10_000):
        background.offer(lambda _: None)
    assert time.perf_counter() - started < 1
    go_on.set()
    background.close(5, force=nothing)
