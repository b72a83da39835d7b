"""A rank other than 0 of a worker whose trials train in several tasks of a Slurm step; it follows rank 0."""

from __future__ import annotations

from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

from harness.launch.rank_group import LEAVE_SECONDS, Line, join, orders
from harness.runs.exit_codes import DONE
from harness.runs.world import World
from harness.search.attempts import AttemptServer
from harness.work.attempt import follow_trial


def follow_worker(world: World, node: str, preload: list[str]) -> int:
    """Take part in one attempt after the other until rank 0 has left; returns the exit code.

    Signals to the step reach the attempts themselves. Raises RankGroupError when rank 0 does not connect.
    """
    line = join(world, node)
    server = AttemptServer(follow_trial, preload)
    part: BaseProcess | None = None
    try:
        for order in orders(line):
            if order is not None and "run" in order:
                _kill(part)  # rank 0 lost the attempt before without a message
                part = server.start(Path(order["run"]), replace(world, port=order["port"]))
            elif part is not None and (order is not None or not part.is_alive()):
                part.join(LEAVE_SECONDS)
                _end(part, line)
                part = None
    finally:
        _kill(part)
    return DONE


def _kill(part: BaseProcess | None) -> None:
    if part is not None:
        part.kill()
        part.join()


def _end(part: BaseProcess, line: Line) -> None:
    """Tell rank 0 how this rank's part in an attempt has ended; one that still runs is ended."""
    _kill(part)
    line.send({"ended": part.exitcode})
