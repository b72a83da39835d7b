"""What the ranks of a run tell each other: little, and all of it on the CPU. In a run of one rank it costs nothing.

Every function here is called by all ranks, in the same order.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from harness.config.errors import InputError
from harness.runs.world import World

T = TypeVar("T")
U = TypeVar("U")
MEETING_SECONDS = 300.0
"""How long ranks wait for each other when they start."""
TIMEOUT_SECONDS = 1800.0
"""How long a rank may keep the others waiting while all live: torch's own limit."""
EVALUATION_SECONDS = 7 * 24 * 3600.0
"""The same where they divide evaluations: one may write long texts while the others have ended. A rank that dies ends them all at once."""
_evaluating: dist.ProcessGroup | None = None
"""All ranks, with that patience."""


@contextmanager
def connected(world: World, *, accelerator: str, listener: socket.socket | None = None) -> Iterator[None]:
    """This process among its ranks, for as long as the block lasts: once in its life, since torch keeps much of a world.

    Nothing happens where it is alone, or connected already.
    accelerator: Lightning's word for where the run trains. listener: a socket that rank 0 listens on already.
    """
    if world.size == 1 or dist.is_initialized():
        yield
        return
    if _is_loopback(world.address):
        # All on this machine: nobody else needs to reach them, and its host name need not resolve.
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    gpu = accelerator == "gpu" or (accelerator == "auto" and torch.cuda.is_available())
    if gpu:
        torch.cuda.set_device(world.local_rank)
    dist.init_process_group(
        # Decisions go by the CPU, gradients by the devices they are on.
        "cpu:gloo,cuda:nccl" if gpu else "gloo",
        store=_store(world, listener),
        rank=world.rank,
        world_size=world.size,
        timeout=timedelta(seconds=TIMEOUT_SECONDS),
    )
    global _evaluating
    _evaluating = dist.new_group(backend="gloo", timeout=timedelta(seconds=EVALUATION_SECONDS))
    try:
        yield
    finally:
        _evaluating = None
        dist.destroy_process_group()


def _is_loopback(address: str) -> bool:
    try:
        return socket.gethostbyname(address).startswith("127.")
    except OSError:
        return False  # whoever connects to it will say so


def _store(world: World, listener: socket.socket | None) -> Store:
    # torchrun's agent has a store at this address already.
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    store = TCPStore(
        world.address,
        world.port,
        world_size=None,
        is_master=world.is_main and not agent,
        timeout=timedelta(seconds=MEETING_SECONDS),
        wait_for_workers=False,
        master_listen_fd=listener.detach() if listener is not None and world.is_main else None,
    )
    return PrefixStore(f"harness-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def is_main() -> bool:
    """Whether this rank writes the run's files."""
    return rank() == 0


def size() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def summed(value: float) -> float:
    """The sum of all ranks' values, the same bits on every rank."""
    if size() == 1:
        return value
    total = torch.tensor([value], dtype=torch.float64)
    dist.all_reduce(total)
    return float(total)


def anywhere(*flags: bool) -> tuple[bool, ...]:
    """Of each flag, whether it is set on any rank."""
    if size() == 1:
        return flags
    found = torch.tensor(flags, dtype=torch.uint8)
    dist.all_reduce(found, op=dist.ReduceOp.MAX)
    return tuple(map(bool, found.tolist()))


def gathered(value: T, group: dist.ProcessGroup | None = None) -> list[T]:
    """Every rank's value, in the order of ranks. They are pickled: plain containers, tensors on the CPU."""
    if size() == 1:
        return [value]
    values: list[Any] = [None] * size()
    dist.all_gather_object(values, value, group=group)
    return values


def from_main(make: Callable[[], T]) -> T:
    """What `make` gives on rank 0; the others do not call it."""
    if size() == 1:
        return make()
    values: list[Any] = [make() if is_main() else None]
    dist.broadcast_object_list(values)
    value: T = values[0]
    return value


def shared_out(items: Iterator[T], compute: Callable[[T], U]) -> Iterator[U]:
    """`compute` of every item, in their order: each rank computes its share, and all get all values (pickled, see `gathered`).

    The ranks compute equally often, some of them in vain where they do not divide the items: models whose weights are spread over the
    ranks need all of them for every forward pass. Bad input and numbers that are none are raised on all of them, wherever they are met.
    """
    while chunk := list(islice(items, size())):
        found = gathered(_tried(compute, chunk[min(rank(), len(chunk) - 1)]), _evaluating)
        yield from [_value(tried) for tried in found[: len(chunk)]]


Tried = tuple[T, None] | tuple[None, Exception]


def _tried(compute: Callable[[T], U], item: T) -> Tried[U]:
    try:
        return compute(item), None
    except (InputError, ArithmeticError) as error:
        if size() == 1:
            raise
        return None, error


def _value(tried: Tried[T]) -> T:
    value, error = tried
    if error is not None:
        raise error
    return value  # type: ignore[return-value]  # no error, so it is a T
