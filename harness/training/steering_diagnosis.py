"""Whether contrast pairs agree on a direction: said before any trial is spent on it."""

from __future__ import annotations

from collections.abc import Iterator

from harness.models.steering.extraction import READINGS, Extraction

EXPLAINED = "agreement: mean cosine of the pairs' differences to their mean; opposed: share of pairs that point against the others"


def diagnosis(found: Extraction) -> Iterator[str]:
    """What the extraction says of the pairs, a line a reading, and one that explains it."""
    for reading in READINGS:
        agreement = " ".join(f"{value:.2f}" for value in found.agreement[reading].tolist())
        opposed = " ".join(f"{value:.0%}" for value in found.opposed[reading].tolist())
        yield f"adapter.pairs: {found.pairs} pairs, adapter.reading={reading}: by block agreement {agreement}; opposed {opposed}"
    yield f"({EXPLAINED})"
