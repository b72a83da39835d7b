"""Constraints of a study, {metric: {max: …} or {min: …} or both}, and how far values break them."""

from __future__ import annotations

from collections.abc import Mapping

Bound = Mapping[str, float]
"""{max: …} or {min: …} or both; with chance, how likely a confirmed winner has to meet it with a fresh seed (`harness.runs.chances`)."""


def margins_of(bound: Bound, value: float) -> dict[str, float]:
    """By side (max, min), how far the value breaks its limit; <= 0 where it holds."""
    found = {"max": value - bound["max"]} if "max" in bound else {}
    return found | ({"min": bound["min"] - value} if "min" in bound else {})


def margins(constraints: Mapping[str, Bound], metrics: Mapping[str, float]) -> dict[str, float]:
    """The same of all constraints, by limit ("val/general/forgetting <= 0.3"). Raises KeyError where a metric is missing."""
    return {
        f"{metric} {'<=' if side == 'max' else '>='} {bound[side]}": margin
        for metric, bound in constraints.items()
        for side, margin in margins_of(bound, metrics[metric]).items()
    }


def limits_of(bound: Bound) -> dict[str, float]:
    """Its max and min alone."""
    return {side: limit for side, limit in bound.items() if side != "chance"}


def holds(bound: Bound, value: float) -> bool:
    """Whether a value lies within the bound of its metric."""
    return all(margin <= 0 for margin in margins_of(bound, value).values())


def broken(constraints: Mapping[str, Bound], metrics: Mapping[str, float]) -> list[str]:
    """Every limit that the metrics break, in words: "val/general/forgetting 0.2826 > 0.25"; a metric that is missing breaks none."""
    return [
        f"{metric} {metrics[metric]:.4g} {'>' if side == 'max' else '<'} {bound[side]:g}"
        for metric, bound in constraints.items()
        if metric in metrics
        for side, margin in margins_of(bound, metrics[metric]).items()
        if not margin <= 0
    ]


def broken_limit(bound: Bound, value: float) -> str | None:
    """The limit that a value breaks, as a sweep has it ("max 0.3"); None where it breaks none."""
    return next((f"{side} {bound[side]}" for side, margin in margins_of(bound, value).items() if margin > 0), None)
