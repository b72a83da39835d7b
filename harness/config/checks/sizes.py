"""Values that no machine can hold. They would be met by a library that dies of them, or not at all."""

from __future__ import annotations

from collections.abc import Iterator

from harness.config.nested import flat
from harness.config.schema import Config
from harness.config.validate import to_plain

MOST_STEPS = 1_000_000_000
"""A run's plan has a row for each."""
MOST_PARAMETERS = 10**13
LARGEST = {
    "trainer.threads": 4096,
    "trainer.devices": 1024,
    "trainer.nodes": 100_000,
    "trainer.max_steps": MOST_STEPS,
    "trainer.batch_tokens": 10**10,
    "trainer.batch_pairs": 10**9,
    "trainer.initial_batch_tokens": 10**10,
    "trainer.micro_batch_size": 10**7,
    "trainer.evaluation_batch_tokens": 10**10,
    "trainer.loss_chunk_tokens": 10**10,
    "data.context_length": 10**8,
    "model.layers": 10_000,
    "model.hidden_size": 10**6,
    "model.intermediate_size": 10**7,
    "model.heads": 10**5,
    "model.kv_heads": 10**5,
    "model.max_context": 10**9,
    "adapter.rank": 10**6,
    "adapter.tokens": 10**6,
}
"""Far beyond what anybody has."""
LARGEST_INTEGER = 2**53
"""Of all others: numbers beyond are no longer counted one by one."""


def size_problems(config: Config) -> Iterator[str]:
    """One line for each value that is larger than any machine holds."""
    for key, value in flat(to_plain(config)):
        largest = LARGEST.get(key, LARGEST_INTEGER)
        if isinstance(value, int) and abs(value) > largest:
            yield f"{key}={value}: more than any machine holds; valid: at most {largest}"
    trainer, model = config.trainer, config.model
    if trainer.max_tokens is not None and trainer.max_tokens // trainer.batch_tokens > MOST_STEPS:
        steps = f"{MOST_STEPS:,} steps of trainer.batch_tokens={trainer.batch_tokens} tokens"
        yield f"trainer.max_tokens={trainer.max_tokens}: more than {steps}"
    inner = model.intermediate_size or 8 * model.hidden_size // 3
    parameters = model.layers * model.hidden_size * (4 * model.hidden_size + 3 * inner)
    if model.frame is None and parameters > MOST_PARAMETERS:
        yield (
            f"model.hidden_size={model.hidden_size}: with model.layers={model.layers} a model of {parameters:.1e} parameters, more than "
            f"any machine holds; valid: at most {MOST_PARAMETERS:.0e}"
        )
