"""Which rank a process is, by the variables of whoever started it."""

from __future__ import annotations

import pytest

from harness.config.errors import InputError
from harness.launch.environment import first_node, world_of
from harness.runs.world import World

TORCHRUN = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "gpu01", "MASTER_PORT": "29500"}
SRUN = {
    "SLURM_JOB_ID": "1234",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "gpu[03-04]",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}


def test_torchrun() -> None:
    assert world_of(TORCHRUN) == World(rank=3, local_rank=1, size=4, address="gpu01", port=29500)
    assert world_of({**SRUN, **TORCHRUN}).size == 4, "torchrun inside a Slurm step"


def test_srun() -> None:
    world = world_of(SRUN)
    assert (world.rank, world.local_rank, world.size, world.address) == (2, 0, 4, "gpu03")
    assert world.port == world_of({**SRUN, "SLURM_PROCID": "0"}).port
    assert world_of({**SRUN, "MASTER_PORT": "4000"}).port == 4000


def test_alone() -> None:
    assert world_of({}) == World()
    batch_script = {"SLURM_JOB_ID": "1234", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    assert world_of(batch_script) == World()


@pytest.mark.parametrize("missing", ["MASTER_PORT", "SLURM_LOCALID"])
def test_half_a_rank(missing: str) -> None:
    variables = TORCHRUN if missing in TORCHRUN else SRUN
    with pytest.raises(InputError, match=f"{missing} is missing"):
        world_of({name: value for name, value in variables.items() if name != missing})


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("gpu01", "gpu01"), ("gpu[03-05,9],login", "gpu03"), ("gpu[9,11]", "gpu9"), ("a,b", "a"), ("n-[1-2]", "n-1")],
)
def test_first_node(nodes: str, first: str) -> None:
    assert first_node(nodes) == first
