"""Which rank of how many this process is, as whatever started it says: torchrun, or Slurm's srun."""

from __future__ import annotations

import re
from collections.abc import Mapping

from harness.config.errors import InputError
from harness.runs.world import World

FIRST_PORT, PORTS = 20_000, 10_000
"""Ports for the ranks of Slurm jobs that were given none: below those that Linux hands out by itself."""


def world_of(environment: Mapping[str, str]) -> World:
    """The place among the ranks that the environment of a process gives it; alone where it says nothing.

    torchrun's RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT go first; else those of a Slurm step (srun; a batch script is no
    step), where rank 0 listens on the step's first node. Raises InputError where some of them are missing or no numbers.
    """
    try:
        if "RANK" in environment and "WORLD_SIZE" in environment:
            return World(
                rank=int(environment["RANK"]),
                local_rank=int(environment.get("LOCAL_RANK", "0")),
                size=int(environment["WORLD_SIZE"]),
                address=environment.get("MASTER_ADDR", "127.0.0.1"),
                port=int(environment["MASTER_PORT"]) if environment["WORLD_SIZE"] != "1" else 0,
            )
        if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
            job, step = int(environment["SLURM_JOB_ID"]), int(environment["SLURM_STEP_ID"])
            return World(
                rank=int(environment["SLURM_PROCID"]),
                local_rank=int(environment["SLURM_LOCALID"]),
                size=int(environment["SLURM_STEP_NUM_TASKS"]),
                address=environment.get("MASTER_ADDR") or first_node(environment["SLURM_STEP_NODELIST"]),
                port=int(environment.get("MASTER_PORT") or FIRST_PORT + (37 * job + step) % PORTS),
            )
    except (KeyError, ValueError) as error:
        missing = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"the environment names a rank of several, but not completely: {missing}; start it with torchrun or srun"
        ) from error
    return World()


def first_node(nodes: str) -> str:
    """The first of a Slurm list of nodes: "gpu[03-05,9],login" begins with gpu03."""
    match = re.match(r"([^\[,]+)(?:\[([^\],-]+))?", nodes)
    if match is None:
        raise ValueError(f"no list of nodes: {nodes!r}")
    return match[1] + (match[2] or "")
