"""The tasks of one job step that train together: rank 0 says which run is trained next, all others train it with it.

One line of JSON a message, over a connection that each of the others keeps to rank 0 for as long as it lives: whoever dies is missed at
once, and who loses rank 0 leaves. Every attempt gets a world of its own, on a port of its own, in processes of its own.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from harness.runs.world import World

MEETING_SECONDS = 300.0
"""How long the tasks of a step may start after each other."""
RETRY_SECONDS = 0.5
BLAME_SECONDS = 2.0
"""How much later than rank 0's failure the others may report the end that caused it."""
LEAVE_SECONDS = 15.0
"""What the others are given to end an attempt after rank 0 has."""


class RankGroupError(Exception):
    """The tasks of a step do not find each other, or one is gone."""


class Line:
    """One connection, a message a line."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(None)
        self._connection = connection
        self._received = b""
        self.is_open = True

    def fileno(self) -> int:
        return self._connection.fileno()

    def send(self, message: dict[str, Any]) -> None:
        """Nothing happens where nobody listens any more: `receive` shows that."""
        with contextlib.suppress(OSError):
            self._connection.sendall(json.dumps(message).encode() + b"\n")

    def receive(self, *, wait_seconds: float) -> list[dict[str, Any]]:
        """What has arrived; afterwards `is_open` is false where the other end is gone."""
        if self.is_open and select.select([self._connection], [], [], wait_seconds)[0]:
            try:
                added = self._connection.recv(1 << 16)
            except OSError:
                added = b""
            self.is_open = bool(added)
            self._received += added
        *whole, self._received = self._received.split(b"\n")
        return [json.loads(line) for line in whole]

    def close(self) -> None:
        self.is_open = False
        self._connection.close()


@dataclass
class Member:
    """What rank 0 knows of another rank."""

    rank: int
    node: str
    line: Line
    exit_code: int | None = None
    """Of its part in the attempt under way, once that has ended."""

    def __str__(self) -> str:
        return f"rank {self.rank} on {self.node}"


@dataclass
class RankGroup:
    """Rank 0's side."""

    world: World
    members: list[Member] = field(default_factory=list)
    broken: str | None = None
    """Which rank is lost; no further attempt can start."""
    _is_under_way: bool = False

    @classmethod
    def gather(cls, world: World) -> RankGroup:
        """Wait for all others. Raises RankGroupError when some do not come."""
        group = cls(world)
        deadline = time.monotonic() + MEETING_SECONDS
        with socket.create_server(("", world.port), backlog=world.size) as server:
            while len(group.members) < world.size - 1:
                server.settimeout(max(0.1, deadline - time.monotonic()))
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    present = sorted(member.rank for member in group.members)
                    raise RankGroupError(
                        f"only ranks {[0, *present]} of {world.size} have started within {MEETING_SECONDS:.0f} s"
                    ) from None
                line = Line(connection)
                for hello in line.receive(wait_seconds=5.0):
                    group.members.append(Member(hello["rank"], hello["node"], line))
        return group

    @property
    def sentinels(self) -> list[int]:
        """For `multiprocessing.connection.wait`: ready when one has something to say, or is gone."""
        return [member.line.fileno() for member in self.members if member.line.is_open]

    def begin(self, run: str) -> tuple[World, socket.socket]:
        """Start an attempt on the run in this directory on all ranks: this process's world, and the socket that it listens on."""
        listener = socket.create_server(("", 0), backlog=self.world.size)
        port = int(listener.getsockname()[1])
        for member in self.members:
            member.exit_code = None
            member.line.send({"run": run, "port": port})
        self._is_under_way = True
        return replace(self.world, port=port), listener

    def lost(self) -> str | None:
        """Which rank was killed, is lost, or failed since the attempt began."""
        self._listen()
        # Who was killed comes first: the others may have failed for it.
        for member in sorted(self.members, key=lambda member: (member.exit_code or 0) >= 0):
            if member.exit_code:
                how = f"was killed by signal {-member.exit_code}" if member.exit_code < 0 else f"ended with exit code {member.exit_code}"
                return f"{member} {how}"
        return self.broken

    def is_to_blame(self) -> bool:
        """Whether another rank was killed or is gone: then rank 0 failed for that. One that merely failed may have followed rank 0.

        To be asked when rank 0 has failed: a broken connection may be noticed before it is told whose end it was.
        """
        deadline = time.monotonic() + BLAME_SECONDS
        while not self._has_fallen() and any(member.exit_code is None for member in self.members) and time.monotonic() < deadline:
            self._listen(wait_seconds=0.1)
        return self._has_fallen()

    def _has_fallen(self) -> bool:
        return self.broken is not None or any((member.exit_code or 0) < 0 for member in self.members)

    def exit_codes(self) -> set[int]:
        """Exit codes of the other ranks that have ended."""
        return {member.exit_code for member in self.members if member.exit_code is not None}

    def end(self) -> None:
        """The attempt is over: the others end their parts, or theirs are ended. Nothing happens where none is under way."""
        if not self._is_under_way:
            return
        self._is_under_way = False
        for member in self.members:
            member.line.send({"over": True})
        deadline = time.monotonic() + 2 * LEAVE_SECONDS
        while any(member.exit_code is None and member.line.is_open for member in self.members) and time.monotonic() < deadline:
            self._listen(wait_seconds=0.1)

    def close(self) -> None:
        """Let the others leave."""
        for member in self.members:
            member.line.close()

    def _listen(self, wait_seconds: float = 0.0) -> None:
        for member in self.members:
            for message in member.line.receive(wait_seconds=wait_seconds):
                member.exit_code = int(message["ended"])
            if not member.line.is_open and self.broken is None:
                self.broken = f"{member} is gone"


def join(world: World, node: str) -> Line:
    """Of another rank: its connection to rank 0. Raises RankGroupError when rank 0 does not come."""
    deadline = time.monotonic() + MEETING_SECONDS
    while True:
        try:
            line = Line(socket.create_connection((world.address, world.port), timeout=10.0))
        except OSError as error:
            if time.monotonic() > deadline:
                raise RankGroupError(f"rank {world.rank} does not reach rank 0 at {world.address}:{world.port}: {error}") from None
            time.sleep(RETRY_SECONDS)
            continue
        line.send({"rank": world.rank, "node": node})
        return line


def orders(line: Line) -> Iterator[dict[str, Any] | None]:
    """What rank 0 says, None in between so that the listener can look after what it has started; ends when rank 0 has left."""
    while line.is_open:
        messages = line.receive(wait_seconds=0.2)
        yield from messages
        if not messages:
            yield None
