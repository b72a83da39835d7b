"""Whether contrast pairs agree on a direction: said before any trial is spent on it, and logged of each run that steers by
them and trains nothing."""

from __future__ import annotations

from collections.abc import Iterator

from harness.config.schema import AdapterConfig
from harness.config.steering_controls import AGREEMENT, OPPOSED
from harness.models.adapters.steering import Directions, Steering
from harness.models.steering.extraction import READINGS, Extraction

EXPLAINED = "agreement: mean cosine of the pairs' differences to their mean; opposed: share of pairs that point against the others"


def diagnosis(found: Extraction) -> Iterator[str]:
    """What the extraction says of the pairs, a line a reading, and one that explains it."""
    for reading in READINGS:
        agreement = " ".join(f"{value:.2f}" for value in found.agreement[reading].tolist())
        opposed = " ".join(f"{value:.0%}" for value in found.opposed[reading].tolist())
        yield f"adapter.pairs: {found.pairs} pairs, adapter.reading={reading}: by block agreement {agreement}; opposed {opposed}"
    yield f"({EXPLAINED})"


def agreement_metrics(adapter: AdapterConfig, directions: Directions | None, steering: Steering | None) -> dict[str, float]:
    """How far the pairs agree at the block that is steered most; {} of a run that steers by none: a control, a random direction."""
    if directions is None or steering is None or not directions.agreement:
        return {}
    if adapter.control is not None or adapter.method == "random":
        return {}
    block = max(steering.coefficients, key=lambda block: abs(steering.coefficients[block]))
    return {AGREEMENT: directions.agreement[block], OPPOSED: directions.opposed[block]}
