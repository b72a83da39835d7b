"""What the samplers of tokens must agree on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.config.active_samplers import OFF, active_samplers, switches
from harness.config.schema import SamplerName, SamplingConfig

CHOOSE: tuple[SamplerName, ...] = ("mirostat", "adaptive_p")
"""They choose by what they learn from what is chosen: nothing may come between."""

DRAW: tuple[SamplerName, ...] = ("xtc", *CHOOSE)


def sampling_problems(sampling: SamplingConfig, key: str = "sampling") -> Iterator[str]:
    """key: where the section stands in the configuration."""

    def given(values: dict[str, Any]) -> str:
        return " ".join(f"{key}.{name}={value}" for name, value in values.items())

    for name in sorted({name for name in sampling.order if sampling.order.count(name) > 1}):
        yield f"{key}.order: {name} stands there twice; valid: each sampler once"
    for name in OFF:
        if name not in sampling.order and (on := switches(sampling, name)):
            yield f"{given(on)}: {name} is not in {key}.order={sampling.order}; valid: an order that holds it"
    active = active_samplers(sampling)
    choosing = [name for name in active if name in CHOOSE]
    if len(choosing) > 1:
        yield f"{given(switches(sampling, 'mirostat'))}: not beside {given(switches(sampling, 'adaptive_p'))}; valid: one of them"
    elif choosing and active[-1] != choosing[0]:
        after = ", ".join(active[active.index(choosing[0]) + 1 :])
        yield f"{key}.order: {choosing[0]} chooses the token; valid: an order in which it follows {after}"
    if sampling.temperature == 0:
        for drawing in DRAW:
            if on := switches(sampling, drawing):
                yield f"{given(on)}: draws, and {key}.temperature=0 always takes the most likely token; valid: a temperature above 0"
    elif sampling.name == "greedy":
        yield f"{key}.temperature={sampling.temperature}: greedy takes the most likely token; valid: 0, or sampling=temperature"
