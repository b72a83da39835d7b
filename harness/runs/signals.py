"""The signals that ask a process to save what it has and leave."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
"""SIGTERM: from `kill`, a preempting or cancelling Slurm, or a worker to its attempt. SIGUSR2: what Slurm is told to send before the time
limit (not SIGUSR1, which NCCL may take for itself). Both mean the same. SIGCONT, which Slurm sends beside SIGTERM, has no handler anywhere:
it does nothing to a process that is not stopped."""


@contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Stop signals wait until the block ends. Processes started inside begin with them held back, until they call `unblock_stop_signals`.

    Slurm signals every process of a step. What only serves others, such as a fork server, must not die of that, and what is just
    starting must not lose the signal.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock_stop_signals() -> None:
    """In a process that began with stop signals held back: from here on they arrive, also those that came before."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def signal_name(number: int) -> str:
    """SIGKILL for 9; "signal 35" for one without a name."""
    return next((known.name for known in signal.Signals if known == number), f"signal {number}")
