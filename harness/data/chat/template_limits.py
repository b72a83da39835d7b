"""Limits on what a chat template may take: it is a program, and may be a stranger's, that comes with a tokenizer."""

from __future__ import annotations

import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

SECONDS = 10
"""Of CPU time, for a conversation; it takes about a millisecond."""
MEMORY_BYTES = 1 << 30
"""On top of what the process has."""
MOST_SOURCE_BYTES = 1_000_000
MOST_CHARACTERS = 100_000_000
MOST_BITS = 10_000
"""Of a power: it is computed in one go, which no signal interrupts."""


class TemplateLimitError(Exception):
    """The template takes too much."""


class LimitedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, without powers that take hours."""

    intercepted_binops = frozenset(["**"])

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > MOST_BITS:
            raise SecurityError(f"a power of more than {MOST_BITS:,} bits")
        return super().call_binop(context, operator, left, right)


@contextmanager
def limits() -> Iterator[None]:
    """Limit time and memory of the block. Raises TemplateLimitError and MemoryError.

    Time is limited in the main thread alone, where Python delivers signals.
    """
    with _limited_memory(), _limited_time():
        yield


@contextmanager
def _limited_time() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGVTALRM, _too_long)
    # Again each second, should a template's own tests for errors swallow the first.
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TemplateLimitError(f"it takes more than {SECONDS} s")


@contextmanager
def _limited_memory() -> Iterator[None]:
    try:
        mapped = int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
    except FileNotFoundError:  # not Linux, where address space is no measure of memory
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = mapped + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (wanted if soft == resource.RLIM_INFINITY else min(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
