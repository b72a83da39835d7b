"""Constraints of a study, {metric: {max: …} or {min: …} or both}, and how far values break them."""

from __future__ import annotations

from collections.abc import Mapping

Bound = Mapping[str, float]
"""{max: …} or {min: …} or both; with chance, how likely a confirmed winner has to meet it with a fresh seed (`harness.runs.chances`)."""


def margins(constraints: Mapping[str, Bound], metrics: Mapping[str, float]) -> dict[str, float]:
    """By limit ("val/general/forgetting <= 0.3"), how far it is broken; <= 0 where it holds. Raises KeyError where a metric is missing."""
    found: dict[str, float] = {}
    for metric, bound in constraints.items():
        if "max" in bound:
            found[f"{metric} <= {bound['max']}"] = metrics[metric] - bound["max"]
        if "min" in bound:
            found[f"{metric} >= {bound['min']}"] = bound["min"] - metrics[metric]
    return found


def limits_of(bound: Bound) -> dict[str, float]:
    """Its max and min alone."""
    return {side: limit for side, limit in bound.items() if side != "chance"}


def holds(bound: Bound, value: float) -> bool:
    """Whether a value lies within the bound of its metric."""
    return all(margin <= 0 for margin in margins({"": bound}, {"": value}).values())


def broken(constraints: Mapping[str, Bound], metrics: Mapping[str, float]) -> list[str]:
    """Every limit that the metrics break, in words: "val/general/forgetting 0.2826 > 0.25"; a metric that is missing breaks none."""
    known = {metric: bound for metric, bound in constraints.items() if metric in metrics}
    return [
        f"{metric} {metrics[metric]:.4g} {sign} {bound[side]:g}"
        for metric, bound in known.items()
        for side, sign in (("max", ">"), ("min", "<"))
        if side in bound and not holds({side: bound[side]}, metrics[metric])
    ]


def broken_limit(bound: Bound, value: float) -> str | None:
    """The limit that a value breaks, as a sweep has it ("max 0.3"); None where it breaks none."""
    if "max" in bound and value > bound["max"]:
        return f"max {bound['max']}"
    return f"min {bound['min']}" if "min" in bound and value < bound["min"] else None
