"""The names under which evaluations are logged: what a sweep may ask for, and what a run writes."""

from __future__ import annotations

from collections.abc import Iterator

from harness.config.schema import DataConfig

DOMAIN_METRICS = ("loss", "bits_per_byte", "forgetting")
CHOICE_METRICS = ("accuracy", "accuracy_per_byte", "answer_bits_per_byte")
HIGHER_IS_BETTER = ("accuracy", "accuracy_per_byte")
FIRST_BUCKET = 64
"""Positions in the first bucket of the loss by position; each further one doubles what the buckets hold together."""


def position_buckets(context_length: int) -> Iterator[tuple[str, int, int]]:
    """(name, start, stop) of the buckets of positions below `context_length`: tokens_0_63, tokens_64_127, tokens_128_255, …"""
    start, stop = 0, FIRST_BUCKET
    while start < context_length:
        yield f"tokens_{start}_{stop - 1}", start, min(stop, context_length)
        start, stop = stop, 2 * stop


def evaluation_metrics(data: DataConfig) -> list[str]:
    """Every metric that evaluations of this configuration log; of buckets of positions those that hold any token."""
    names = []
    for domain, validation in data.validation.items():
        buckets = position_buckets(data.context_length) if validation.loss_by_position else ()
        names += [f"val/{domain}/{name}" for name in DOMAIN_METRICS]
        names += [f"val/{domain}/loss/{name}" for name, _, _ in buckets]
    names += [f"val/{name}/{metric}" for name in data.multiple_choice for metric in CHOICE_METRICS]
    return names
