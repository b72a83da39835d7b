"""The runs that no other one beats: in several objectives, or in the objective and what is under constraint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def front(points: Sequence[tuple[T, tuple[float, ...]]]) -> list[T]:
    """Of (item, costs), lower being better, the items that no other one beats in one cost without losing in another, by their first cost.

    Items with equal costs do not beat each other. Time: number of points × size of the front.
    """
    found: list[tuple[T, tuple[float, ...]]] = []
    # Whatever beats a point comes before it in this order, or is beaten itself by something that does.
    for item, costs in sorted(points, key=lambda point: point[1]):
        if not any(other != costs and all(a <= b for a, b in zip(other, costs, strict=True)) for _, other in found):
            found.append((item, costs))
    return [item for item, _ in found]
