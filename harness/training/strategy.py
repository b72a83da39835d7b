"""How the ranks of a run divide its work: Lightning's strategies, over ranks that are there already."""

from __future__ import annotations

import os
from typing import Any, Literal

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch.distributed.tensor import DTensor, distribute_tensor

from harness.config.schema import TrainerConfig
from harness.training import ranks


def build_strategy(trainer: TrainerConfig) -> Strategy | Literal["auto"]:
    """The strategy of a run; "auto" where it has one rank."""
    if ranks.size() == 1:
        return "auto"
    # Else Lightning would choose the number of threads as well.
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    environment = ConnectedRanks(trainer.devices)
    if trainer.strategy == "fsdp2":
        return FullySharded(environment)
    return DDPStrategy(cluster_environment=environment)


class ConnectedRanks(ClusterEnvironment):
    """Ranks that have met before Lightning comes: it starts none, and asks neither torchrun nor Slurm about them."""

    def __init__(self, devices: int) -> None:
        super().__init__()
        self._devices = devices

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        raise AssertionError("the ranks are connected already")

    @property
    def main_port(self) -> int:
        raise AssertionError("the ranks are connected already")

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return ranks.size()

    def set_world_size(self, size: int) -> None:
        assert size == ranks.size()

    def global_rank(self) -> int:
        return ranks.rank()

    def set_global_rank(self, rank: int) -> None:
        assert rank == ranks.rank()

    def local_rank(self) -> int:
        return ranks.rank() % self._devices

    def node_rank(self) -> int:
        return ranks.rank() // self._devices


class FullySharded(ModelParallelStrategy):
    """Weights, gradients and the optimizer's state spread over all ranks (FSDP2); the module shards itself in `configure_model`.

    Checkpoints are those of any other strategy, one file with whole tensors: saved on so many ranks, resumed on as many others.
    """

    def __init__(self, environment: ClusterEnvironment) -> None:
        super().__init__(data_parallel_size=ranks.size(), tensor_parallel_size=1, save_distributed_checkpoint=False)
        self.cluster_environment = environment

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        assert self.lightning_module is not None
        return self.lightning_module.state_dict()

    def optimizer_state(self, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        state: dict[str, Any] = optimizer.state_dict()
        return state

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        whole = _whole(checkpoint)
        if self.is_global_zero:
            self.checkpoint_io.save_checkpoint(whole, filepath, storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        document: dict[str, Any] = torch.load(checkpoint_path, map_location="cpu", mmap=True, weights_only=True)
        return document

    def load_model_state_dict(self, checkpoint: Any, strict: bool = True) -> None:
        assert self.lightning_module is not None
        own = self.lightning_module.state_dict()
        state = {name: _spread_like(own.get(name), tensor) for name, tensor in checkpoint["state_dict"].items()}
        self.lightning_module.load_state_dict(state, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:
        for optimizer, stored in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            # torch numbers parameters through the groups.
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            state = {
                number: {name: _spread_like(parameters[number], value) for name, value in values.items()}
                for number, values in stored["state"].items()
            }
            optimizer.load_state_dict({**stored, "state": state})


def _whole(value: Any) -> Any:
    """Nested containers with the parts of each tensor put together, on the CPU: on rank 0, though all take part."""
    match value:
        case DTensor():
            whole = value.full_tensor()
            return whole.cpu() if ranks.is_main() else None
        case torch.Tensor():
            return value
        case dict():
            return {key: _whole(item) for key, item in value.items()}
        case list():
            return [_whole(item) for item in value]
        case tuple():
            return tuple(_whole(item) for item in value)
        case _:
            return value


def _spread_like(parameter: Any, value: Any) -> Any:
    """This rank's part of a whole tensor that belongs to a parameter and has its shape; anything else as it is."""
    if not isinstance(parameter, DTensor) or not isinstance(value, torch.Tensor) or value.shape != parameter.shape:
        return value
    # Every rank has read all of it: nothing is sent.
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None)
