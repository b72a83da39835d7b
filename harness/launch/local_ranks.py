"""The other ranks of a run on this machine: forked by rank 0, and gone with it."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from harness.runs.processes import die_with_parent
from harness.runs.signals import STOP_SIGNALS, signal_name
from harness.runs.world import World

LOOPBACK = "127.0.0.1"
STUCK_SECONDS = 30.0
"""How long after the death of a rank rank 0 may need to notice by itself, before it is ended."""
LEAVE_SECONDS = 10.0
"""How long the others may need to leave after rank 0 is done."""
log = logging.getLogger("harness")

Follow = Callable[[World], None]
"""What a rank other than 0 does: returns at its end, raises for whatever keeps it from it."""


class LocalRanks:
    """Ranks 1 … size - 1, each a fork of this process.

    A fork starts in milliseconds and shares what is imported; so it must come before any thread and before the GPU is touched.
    """

    def __init__(self, size: int, follow: Follow, *, on_stuck: Callable[[str], None]) -> None:
        """on_stuck: called with the reason, from another thread, when a rank died and rank 0 does not notice: to write it down.

        The process ends after that.
        """
        # Bound before the forks and listened on by rank 0 alone: nobody else can take the port in between.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.bind((LOOPBACK, 0))
        listener.listen(size)
        self.listener = listener
        self.world = World(size=size, address=LOOPBACK, port=listener.getsockname()[1])
        self._on_stuck = on_stuck
        self._over = threading.Event()
        self._seen = threading.Event()
        self._failure: str | None = None
        context = multiprocessing.get_context("fork")
        self._ranks: dict[int, tuple[BaseProcess, Connection]] = {}
        for rank in range(1, size):
            here, there = context.Pipe(duplex=False)
            world = World(rank=rank, local_rank=rank, size=size, address=LOOPBACK, port=self.world.port)
            process = context.Process(target=_rank, args=(follow, world, there, listener), name=f"rank-{rank}")
            process.start()
            there.close()
            self._ranks[rank] = process, here
        threading.Thread(target=self._watch, name="watch-ranks", daemon=True).start()

    def failure(self, *, wait_seconds: float = 0.0) -> str | None:
        """Why a rank ended before its time, if one did; whoever met a broken connection waits a moment for the reason."""
        self._seen.wait(wait_seconds)
        return self._failure

    def end(self) -> None:
        """Let the ranks leave, which they do by themselves if all went well; kill those that do not."""
        self._over.set()
        if self._failure is None:
            for process, _ in self._ranks.values():
                process.join(LEAVE_SECONDS)
        self._kill()

    def _watch(self) -> None:
        alive = dict(self._ranks)
        while alive and not self._over.is_set():
            ended = wait([process.sentinel for process, _ in alive.values()], timeout=0.5)
            for rank, (process, pipe) in list(alive.items()):
                if process.sentinel in ended:
                    del alive[rank]
                    process.join()
                    if process.exitcode and not self._over.is_set():
                        self._failure = f"rank {rank} {_end_of(process, pipe)}"
                        self._seen.set()
                        return self._see_to_the_end(self._failure)
        return None

    def _see_to_the_end(self, reason: str) -> None:
        if self._over.wait(STUCK_SECONDS):
            return
        log.error("%s; rank 0 does not get out of waiting for it, and is ended", reason)
        self._on_stuck(reason)
        self._kill()
        os._exit(1)

    def _kill(self) -> None:
        for process, _ in self._ranks.values():
            if process.is_alive():
                process.kill()
        for process, _ in self._ranks.values():
            process.join()


def _end_of(process: BaseProcess, pipe: Connection) -> str:
    """How a rank ended, in its own words if it had any."""
    with contextlib.suppress(EOFError):  # it had none: killed
        return f"failed: {pipe.recv()}"
    assert process.exitcode is not None
    if process.exitcode < 0:
        return f"was killed by {signal_name(-process.exitcode)}"
    return f"ended with exit code {process.exitcode}"


def _rank(follow: Follow, world: World, pipe: Connection, listener: socket.socket) -> None:
    listener.close()
    die_with_parent()
    # Ctrl-C reaches every process of a terminal; whether to stop is rank 0's to say.
    for number in (*STOP_SIGNALS, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    try:
        follow(world)
    except BaseException as error:  # whatever it is, rank 0 must hear of it
        log.debug("rank %d", world.rank, exc_info=error)
        pipe.send(f"{type(error).__name__}: {error}")
        raise SystemExit(1) from None
