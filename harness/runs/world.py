"""The processes that train one run together, one a device: its ranks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class World:
    """This process's place among the ranks of a run; by default it is alone."""

    rank: int = 0
    """0 … size - 1. Rank 0 holds the run's lock and writes its files."""
    local_rank: int = 0
    """Its number on its machine: which of the machine's devices it trains on."""
    size: int = 1
    address: str = "127.0.0.1"
    """Where rank 0 listens."""
    port: int = 0
    """0: rank 0 has not begun to listen yet."""

    @property
    def is_main(self) -> bool:
        return self.rank == 0
