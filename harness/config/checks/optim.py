"""What the optimizer needs. Looks for libraries without importing them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from harness.config.schema import Config


def optim_problems(config: Config) -> Iterator[str]:
    optim = config.optim
    if optim.name != "adamw" and find_spec("pytorch_optimizer") is None:
        yield f"optim.name={optim.name}: needs pytorch_optimizer, which is not installed: pip install 'harness[optimizers]'"
    if optim.name == "schedule_free":
        if config.schedule.name != "constant":
            yield (
                f"schedule.name={config.schedule.name}: optim.name=schedule_free averages the weights instead of decaying the rate; "
                "valid: schedule=constant (its warm-up is kept)"
            )
        if optim.ema_decay is not None:
            yield f"optim.ema_decay={optim.ema_decay}: optim.name=schedule_free has an average of its own; valid: optim.ema_decay=null"
        if optim.betas[0] == 0:
            yield f"optim.betas={list(optim.betas)}: the first must be > 0 for optim.name=schedule_free"
    if optim.name == "adamw" and optim.implementation == "fused" and config.trainer.precision == "16-mixed":
        yield (
            "optim.implementation=fused: would hide from clipping that gradients are scaled under trainer.precision=16-mixed; "
            "valid: foreach, single"
        )
